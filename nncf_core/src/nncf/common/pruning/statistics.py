"""Figures of filter pruning."""

from nncf_core.training.statistics import (
    FilterPruningStatistics,
)

__all__ = [
    "FilterPruningStatistics",
]
