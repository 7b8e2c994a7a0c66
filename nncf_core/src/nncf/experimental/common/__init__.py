"""What the backends have in common, and may change."""
