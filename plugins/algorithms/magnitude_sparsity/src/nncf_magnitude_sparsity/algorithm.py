"""Magnitude sparsity: the least important elements of weights become zero.

In a training, masks follow the weights and the schedule (Zhu and Gupta 2017, https://arxiv.org/abs/1710.01878);
otherwise weights get their final share of zeros at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from nncf_core.contracts import Context
from nncf_core.graph import Graph
from nncf_core.numerics.arrays import space_of
from nncf_core.statistics import Statistics, StatisticsRequest
from nncf_core.training.contracts import TrainedModel
from nncf_core.training.sparsity import excluded_by_mask, sparsifiable
from nncf_core.transformations import InsertMask, MaskKind, ReplaceConstant, Transformation
from nncf_magnitude_sparsity.controller import MagnitudeSparsityController
from nncf_magnitude_sparsity.importance import IMPORTANCE, thresholds
from nncf_magnitude_sparsity.parameters import SCHEMA, MagnitudeSettings


class MagnitudeSparsity:
    """The algorithm."""

    name: ClassVar[str] = "magnitude_sparsity"
    parameters: ClassVar[type] = MagnitudeSettings
    excludes: ClassVar[Mapping[str, str]] = excluded_by_mask("magnitude_sparsity")

    def schema(self) -> Mapping[str, Any]:
        """JSON schema of the section."""
        return SCHEMA

    def rounds(self, graph: Graph, params: MagnitudeSettings) -> int:
        """One."""
        return 1

    def requests(
        self, graph: Graph, params: MagnitudeSettings, context: Context, round_index: int
    ) -> Sequence[StatisticsRequest]:
        """None: weights tell all."""
        return ()

    def transformations(
        self, graph: Graph, statistics: Statistics, params: MagnitudeSettings, context: Context, round_index: int
    ) -> Iterator[Transformation]:
        """Masks that keep everything, where there will be a training; otherwise weights with zeros."""
        found = sparsifiable(graph, context)
        if context.training:
            for constant in found:
                ones = np.ones(constant.shape, np.bool_)
                yield InsertMask(constant.name, ones, MaskKind.FIXED, "kept by magnitude")
            return
        if not found:
            context.warn(f"{self.name}: {MagnitudeSparsityController.nothing}.")
            return
        schedule = params.params
        importance, of_all = IMPORTANCE[schedule.weight_importance], schedule.sparsity_level_setting_mode == "global"
        readers = {constant.name: constant.array for constant in found}
        limits = thresholds(readers, schedule.final, importance, of_all=of_all)
        zeros = 0
        for constant in context.progress.track(found, "Magnitude sparsity", len(found)):
            weight = constant.array()
            xp = space_of(weight).xp
            kept = importance(weight) > limits[constant.name]
            lost = constant.size - round(float(xp.sum(xp.astype(kept, xp.float32))))
            zeros += lost
            value = xp.where(kept, weight, xp.zeros_like(weight))
            yield ReplaceConstant(constant.name, value, f"{lost / constant.size:.1%} of it are zeros")
            constant.release()
        share, of = zeros / sum(constant.size for constant in found), len(found)
        context.note(
            f"{share:.1%} of the elements of {of} {'weight' if of == 1 else 'weights'} are zeros. They are stored like "
            "the others: what is faster or smaller by them is a runtime, or an archive, that makes use of zeros."
        )

    def controller(
        self, trained: TrainedModel, graph: Graph, statistics: Statistics, params: MagnitudeSettings
    ) -> MagnitudeSparsityController:
        """The controller of the masks."""
        return MagnitudeSparsityController(trained, graph, params)
