"""Settings, wiring and the entry point: the only reader of the environment, imported by no room."""
