"""Zeros by trained probabilities."""
