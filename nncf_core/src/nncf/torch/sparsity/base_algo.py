"""What controllers of the algorithms that make weights zero have in common."""

from nncf_core.training.sparsity import SparsityController as BaseSparsityAlgoController

__all__ = ["BaseSparsityAlgoController"]
