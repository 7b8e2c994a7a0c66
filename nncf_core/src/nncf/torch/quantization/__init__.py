"""Quantization in a training."""
