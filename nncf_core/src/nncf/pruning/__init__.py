"""Pruning of single weights by a call."""

from nncf_core.training.pruning import (
    batch_norm_adaptation,
    prune,
    pruning_statistic,
)

__all__ = [
    "batch_norm_adaptation",
    "prune",
    "pruning_statistic",
]
