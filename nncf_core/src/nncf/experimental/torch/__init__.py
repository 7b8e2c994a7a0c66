"""Features for PyTorch that may change."""

from nncf.experimental.torch import sparsify_activations as sparsify_activations
