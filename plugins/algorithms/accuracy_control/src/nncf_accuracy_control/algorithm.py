"""Accuracy control (NNCF's ``quantize_with_accuracy_control``): which quantizers a model can afford."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from nncf_accuracy_control.parameters import SCHEMA, ControlSettings
from nncf_core.contracts import Context
from nncf_core.graph import Graph
from nncf_core.statistics import Statistics, StatisticsRequest
from nncf_core.transformations import Transformation

if TYPE_CHECKING:  # every run loads this module; only its own runs load what it works with
    from nncf_core.trials import Trial, Trials


class AccuracyControl:
    """Leaves out edits of the section before, as few as it takes."""

    name: ClassVar[str] = "accuracy_control"
    parameters: ClassVar[type] = ControlSettings

    def schema(self) -> Mapping[str, Any]:
        """JSON schema of the config section."""
        return SCHEMA

    def rounds(self, graph: Graph, params: ControlSettings) -> int:
        """None of its own."""
        return 0

    def requests(
        self, graph: Graph, params: ControlSettings, context: Context, round_index: int
    ) -> Sequence[StatisticsRequest]:
        """None."""
        return ()

    def transformations(
        self, graph: Graph, statistics: Statistics, params: ControlSettings, context: Context, round_index: int
    ) -> Iterable[Transformation]:
        """None of its own."""
        return ()

    def controlled(self, trials: Trials, params: ControlSettings, context: Context) -> Trial:
        """The model with the most quantizers of those that were validated and are good enough.

        :raises ValidationFunctionError: when the validation function fails, or gives what is no metric.
        """
        from nncf_accuracy_control.control import Control

        return Control(trials, params, context).run()
