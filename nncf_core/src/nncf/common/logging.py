"""The logger."""

from nncf_core.log import (
    nncf_logger,
)

__all__ = [
    "nncf_logger",
]
