"""Two algorithms that work on every backend and know none."""
