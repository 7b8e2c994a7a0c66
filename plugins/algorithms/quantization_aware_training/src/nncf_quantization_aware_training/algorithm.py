"""Quantization-aware training: quantizers that post-training quantization places, trained with the model.

Ranges begin where post-training quantization ends, and are trained as in LSQ (Esser et al. 2020,
https://arxiv.org/abs/1902.08153) and LSQ+ (Bhalgat et al. 2020, https://arxiv.org/abs/2004.09576). Without a training
the section is post-training quantization.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

from nncf_core.contracts import Context
from nncf_core.graph import Graph
from nncf_core.statistics import Statistics, StatisticsRequest
from nncf_core.training.contracts import TrainedModel
from nncf_core.transformations import Transformation
from nncf_quantization_aware_training.controller import QuantizationController
from nncf_quantization_aware_training.parameters import TrainingSettings
from nncf_quantization_aware_training.schema import SCHEMA

NAMES = ("quantization", "experimental_quantization")
"""Both are the same."""

_TWICE = "both quantize; keep one of the sections"


class QuantizationAwareTraining:
    """The algorithm, by one of its names."""

    parameters: ClassVar[type] = TrainingSettings

    def __init__(self, name: str) -> None:
        self.name = name
        others = (*NAMES, "post_training_quantization", "weight_compression")
        self.excludes: Mapping[str, str] = {other: _TWICE for other in others if other != name}

    def schema(self) -> Mapping[str, Any]:
        """JSON schema of the section."""
        return SCHEMA

    def delegates(self, params: TrainingSettings) -> Sequence[Mapping[str, Any]]:
        """Post-training quantization."""
        from nncf_quantization_aware_training.translation import translated

        return [translated(params)]

    def rounds(self, graph: Graph, params: TrainingSettings) -> int:
        """One, in which there is nothing to do."""
        return 1

    def requests(
        self, graph: Graph, params: TrainingSettings, context: Context, round_index: int
    ) -> Sequence[StatisticsRequest]:
        """None of its own."""
        return ()

    def transformations(
        self, graph: Graph, statistics: Statistics, params: TrainingSettings, context: Context, round_index: int
    ) -> Iterable[Transformation]:
        """None of its own."""
        return ()

    def controller(
        self, trained: TrainedModel, graph: Graph, statistics: Statistics, params: TrainingSettings
    ) -> QuantizationController:
        """The controller of the model's quantizers."""
        return QuantizationController(self.name, trained, params)
