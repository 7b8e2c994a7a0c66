"""Quantization-aware training: the algorithm ``quantization``."""
