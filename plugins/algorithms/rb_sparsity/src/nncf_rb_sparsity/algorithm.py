"""RB sparsity: masks that are sampled with trained probabilities (Srinivas et al. 2017,
https://arxiv.org/abs/1611.06694), and a term of the loss that leads to the share of zeros asked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import log
from typing import Any, ClassVar

import numpy as np

from nncf_core.contracts import Context
from nncf_core.graph import Graph
from nncf_core.statistics import Statistics, StatisticsRequest
from nncf_core.training.contracts import TrainedModel
from nncf_core.training.sparsity import excluded_by_mask, sparsifiable
from nncf_core.transformations import InsertMask, MaskKind, Transformation
from nncf_rb_sparsity.controller import RBSparsityController
from nncf_rb_sparsity.parameters import SCHEMA, RBSettings

KEPT = 0.99
"""Probability of each element to be kept in the beginning."""


class RBSparsity:
    """The algorithm."""

    name: ClassVar[str] = "rb_sparsity"
    parameters: ClassVar[type] = RBSettings
    only_trains: ClassVar[bool] = True
    excludes: ClassVar[Mapping[str, str]] = excluded_by_mask("rb_sparsity")

    def schema(self) -> Mapping[str, Any]:
        """JSON schema of the section."""
        return SCHEMA

    def rounds(self, graph: Graph, params: RBSettings) -> int:
        """One."""
        return 1

    def requests(
        self, graph: Graph, params: RBSettings, context: Context, round_index: int
    ) -> Sequence[StatisticsRequest]:
        """None: masks are trained."""
        return ()

    def transformations(
        self, graph: Graph, statistics: Statistics, params: RBSettings, context: Context, round_index: int
    ) -> Iterator[Transformation]:
        """A sampled mask for each weight."""
        score = log(KEPT / (1 - KEPT))
        for constant in sparsifiable(graph, context) if context.training else ():
            yield InsertMask(
                constant.name, np.full(constant.shape, score, np.float32), MaskKind.SAMPLED, "kept as trained"
            )

    def controller(
        self, trained: TrainedModel, graph: Graph, statistics: Statistics, params: RBSettings
    ) -> RBSparsityController:
        """The controller of the masks."""
        return RBSparsityController(trained, graph, params)
