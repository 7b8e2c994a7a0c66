"""Pruning of single weights."""
