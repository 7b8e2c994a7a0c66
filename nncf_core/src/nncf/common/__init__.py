"""What the backends have in common."""

from typing import TYPE_CHECKING

from nncf_core.lazy import lazy_module

if TYPE_CHECKING:
    from nncf.common import logging as logging
    from nncf.common import quantization as quantization

if not TYPE_CHECKING:
    # type checkers know the names above, and see slips
    __getattr__, __dir__ = lazy_module(__name__, submodules=("logging", "quantization"))
