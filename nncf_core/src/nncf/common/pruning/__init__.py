"""What pruning has in common."""
