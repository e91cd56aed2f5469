"""One file an alert channel; nothing else in the package knows their names."""
