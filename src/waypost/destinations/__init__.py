"""Event destinations, one file a type. Nothing else in the package knows their names."""
