"""Filter pruning: whole channels go, and the exported network is smaller."""
