"""How threshold and factor of movement sparsity go with the steps of a training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from nncf_core.training.control import CompressionScheduler
from nncf_movement_sparsity.parameters import MovementSchedule


class Moved(Protocol):
    """What the scheduler sets."""

    def initial_threshold(self) -> float:
        """Where the threshold begins, as scores are now."""

    def set_threshold(self, threshold: float, factor: float) -> None:
        """Set the threshold and the factor of the loss."""

    def finish(self) -> None:
        """The warm-up is over: masks stay as they are."""


class MovementScheduler(CompressionScheduler):
    """The threshold is ``final + (initial - final) · (1 - progress)^power``, the factor ``1 - (1 - progress)^power``.

    Before the warm-up everything is kept. Within an epoch progress goes on with steps, once their number is known.
    """

    def __init__(self, controller: Moved, schedule: MovementSchedule) -> None:
        super().__init__()
        self._controller, self._schedule = controller, schedule
        self._steps_per_epoch = schedule.steps_per_epoch
        self._steps_in_epoch = 0
        self._initial = schedule.init_importance_threshold
        self._finished = False

    def step(self, next_step: int | None = None) -> None:
        """A step begins."""
        super().step(next_step)
        self._steps_in_epoch += 1
        if self._steps_per_epoch:
            self._set(max(self.current_epoch, 0) + min((self._steps_in_epoch - 1) / self._steps_per_epoch, 1))

    def epoch_step(self, next_epoch: int | None = None) -> None:
        """An epoch begins."""
        super().epoch_step(next_epoch)
        if self._schedule.steps_per_epoch is None and self._steps_in_epoch:
            self._steps_per_epoch = self._steps_in_epoch
        self._steps_in_epoch = 0
        self._set(self.current_epoch)

    def _set(self, epoch: float) -> None:
        schedule = self._schedule
        start, end = schedule.warmup_start_epoch, schedule.warmup_end_epoch
        if epoch < start or self._finished:
            return
        if epoch >= end:
            self._finished = True
            self._controller.set_threshold(schedule.final_importance_threshold, 0.0)
            self._controller.finish()
            return
        if self._initial is None:
            self._initial = min(self._controller.initial_threshold(), schedule.final_importance_threshold)
        left: float = (1 - (epoch - start) / (end - start)) ** schedule.power
        final = schedule.final_importance_threshold
        factor = schedule.importance_regularization_factor * (1 - left)
        self._controller.set_threshold(final + (self._initial - final) * left, factor)

    def get_state(self) -> dict[str, Any]:
        """Counts of steps and epochs, and where the threshold began."""
        return {
            **super().get_state(),
            "steps_per_epoch": self._steps_per_epoch,
            "steps_in_epoch": self._steps_in_epoch,
            "initial": self._initial,
            "finished": self._finished,
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from a state; thresholds are the model's."""
        super().load_state(state)
        self._steps_per_epoch, self._steps_in_epoch = state["steps_per_epoch"], state["steps_in_epoch"]
        self._initial, self._finished = state["initial"], state["finished"]
