"""Compression that goes on while a model is trained: what algorithms, backends and training scripts agree on."""
