"""Zeros in weights in a training."""
