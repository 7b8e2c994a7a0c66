"""The loss of trained masks."""

from nncf_core.training.pruning_schedulers import (
    RBLoss,
)

__all__ = [
    "RBLoss",
]
