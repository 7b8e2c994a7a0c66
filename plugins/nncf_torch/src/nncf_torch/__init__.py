"""PyTorch backend for nncf-core."""
