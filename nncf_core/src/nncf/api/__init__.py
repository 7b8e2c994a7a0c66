"""The API of compression algorithms."""
