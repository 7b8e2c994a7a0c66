"""Ignored scopes."""

from nncf_core.scopes import (
    IgnoredScope,
    Subgraph,
)

__all__ = [
    "IgnoredScope",
    "Subgraph",
]
