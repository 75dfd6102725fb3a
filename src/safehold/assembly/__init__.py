"""Assembly: how records become a release of a dataset. Here: the delivery of a finished file."""
