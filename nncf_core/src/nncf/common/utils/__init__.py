"""What NNCF's own modules shared, of which nothing is part of an interface."""
