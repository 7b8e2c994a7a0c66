"""NNCFConfig."""

from typing import TYPE_CHECKING

from nncf_core.config.nncf_config import (
    NNCFConfig,
)
from nncf_core.lazy import lazy_module

if TYPE_CHECKING:
    from nncf.config import structures as structures

__all__ = [
    "NNCFConfig",
]

if not TYPE_CHECKING:
    # type checkers know the names above, and see slips
    __getattr__, __dir__ = lazy_module(__name__, submodules=("structures",))
