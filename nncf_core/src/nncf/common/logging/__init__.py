"""The logger, and progress."""

from typing import TYPE_CHECKING

from nncf_core.lazy import lazy_module
from nncf_core.log import (
    nncf_logger,
)

if TYPE_CHECKING:
    from nncf.common.logging import logger as logger
    from nncf.common.logging import track_progress as track_progress

__all__ = [
    "nncf_logger",
]

if not TYPE_CHECKING:
    # type checkers know the names above, and see slips
    __getattr__, __dir__ = lazy_module(__name__, submodules=("logger", "track_progress"))
