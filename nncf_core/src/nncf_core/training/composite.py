"""The controller of several algorithms that act on one model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from typing import Any

from nncf_core.errors import ParameterNotSupportedError
from nncf_core.training.control import (
    CompressionAlgorithmController,
    CompressionLoss,
    CompressionScheduler,
    CompressionStage,
    check_state,
)
from nncf_core.training.statistics import NNCFStatistics


class CompositeLoss(CompressionLoss):
    """The sum of the algorithms' terms."""

    def __init__(self, losses: Sequence[CompressionLoss]) -> None:
        self._losses = tuple(losses)

    def calculate(self, *args: Any, **kwargs: Any) -> Any:
        """The sum."""
        return sum((loss(*args, **kwargs) for loss in self._losses), 0.0)


class CompositeScheduler(CompressionScheduler):
    """Tells all algorithms of steps and epochs."""

    def __init__(self, schedulers: Sequence[CompressionScheduler]) -> None:
        super().__init__()
        self._schedulers = tuple(schedulers)

    def step(self, next_step: int | None = None) -> None:
        """A step begins."""
        super().step(next_step)
        for scheduler in self._schedulers:
            scheduler.step(next_step)

    def epoch_step(self, next_epoch: int | None = None) -> None:
        """An epoch begins."""
        super().epoch_step(next_epoch)
        for scheduler in self._schedulers:
            scheduler.epoch_step(next_epoch)


class CompositeController(CompressionAlgorithmController):
    """Several algorithms as one, in the order of the config.

    :ivar child_ctrls: their controllers.
    """

    name = "composite"

    def __init__(self, target_model: Any, controllers: Sequence[CompressionAlgorithmController]) -> None:
        super().__init__(target_model)
        self.child_ctrls = tuple(controllers)
        self._loss = CompositeLoss([child.loss for child in self.child_ctrls])
        self._scheduler = CompositeScheduler([child.scheduler for child in self.child_ctrls])

    @property
    def loss(self) -> CompressionLoss:
        """The sum of their terms."""
        return self._loss

    @property
    def scheduler(self) -> CompressionScheduler:
        """Tells all of them."""
        return self._scheduler

    @property
    def compression_rate(self) -> float:
        """That of the only algorithm with one that can be set; where none has, the largest of all."""
        rated = self._rated()
        if rated is not None:
            return rated.compression_rate
        return max((child.compression_rate for child in self.child_ctrls), default=0.0)

    @compression_rate.setter
    def compression_rate(self, value: float) -> None:
        """Ask the only algorithm that has a rate for another.

        :raises ParameterNotSupportedError: when none has.
        """
        rated = self._rated()
        if rated is None:
            raise ParameterNotSupportedError(
                "None of the algorithms has a compression rate that can be set: leave it as it is."
            )
        rated.compression_rate = value

    @property
    def maximal_compression_rate(self) -> float:
        """The smallest of the algorithms'."""
        return min((child.maximal_compression_rate for child in self.child_ctrls), default=1.0)

    def _rated(self) -> CompressionAlgorithmController | None:
        found = [child for child in self.child_ctrls if child.has_rate]
        if len(found) > 1:
            names = ", ".join(repr(child.name) for child in found)
            raise ParameterNotSupportedError(f"{names} have compression rates of their own: set those of child_ctrls.")
        return found[0] if found else None

    @property
    def has_rate(self) -> bool:
        """Whether one of them has a rate that can be set."""
        return any(child.has_rate for child in self.child_ctrls)

    def disable_scheduler(self) -> None:
        """No rate changes but when it is set."""
        for child in self.child_ctrls:
            child.disable_scheduler()
        self._scheduler = CompositeScheduler([child.scheduler for child in self.child_ctrls])

    def compression_stage(self) -> CompressionStage:
        """The stages of all of them together; without any, fully compressed."""
        stages = [child.compression_stage() for child in self.child_ctrls]
        return reduce(lambda one, other: one + other, stages) if stages else CompressionStage.FULLY_COMPRESSED

    def statistics(self, quickly_collected_only: bool = False) -> NNCFStatistics:
        """Those of all of them."""
        found = NNCFStatistics()
        for child in self.child_ctrls:
            found = found.joined(child.statistics(quickly_collected_only))
        return found

    def states(self) -> dict[str, Any]:
        """States by names of algorithms."""
        return {name: state for child in self.child_ctrls for name, state in child.states().items()}

    def load_states(self, states: Mapping[str, Any]) -> None:
        """Go on from states by names of algorithms."""
        for child in self.child_ctrls:
            child.load_states(states)
        counted = next((child.scheduler for child in self.child_ctrls if child.name in states), None)
        if counted is not None:
            self._scheduler.current_step, self._scheduler.current_epoch = counted.current_step, counted.current_epoch

    def get_state(self) -> dict[str, Any]:
        """The states of all of them, and the numbers of steps and epochs."""
        return {"scheduler": self._scheduler.get_state(), "algorithms": self.states()}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from a state.

        :raises ValidationError: when it is none of such a controller.
        """
        check_state(state, self.get_state(), self)
        self.load_states(state["algorithms"])
        self._scheduler.load_state(state["scheduler"])

    def strip_model(self, model: Any, do_copy: bool = False) -> Any:
        """The model after each algorithm's own part."""
        for child in self.child_ctrls:
            model = child.strip_model(model, do_copy)
        return model

    def prepare_for_export(self) -> None:
        """Let each algorithm prepare."""
        for child in self.child_ctrls:
            child.prepare_for_export()
