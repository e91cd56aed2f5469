"""The way in: connections, and requests as far as their bytes go. What they ask for is the application's matter."""
