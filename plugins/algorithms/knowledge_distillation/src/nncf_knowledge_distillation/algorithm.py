"""Knowledge distillation: the model before its compression is the teacher of the one in training."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

from attrs import frozen

from nncf_core.contracts import Context
from nncf_core.graph import Graph
from nncf_core.statistics import Statistics, StatisticsRequest
from nncf_core.training.contracts import TrainedModel
from nncf_core.training.control import CompressionAlgorithmController, CompressionScheduler, CompressionStage
from nncf_core.training.statistics import NNCFStatistics
from nncf_core.transformations import Transformation
from nncf_knowledge_distillation.loss import DistillationLoss


@frozen
class DistillationSettings:
    """The config section.

    :param type: ``mse``: mean squared error of outputs; ``softmax``: cross-entropy of classes' probabilities.
    :param scale: the term is multiplied by it.
    :param temperature: scores are divided by it, for ``softmax``.
    """

    type: str
    scale: float = 1.0
    temperature: float = 1.0


SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "description": "The model before its compression is the teacher of the one in training.",
    "properties": {
        "type": {"description": "What outputs are compared by.", "enum": ["mse", "softmax"]},
        "scale": {"description": "The term is multiplied by it.", "type": "number", "minimum": 0, "default": 1.0},
        "temperature": {
            "description": "Scores are divided by it, for softmax.",
            "type": "number",
            "exclusiveMinimum": 0,
            "default": 1.0,
        },
    },
    "required": ["type"],
}


class KnowledgeDistillation:
    """The algorithm."""

    name: ClassVar[str] = "knowledge_distillation"
    parameters: ClassVar[type] = DistillationSettings
    only_trains: ClassVar[bool] = True
    excludes: ClassVar[Mapping[str, str]] = {}

    def schema(self) -> Mapping[str, Any]:
        """JSON schema of the section."""
        return SCHEMA

    def rounds(self, graph: Graph, params: DistillationSettings) -> int:
        """One."""
        return 1

    def requests(
        self, graph: Graph, params: DistillationSettings, context: Context, round_index: int
    ) -> Sequence[StatisticsRequest]:
        """None."""
        return ()

    def transformations(
        self, graph: Graph, statistics: Statistics, params: DistillationSettings, context: Context, round_index: int
    ) -> Iterable[Transformation]:
        """None: the model stays as it is."""
        return ()

    def controller(
        self, trained: TrainedModel, graph: Graph, statistics: Statistics, params: DistillationSettings
    ) -> KnowledgeDistillationController:
        """The controller that holds the loss."""
        return KnowledgeDistillationController(trained, params)


class KnowledgeDistillationController(CompressionAlgorithmController):
    """A loss, and nothing that changes with time."""

    name = "knowledge_distillation"

    def __init__(self, trained: TrainedModel, params: DistillationSettings) -> None:
        super().__init__(trained.model)
        self._loss = DistillationLoss(trained.teacher(), params.type, params.scale, params.temperature)
        self._scheduler = CompressionScheduler()
        idle = []
        if params.scale == 0:
            idle.append("scale is 0, and so is the term of the loss: raise it, or leave the section out")
        if params.type == "mse" and params.temperature != 1:
            idle.append("temperature has no effect on type mse: leave it out, or choose softmax")
        self.warn(trained, idle)

    @property
    def loss(self) -> DistillationLoss:
        """How far outputs are from the teacher's."""
        return self._loss

    @property
    def scheduler(self) -> CompressionScheduler:
        """Counts."""
        return self._scheduler

    def compression_stage(self) -> CompressionStage:
        """Fully compressed: nothing is compressed."""
        return CompressionStage.FULLY_COMPRESSED

    def statistics(self, quickly_collected_only: bool = False) -> NNCFStatistics:
        """None."""
        return NNCFStatistics()
