"""The logger, and how much of it is shown."""

from nncf_core.log import (
    disable_logging,
    nncf_logger,
    set_log_level,
)

__all__ = [
    "disable_logging",
    "nncf_logger",
    "set_log_level",
]
