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

__getattr__, __dir__ = lazy_module(__name__, submodules=("structures",))
