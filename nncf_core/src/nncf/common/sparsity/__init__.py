"""What algorithms that make weights zero have in common."""
