"""Figures of all algorithms of a config."""

from nncf_core.training.statistics import (
    NNCFStatistics,
)

__all__ = [
    "NNCFStatistics",
]
