"""Features that may change."""
