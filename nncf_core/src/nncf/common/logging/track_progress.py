"""Progress of a loop."""

from nncf_core.progress import (
    track,
)

__all__ = [
    "track",
]
