"""Regularization-based sparsity as a plugin of nncf-core."""
