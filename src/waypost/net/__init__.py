"""The way out: addresses that may be reached, names looked up, HTTP sent over libcurl."""
