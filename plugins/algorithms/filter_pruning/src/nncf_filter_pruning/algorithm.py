"""Filter pruning: the least important channels of layers go, with all that belongs to them.

In a training, masks follow the weights and the schedule, and the stripped model is smaller; without one, the model is
shrunk at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from nncf_core.contracts import Context
from nncf_core.errors import ParameterNotSupportedError
from nncf_core.graph import Graph
from nncf_core.statistics import Statistics, StatisticsRequest
from nncf_core.training.contracts import TrainedModel
from nncf_core.training.control import CompressionAlgorithmController
from nncf_core.training.sparsity import excluded_by_mask
from nncf_core.transformations import InsertMask, MaskKind, Transformation
from nncf_filter_pruning.parameters import SCHEMA, FilterPruningSettings


class FilterPruning:
    """The algorithm."""

    name: ClassVar[str] = "filter_pruning"
    parameters: ClassVar[type] = FilterPruningSettings
    excludes: ClassVar[Mapping[str, str]] = excluded_by_mask("filter_pruning")

    def schema(self) -> Mapping[str, Any]:
        """JSON schema of the section."""
        return SCHEMA

    def rounds(self, graph: Graph, params: FilterPruningSettings) -> int:
        """One."""
        return 1

    def requests(
        self, graph: Graph, params: FilterPruningSettings, context: Context, round_index: int
    ) -> Sequence[StatisticsRequest]:
        """None: weights tell all."""
        return ()

    def transformations(
        self,
        graph: Graph,
        statistics: Statistics,
        params: FilterPruningSettings,
        context: Context,
        round_index: int,
    ) -> Iterator[Transformation]:
        """Masks that keep everything, where there will be a training; otherwise smaller constants."""
        from nncf_filter_pruning.choice import chosen, loaded, prunable
        from nncf_filter_pruning.effects import Costs, masked_constants, none_of, shrinking

        settings = params.params
        coupling = prunable(graph, settings, context)
        if context.training:
            channels = [channel for cluster in coupling.clusters for channel in cluster.channels]
            for name, shape in masked_constants(coupling, channels, settings.prune_batch_norms).items():
                yield InsertMask(name, np.ones(shape, np.bool_), MaskKind.FIXED, "channels are kept by importance")
            return
        coefficients = loaded(coupling, settings)
        if settings.learned and coefficients is None:
            raise ParameterNotSupportedError(
                "A learned ranking is searched while a model is trained; without a training give "
                "load_ranking_coeffs_path."
            )
        constants = coupling.graph.constants
        removal = chosen(coupling, settings, lambda name: constants[name].read(), settings.target, coefficients)
        yield from shrinking(removal)
        costs, nothing = Costs(coupling), none_of(coupling)
        if costs.unsized and settings.by_operations:
            context.note(
                f"Sizes that {costs.unsized} layers have are not known, and count as one: give a model of fixed shapes "
                "for the share of operations that it will have."
            )
        before, after = costs.operations(nothing), costs.operations(removal)
        context.note(
            f"Of {costs.filters(nothing)} filters {costs.filters(nothing) - costs.filters(removal)} are pruned: "
            f"{before:,.0f} operations become {after:,.0f}, {costs.parameters(nothing):,} parameters "
            f"{costs.parameters(removal):,}."
        )

    def controller(
        self, trained: TrainedModel, graph: Graph, statistics: Statistics, params: FilterPruningSettings
    ) -> CompressionAlgorithmController:
        """The controller of the masks."""
        from nncf_filter_pruning.controller import FilterPruningController

        return FilterPruningController(trained, graph, params)
