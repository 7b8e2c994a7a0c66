"""Features that may change."""

from typing import TYPE_CHECKING

from nncf_core.lazy import lazy_module

if TYPE_CHECKING:
    from nncf.experimental import common as common
    from nncf.experimental import torch as torch

if not TYPE_CHECKING:
    # type checkers know the names above, and see slips
    __getattr__, __dir__ = lazy_module(__name__, submodules=("common", "torch"))
