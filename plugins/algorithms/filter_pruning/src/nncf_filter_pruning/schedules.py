"""How the level of pruning grows with the epochs of a training."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from nncf_core.training.control import CompressionScheduler
from nncf_filter_pruning.parameters import PruningSettings

_EARLY, _REACHED = 1 / 8, 3 / 4
"""When ``exponential_with_bias`` has reached which share of its way."""


def exponential(begin: float, end: float, progress: float) -> float:
    """The share of filters that are *kept* falls geometrically.

    :param progress: from 0 to 1.
    """
    return 1 - (1 - begin) * math.pow((1 - end) / (1 - begin), progress)


def exponential_with_bias(begin: float, end: float, progress: float) -> float:
    """``a·exp(-k·progress) + b``, through both ends and three quarters of the way after an eighth of the time."""
    # with q = exp(-k/8): (1 - q) / (1 - q^8) = 3/4; q = 1 is a root, too
    low, high = 0.0, 0.9
    for _ in range(60):
        middle = (low + high) / 2
        if (1 - middle) / (1 - middle**8) > _REACHED:
            low = middle
        else:
            high = middle
    rate = -math.log(low) / _EARLY
    return begin + (end - begin) * (1 - math.exp(-rate * progress)) / (1 - math.exp(-rate))


def baseline(begin: float, end: float, progress: float) -> float:
    """At once."""
    return end


SCHEDULES: Mapping[str, Callable[[float, float, float], float]] = {
    "exponential": exponential,
    "exponential_with_bias": exponential_with_bias,
    "baseline": baseline,
}


class Pruned(Protocol):
    """A controller whose level a schedule sets."""

    def set_pruning_level(self, pruning_level: float) -> None:
        """Ask for a level."""

    def freeze(self) -> None:
        """Leave masks as they are from now on."""


class PruningScheduler(CompressionScheduler):
    """Asks a controller for more as epochs pass; once the target is reached, masks stay.

    :param initial: the level to begin with.
    :ivar current_pruning_level: what is asked for now.
    """

    def __init__(self, controller: Pruned, settings: PruningSettings, initial: float) -> None:
        super().__init__()
        self._controller, self._settings, self._initial = controller, settings, initial
        self.target_level = settings.target
        self.current_pruning_level = initial

    def epoch_step(self, next_epoch: int | None = None) -> None:
        """An epoch begins; more is asked for."""
        super().epoch_step(next_epoch)
        settings = self._settings
        epoch = self.current_epoch - settings.num_init_steps
        if epoch < 0:
            return
        progress = min(epoch / settings.pruning_steps, 1.0)
        level = SCHEDULES[settings.schedule](self._initial, self.target_level, progress)
        self.current_pruning_level = self.target_level if progress == 1 else min(level, self.target_level)
        self._controller.set_pruning_level(self.current_pruning_level)
        if self.current_pruning_level >= self.target_level:
            self._controller.freeze()

    def get_state(self) -> dict[str, Any]:
        """Counts of steps and epochs, and the level."""
        return {**super().get_state(), "current_pruning_level": self.current_pruning_level}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from a state; masks are the model's."""
        super().load_state(state)
        self.current_pruning_level = state["current_pruning_level"]


class ConstantScheduler(CompressionScheduler):
    """Counts, and changes nothing.

    :param level: that was set by hand.
    """

    def __init__(self, level: float = 0.0) -> None:
        super().__init__()
        self.current_pruning_level = self.target_level = level
