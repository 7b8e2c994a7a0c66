"""Algorithms that improve what another, such as ``weight_compression``, is about to do to weights."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar

from nncf_core.advanced import AdvancedGPTQParameters, AdvancedScaleEstimationParameters
from nncf_core.contracts import Context
from nncf_core.graph import Graph
from nncf_core.refining import PlannedWeight
from nncf_core.statistics import Statistics, StatisticsRequest
from nncf_core.transformations import Transformation
from nncf_weight_refinement import parameters as sections
from nncf_weight_refinement import steps
from nncf_weight_refinement.layers import refine_together, requests_of


class WeightRefiner:
    """An algorithm that does the same to every weight of few bits.

    :cvar kinds: statistics of a layer's inputs that it looks at.
    :cvar needs_data: whether it is of no use without them.
    :cvar keeps: whether it goes on from codes that make up for each other.
    :cvar propagates: whether inputs are to be those behind weights that are compressed already.
    """

    name: ClassVar[str]
    parameters: ClassVar[type]
    section: ClassVar[Mapping[str, Any]]
    kinds: ClassVar[tuple[str, ...]]
    needs_data: ClassVar[bool] = True
    keeps: ClassVar[bool] = False
    propagates: ClassVar[bool] = False
    work: ClassVar[Callable[..., Sequence[PlannedWeight]]]

    def schema(self) -> Mapping[str, Any]:
        """JSON schema of the config section."""
        return self.section

    def rounds(self, graph: Graph, params: Any) -> int:
        """One round."""
        return 1

    def requests(self, graph: Graph, params: Any, context: Context, round_index: int) -> Sequence[StatisticsRequest]:
        """Statistics of the inputs of all layers whose weights get few bits."""
        return requests_of(context, self._kinds(params), self._holds_out(params))

    def transformations(
        self, graph: Graph, statistics: Statistics, params: Any, context: Context, round_index: int
    ) -> Iterable[Transformation]:
        """None of its own."""
        return ()

    def refined(
        self,
        weights: Sequence[PlannedWeight],
        graph: Graph,
        statistics: Statistics,
        params: Any,
        context: Context,
    ) -> Sequence[PlannedWeight]:
        """The weights with better codes, or with another target."""
        work, kinds = type(self).work, self._kinds(params)
        return refine_together(
            weights, statistics, kinds, lambda layer: work(layer, params), self.name, self.keeps, context.executor
        )

    def _kinds(self, params: Any) -> tuple[str, ...]:
        return self.kinds

    def _holds_out(self, params: Any) -> bool:
        """Whether a part of the samples tells what the others are good for."""
        return False


class ScaleSearch(WeightRefiner):
    """Scales and zero points with the smallest weighted error; without data all inputs count as equal."""

    name = "scale_search"
    parameters = sections.ScaleSearchSettings
    section = sections.SCALE_SEARCH_SCHEMA
    kinds = ("mean", "mean_square")
    needs_data = False
    work = staticmethod(steps.scale_search)

    def _kinds(self, params: sections.ScaleSearchSettings) -> tuple[str, ...]:
        return ("gram",) if params.products else self.kinds


class ScaleEstimation(WeightRefiner):
    """Scales and zero points with the smallest error, weighted with the mean squares of inputs."""

    name = "scale_estimation"
    parameters = AdvancedScaleEstimationParameters
    section = sections.SCALE_ESTIMATION_SCHEMA
    kinds = ("mean", "mean_square")
    work = staticmethod(steps.scale_estimation)


class Gptq(WeightRefiner):
    """Codes that make up for each other's errors, under scales that were searched before."""

    name = "gptq"
    parameters = AdvancedGPTQParameters
    section = sections.GPTQ_SCHEMA
    kinds = ("gram",)
    work = staticmethod(steps.gptq)


class ErrorPropagation(WeightRefiner):
    """Targets that make up for a part of the errors of the compressed layers before."""

    name = "error_propagation"
    parameters = sections.ErrorPropagationSettings
    section = sections.ERROR_PROPAGATION_SCHEMA
    kinds = ("gram", "cross_gram")
    propagates = True
    work = staticmethod(steps.error_propagation)

    def _holds_out(self, params: sections.ErrorPropagationSettings) -> bool:
        return params.adaptive


class Refinement(WeightRefiner):
    """Codes, scales and zero points in turn, the error never rising."""

    name = "refinement"
    parameters = sections.RefinementSettings
    section = sections.REFINEMENT_SCHEMA
    kinds = ("gram",)
    keeps = True
    work = staticmethod(steps.refinement)


ALGORITHMS = (ScaleSearch, ScaleEstimation, Gptq, ErrorPropagation, Refinement)
