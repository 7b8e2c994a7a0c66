"""Controllers of compression, their losses, schedulers and stages."""

from nncf_core.training.control import (
    CompressionAlgorithmController,
    CompressionLoss,
    CompressionScheduler,
    CompressionStage,
)

__all__ = [
    "CompressionAlgorithmController",
    "CompressionLoss",
    "CompressionScheduler",
    "CompressionStage",
]
