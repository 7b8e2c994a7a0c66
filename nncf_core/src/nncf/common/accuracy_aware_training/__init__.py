"""Training loops that know how much accuracy may be lost."""

from nncf_core.training.accuracy_aware import (
    create_accuracy_aware_training_loop,
)

__all__ = [
    "create_accuracy_aware_training_loop",
]
