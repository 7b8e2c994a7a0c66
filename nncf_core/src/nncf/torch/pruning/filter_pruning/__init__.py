"""Pruning of channels in a training."""
