"""Constant sparsity: weights of the model that are zero stay zero while it is trained."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

from attrs import frozen

from nncf_const_sparsity.controller import ConstSparsityController
from nncf_core.contracts import Context
from nncf_core.graph import Graph
from nncf_core.statistics import Statistics, StatisticsRequest
from nncf_core.training.contracts import TrainedModel
from nncf_core.training.sparsity import excluded_by_mask, sparsifiable
from nncf_core.transformations import InsertMask, MaskKind, Transformation


@frozen
class ConstSettings:
    """The config section: there is nothing to set."""


class ConstSparsity:
    """The algorithm."""

    name: ClassVar[str] = "const_sparsity"
    parameters: ClassVar[type] = ConstSettings
    excludes: ClassVar[Mapping[str, str]] = excluded_by_mask("const_sparsity")

    def schema(self) -> Mapping[str, Any]:
        """JSON schema of the section."""
        return {"type": "object", "description": "Weights that are zero stay zero in a training.", "properties": {}}

    def rounds(self, graph: Graph, params: ConstSettings) -> int:
        """One."""
        return 1

    def requests(
        self, graph: Graph, params: ConstSettings, context: Context, round_index: int
    ) -> Sequence[StatisticsRequest]:
        """None: weights tell all."""
        return ()

    def transformations(
        self, graph: Graph, statistics: Statistics, params: ConstSettings, context: Context, round_index: int
    ) -> Iterator[Transformation]:
        """A mask for each weight that has zeros; none without a training, which leaves zeros as they are."""
        if not context.training:
            return
        for constant in sparsifiable(graph, context):
            kept = constant.read() != 0
            if not kept.all():
                yield InsertMask(constant.name, kept, MaskKind.FIXED, "zeros stay")
            constant.release()

    def controller(
        self, trained: TrainedModel, graph: Graph, statistics: Statistics, params: ConstSettings
    ) -> ConstSparsityController:
        """The controller of the masks."""
        return ConstSparsityController(trained, graph)
