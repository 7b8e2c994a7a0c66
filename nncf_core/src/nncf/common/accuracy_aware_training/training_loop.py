"""Training loops that know how much accuracy may be lost."""

from nncf_core.training.accuracy_aware import (
    AdaptiveCompressionTrainingLoop,
    EarlyExitCompressionTrainingLoop,
    TrainingLoop,
)
from nncf_core.training.accuracy_limits import (
    TrainingLoopStatistics,
)

__all__ = [
    "AdaptiveCompressionTrainingLoop",
    "EarlyExitCompressionTrainingLoop",
    "TrainingLoop",
    "TrainingLoopStatistics",
]
