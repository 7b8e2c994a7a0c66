"""Features for PyTorch that may change."""

from typing import TYPE_CHECKING

from nncf.experimental.torch import sparsify_activations as sparsify_activations
from nncf_core.lazy import lazy_module

if TYPE_CHECKING:
    from nncf.experimental.torch import fx as fx
    from nncf.experimental.torch import sparsity as sparsity

if not TYPE_CHECKING:
    # type checkers know the names above, and see slips
    __getattr__, __dir__ = lazy_module(__name__, submodules=("sparsity",), plugins=("fx",))
