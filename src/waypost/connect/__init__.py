"""The seam between Waypost and the outside: what a destination type is, and where the types are found."""
