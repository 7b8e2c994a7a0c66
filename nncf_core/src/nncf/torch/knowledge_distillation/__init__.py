"""Training towards the original's outputs."""
