"""How the share of weights pruned by magnitude grows."""

from nncf_core.training.pruning_schedulers import (
    ExponentialMagnitudePruningScheduler,
    MultiStepMagnitudePruningScheduler,
)

__all__ = [
    "ExponentialMagnitudePruningScheduler",
    "MultiStepMagnitudePruningScheduler",
]
