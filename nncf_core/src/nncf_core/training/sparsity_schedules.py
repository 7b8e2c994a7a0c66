"""How the sparsity of weights grows with the epochs of a training.

Names and defaults are those of NNCF 2's configs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from attrs import field, frozen

from nncf_core.errors import ValidationError
from nncf_core.training.control import CompressionScheduler

ADAPTIVE_STEP, TOLERANCE = 0.05, 0.03
"""By how much the adaptive schedule goes on, and how far below a level a model's sparsity may be that holds it."""


@frozen
class SparsitySchedule:
    """Parameters that the sparsity algorithms share.

    :param schedule: ``polynomial``, ``exponential``, ``adaptive`` or ``multistep``; ``None``: the algorithm's own.
    :param sparsity_target: share of zeros to reach, from 0 to below 1.
    :param sparsity_target_epoch: epoch at whose beginning it is reached, counted from 0.
    :param sparsity_freeze_epoch: epoch from whose beginning masks stay as they are.
    :param update_per_optimizer_step: whether the polynomial schedule goes on with each step, not each epoch.
    :param steps_per_epoch: number of steps in an epoch, for that; ``None``: as many as the first epoch had, in which
        the sparsity stays.
    :param multistep_steps: epochs at which the multistep schedule goes on to the next level.
    :param multistep_sparsity_levels: its levels, one more than epochs.
    :param patience: epochs for which the model has to hold the adaptive schedule's level before it goes on.
    :param power: exponent of the polynomial.
    :param concave: whether the polynomial is steep first, or last.
    :param sparsity_level_setting_mode: ``global``: of all weights together, or ``local``: of each weight.
    """

    schedule: str | None = None
    sparsity_target: float = 0.5
    sparsity_target_epoch: float = 90
    sparsity_freeze_epoch: float = 100
    update_per_optimizer_step: bool = False
    steps_per_epoch: int | None = None
    multistep_steps: list[float] = field(factory=lambda: [90.0])
    multistep_sparsity_levels: list[float] = field(factory=lambda: [0.1, 0.5])
    patience: int = 1
    power: float = 0.9
    concave: bool = True
    sparsity_level_setting_mode: str = "global"

    def __attrs_post_init__(self) -> None:
        levels, steps = self.multistep_sparsity_levels, self.multistep_steps
        if self.schedule == "multistep" and len(levels) != len(steps) + 1:
            raise ValidationError(
                f"multistep_sparsity_levels has {len(levels)} levels for {len(steps)} epochs in multistep_steps; it "
                "must have one more."
            )
        if list(steps) != sorted(steps):
            raise ValidationError(
                f"multistep_steps is {list(steps)}; the epochs must be in ascending order; sort them."
            )

    @property
    def final(self) -> float:
        """The sparsity in the end."""
        return self.multistep_sparsity_levels[-1] if self.schedule == "multistep" else self.sparsity_target

    def first(self, initial: float) -> float:
        """The sparsity to begin with.

        :param initial: ``sparsity_init``, which has no meaning with levels.
        """
        return self.multistep_sparsity_levels[0] if self.schedule == "multistep" else initial

    def level(self, kind: str, initial: float, epoch: float) -> float:
        """The sparsity that is asked for at an epoch, of schedules that look at nothing else.

        :param kind: the schedule.
        :param initial: the sparsity to begin with.
        """
        if kind == "multistep":
            return self.multistep_sparsity_levels[sum(epoch >= step for step in self.multistep_steps)]
        progress = epoch / self.sparsity_target_epoch if self.sparsity_target_epoch else 1.0
        if kind == "exponential":
            return exponential(initial, self.sparsity_target, progress)
        return polynomial(initial, self.sparsity_target, progress, self.power, self.concave)

    def check_initial(self, initial: float) -> None:
        """Refuse to begin above what is to be reached.

        :param initial: ``sparsity_init``.
        :raises ValidationError: naming both.
        """
        if self.schedule != "multistep" and initial > self.final:
            raise ValidationError(
                f"sparsity_init is {initial}, above what is to be reached, sparsity_target {self.final}: lower it, or "
                "raise that."
            )

    def idle(self, default: str, initial: float, lag: int = 0) -> list[str]:
        """What is allowed, and leads nowhere.

        :param default: schedule where none is given.
        :param initial: ``sparsity_init``.
        :param lag: epochs that it takes the model to follow.
        """
        kind, freeze, levels = self.schedule or default, self.sparsity_freeze_epoch, self.multistep_sparsity_levels
        told = []
        if kind == "multistep" and initial not in (0, levels[0]):
            told.append(
                f"sparsity_init {initial:g} means nothing where multistep_sparsity_levels begin with {levels[0]:g}"
            )
        if kind == "multistep" and sorted(levels) != list(levels):
            told.append(f"multistep_sparsity_levels {levels} fall, and what was zero comes back: put them in order")
        begin, end = self.first(initial), self.final
        if begin == end == 0:
            return [*told, "no zeros are asked for: give a sparsity_target"]
        if kind != "adaptive" and self.level(kind, begin, max(freeze - lag, 0)) < end:
            told.append(
                f"masks are frozen in epoch {freeze:g}, before the schedule has come to {end:g}: raise "
                "sparsity_freeze_epoch, or let the schedule end earlier"
            )
        return told


def _level(description: str, default: float | None = None) -> dict[str, Any]:
    found: dict[str, Any] = {"description": description, "type": "number", "minimum": 0, "exclusiveMaximum": 1}
    return found if default is None else {**found, "default": default}


def _number(description: str, default: float, minimum: float = 0) -> dict[str, Any]:
    return {"description": description, "type": "number", "minimum": minimum, "default": default}


def schedule_properties(default: str, schedules: tuple[str, ...]) -> Mapping[str, Any]:
    """Properties of the schema of :class:`SparsitySchedule`.

    :param default: schedule where none is given.
    :param schedules: those that the algorithm has.
    """
    return {
        "schedule": {"description": "How sparsity grows.", "enum": list(schedules), "default": default},
        "sparsity_target": _level("Share of zeros to reach.", 0.5),
        "sparsity_target_epoch": _number("Epoch at whose beginning it is reached.", 90),
        "sparsity_freeze_epoch": _number("Epoch from which masks stay as they are.", 100),
        "update_per_optimizer_step": {
            "description": "Whether the polynomial schedule goes on with each step.",
            "type": "boolean",
            "default": False,
        },
        "steps_per_epoch": {"description": "Steps in an epoch, for that.", "type": "integer", "minimum": 1},
        "multistep_steps": {
            "description": "Epochs at which the multistep schedule goes on.",
            "type": "array",
            "items": {"type": "number", "minimum": 0},
            "default": [90],
        },
        "multistep_sparsity_levels": {
            "description": "Its levels, one more than epochs.",
            "type": "array",
            "items": _level("A share of zeros."),
            "default": [0.1, 0.5],
        },
        "patience": {
            "description": "Epochs for which the model has to hold the adaptive schedule's level.",
            "type": "integer",
            "minimum": 1,
            "default": 1,
        },
        "power": {**_number("Exponent of the polynomial.", 0.9), "exclusiveMinimum": 0},
        "concave": {
            "description": "Whether the polynomial is steep first, or last.",
            "type": "boolean",
            "default": True,
        },
        "sparsity_level_setting_mode": {
            "description": "Whether the level is of all weights together, or of each.",
            "enum": ["global", "local"],
            "default": "global",
        },
    }


def polynomial(begin: float, end: float, progress: float, power: float, concave: bool) -> float:
    """``begin + (end - begin) · (1 - (1 - progress)^power)``, or ``· progress^power`` where it is not concave.

    With ``power`` below 1, as by default, the former is slow first all the same.
    """
    share = min(max(progress, 0.0), 1.0)
    done: float = 1 - (1 - share) ** power if concave else share**power
    return begin + (end - begin) * done


def exponential(begin: float, end: float, progress: float) -> float:
    """The share of elements that are *kept* falls geometrically."""
    share = min(max(progress, 0.0), 1.0)
    ratio: float = ((1 - end) / (1 - begin)) ** share
    return 1 - (1 - begin) * ratio


class Sparsified(Protocol):
    """A controller whose sparsity a schedule sets."""

    def set_sparsity_level(self, sparsity_level: float) -> None:
        """Ask for a share of zeros."""

    def freeze(self) -> None:
        """Leave masks as they are from now on."""

    def held_sparsity(self) -> float:
        """The share of zeros that the model has."""


class SparsityScheduler(CompressionScheduler):
    """Asks a controller for more sparsity as epochs pass.

    :param initial: the level to begin with.
    :ivar current_sparsity_level: what is asked for now.
    """

    def __init__(self, controller: Sparsified, schedule: SparsitySchedule, default: str, initial: float) -> None:
        super().__init__()
        self._controller, self._schedule, self._kind = controller, schedule, schedule.schedule or default
        self._initial = schedule.first(initial)
        self.target_level = schedule.final
        self.current_sparsity_level = self._initial
        self._steps_per_epoch = schedule.steps_per_epoch
        self._steps_in_epoch = 0
        self._held_epochs = 0

    def step(self, next_step: int | None = None) -> None:
        """A step begins; where the schedule goes on with steps, more sparsity is asked for."""
        super().step(next_step)
        self._steps_in_epoch += 1
        by_steps = self._kind == "polynomial" and self._schedule.update_per_optimizer_step
        if by_steps and self._steps_per_epoch is not None and not self._frozen:
            done = max(self.current_epoch, 0) + (self._steps_in_epoch - 1) / self._steps_per_epoch
            self._ask(self._at(done))

    def epoch_step(self, next_epoch: int | None = None) -> None:
        """An epoch begins; more sparsity is asked for, in the one that freezes masks only where it is more."""
        was_frozen, counted_steps = self._frozen, self._steps_in_epoch
        super().epoch_step(next_epoch)
        if self._steps_per_epoch is None and counted_steps:
            self._steps_per_epoch = counted_steps
        self._steps_in_epoch = 0
        if self._kind == "adaptive":
            if not self._frozen:
                self._ask(self._adapted())
        elif not was_frozen and not self._waits:
            level = self._at(min(self.current_epoch, self._schedule.sparsity_freeze_epoch))
            if not self._frozen or level != self.current_sparsity_level:
                self._ask(level)
        if self._frozen:
            self._controller.freeze()

    @property
    def _waits(self) -> bool:
        """Whether it goes on with steps, and their number is to be counted in the first epoch."""
        schedule = self._schedule
        return schedule.update_per_optimizer_step and self._kind == "polynomial" and self.current_epoch == 0

    @property
    def _frozen(self) -> bool:
        return self.current_epoch >= self._schedule.sparsity_freeze_epoch

    def _ask(self, level: float) -> None:
        self.current_sparsity_level = level
        self._controller.set_sparsity_level(level)

    def _at(self, epoch: float) -> float:
        return self._schedule.level(self._kind, self._initial, epoch)

    def _adapted(self) -> float:
        level = self.current_sparsity_level
        if self.current_epoch == 0:
            return level
        self._held_epochs += self._controller.held_sparsity() + TOLERANCE >= level
        if self._held_epochs < self._schedule.patience:
            return level
        self._held_epochs = 0
        return min(level + ADAPTIVE_STEP, self.target_level)

    def get_state(self) -> dict[str, Any]:
        """Counts of steps and epochs, and the level."""
        return {
            **super().get_state(),
            "current_sparsity_level": self.current_sparsity_level,
            "steps_in_epoch": self._steps_in_epoch,
            "steps_per_epoch": self._steps_per_epoch,
            "held_epochs": self._held_epochs,
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from a state; masks are the model's."""
        super().load_state(state)
        self.current_sparsity_level = state["current_sparsity_level"]
        self._steps_in_epoch, self._steps_per_epoch = state["steps_in_epoch"], state["steps_per_epoch"]
        self._held_epochs = state["held_epochs"]


class ConstantScheduler(CompressionScheduler):
    """Counts, and changes nothing.

    :param level: a sparsity level that was set by hand.
    """

    def __init__(self, level: float = 0.0) -> None:
        super().__init__()
        self.current_sparsity_level = self.target_level = level
