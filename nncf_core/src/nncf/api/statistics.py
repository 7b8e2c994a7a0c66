"""Figures of a compression."""

from nncf_core.training.statistics import (
    Statistics,
)

__all__ = [
    "Statistics",
]
