"""Pruning by trained masks."""
