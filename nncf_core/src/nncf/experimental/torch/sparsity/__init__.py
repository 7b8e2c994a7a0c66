"""Features for sparse weights that may change."""
