"""Pruning of single weights by a call."""

from nncf_core.training.pruning import (
    ModelPruningStatistic,
    TensorPruningStatistic,
    batch_norm_adaptation,
    prune,
    pruning_statistic,
)

__all__ = [
    "ModelPruningStatistic",
    "TensorPruningStatistic",
    "batch_norm_adaptation",
    "prune",
    "pruning_statistic",
]
