"""Measures what Waypost does in a second and what an event costs. See README.md in this directory."""
