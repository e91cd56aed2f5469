"""The `waypost` command: the server, and what a developer does beside it on their own machine."""
