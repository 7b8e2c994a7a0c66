"""How the share of weights pruned by trained masks grows."""

from nncf_core.training.pruning_schedulers import (
    ExponentialRBPruningScheduler,
    MultiStepRBPruningScheduler,
)

__all__ = [
    "ExponentialRBPruningScheduler",
    "MultiStepRBPruningScheduler",
]
