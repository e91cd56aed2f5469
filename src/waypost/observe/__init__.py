"""Logs and numbers."""
