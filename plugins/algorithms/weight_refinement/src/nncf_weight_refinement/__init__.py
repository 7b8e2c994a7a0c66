"""Algorithms that improve codes and scales of compressed weights."""
