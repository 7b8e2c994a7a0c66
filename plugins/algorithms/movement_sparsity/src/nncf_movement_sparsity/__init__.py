"""Movement sparsity as a plugin of nncf-core."""
