"""The controller of magnitude sparsity."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nncf_core.graph import Graph
from nncf_core.training.contracts import TrainedModel
from nncf_core.training.control import share_of
from nncf_core.training.sparsity import SparsityController
from nncf_core.training.sparsity_schedules import SparsityScheduler
from nncf_core.training.statistics import LayerThreshold, MagnitudeSparsityStatistics, NNCFStatistics
from nncf_core.transformations import MaskKind
from nncf_magnitude_sparsity.importance import IMPORTANCE, thresholds
from nncf_magnitude_sparsity.parameters import SCHEDULE, MagnitudeSettings


class MagnitudeSparsityController(SparsityController):
    """Makes masks anew whenever the schedule asks for another level."""

    name = "magnitude_sparsity"

    def __init__(self, trained: TrainedModel, graph: Graph, params: MagnitudeSettings) -> None:
        super().__init__(trained, graph, MaskKind.FIXED)
        self._params = params.params
        self._thresholds: dict[str, float] = dict.fromkeys(self._masks, -1.0)
        scheduler = SparsityScheduler(self, params.params, SCHEDULE, params.sparsity_init)
        self._scheduler = scheduler
        self.warn(trained, params.params.idle(SCHEDULE, params.sparsity_init))
        if trained.is_new:
            self.set_sparsity_level(scheduler.current_sparsity_level)
            params.initializer.run(trained)

    def disable_scheduler(self) -> None:
        """The level changes only when it is set, also where the schedule had frozen the masks."""
        super().disable_scheduler()
        self._frozen = False

    def set_sparsity_level(self, sparsity_level: float) -> None:
        """Make the least important share of elements zero; frozen masks stay as they are."""
        if self.frozen:
            return
        level, importance = share_of("sparsity_level", sparsity_level), IMPORTANCE[self._params.weight_importance]
        of_all = self._params.sparsity_level_setting_mode == "global"
        weights = {name: mask.weight for name, mask in self._masks.items()}
        self._thresholds = thresholds(weights, level, importance, of_all=of_all)
        for name, mask in self._masks.items():
            mask.assign(importance(mask.weight()) > self._thresholds[name])

    def statistics(self, quickly_collected_only: bool = False) -> NNCFStatistics:
        """Shares of zeros, and thresholds of importance."""
        found = MagnitudeSparsityStatistics(
            self.model_statistics(),
            self.target_level,
            tuple(LayerThreshold(name, threshold) for name, threshold in self._thresholds.items()),
        )
        return NNCFStatistics.of(self.name, found)

    def get_state(self) -> dict[str, Any]:
        """The state of all sparsity controllers, and thresholds."""
        return {**super().get_state(), "thresholds": dict(self._thresholds)}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from a state."""
        super().load_state(state)
        self._thresholds = dict(state["thresholds"])
