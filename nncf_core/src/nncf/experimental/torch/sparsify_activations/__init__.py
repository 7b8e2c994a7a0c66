"""Sparse inputs of linear layers."""

from nncf_core.training.activation_sparsity import TargetScope, sparsify_activations

__all__ = ["TargetScope", "sparsify_activations"]
