"""The command line: a file a verb. It asks rooms and prints; it decides nothing."""
