"""How much accuracy a training may lose, and what became of it."""

from __future__ import annotations

from attrs import frozen

from nncf_core.training.statistics import Statistics, table


@frozen
class AccuracyBudget:
    """How much accuracy may be lost; one of both is given."""

    maximal_relative_accuracy_degradation: float | None = None
    maximal_absolute_accuracy_degradation: float | None = None

    def left(self, before: float, after: float) -> float:
        """What is left of it, in units of accuracy; below zero when more was lost."""
        if self.maximal_absolute_accuracy_degradation is not None:
            allowed = self.maximal_absolute_accuracy_degradation
        else:
            # in percent of the accuracy before, as NNCF has it
            allowed = before * (self.maximal_relative_accuracy_degradation or 0.0) / 100
        return allowed - (before - after)


@frozen
class EarlyExitParameters(AccuracyBudget):
    """Section ``accuracy_aware_training.params`` of the mode ``early_exit``."""

    maximal_total_epochs: float = 10000


@frozen
class AdaptiveParameters(AccuracyBudget):
    """Section ``accuracy_aware_training.params`` of the mode ``adaptive_compression_level``.

    :param initial_training_phase_epochs: epochs with the schedule of the config.
    :param patience_epochs: epochs at each rate that is tried then.
    :param initial_compression_rate_step: by how much the rate changes first.
    :param compression_rate_step_reduction_factor: of the step, whenever its direction changes.
    :param lr_reduction_factor: of the learning rate, likewise.
    :param minimal_compression_rate_step: the loop ends when the step is smaller.
    :param maximal_total_epochs: the loop ends then in any case.
    """

    initial_training_phase_epochs: float = 5
    patience_epochs: float = 3
    initial_compression_rate_step: float = 0.1
    compression_rate_step_reduction_factor: float = 0.5
    lr_reduction_factor: float = 0.5
    minimal_compression_rate_step: float = 0.025
    maximal_total_epochs: float = 10000


@frozen
class TrainingLoopStatistics(Statistics):
    """What a loop came to.

    :param uncompressed_accuracy: accuracy of the model before.
    :param compression_rate: that of the model that was chosen.
    :param compressed_accuracy: its accuracy.
    :param absolute_accuracy_degradation: how much accuracy was lost.
    :param relative_accuracy_degradation: the same in percent of the accuracy before.
    :param accuracy_budget: how much more might have been lost; below zero when too much was.
    """

    uncompressed_accuracy: float
    compression_rate: float
    compressed_accuracy: float
    absolute_accuracy_degradation: float
    relative_accuracy_degradation: float
    accuracy_budget: float

    def to_str(self) -> str:
        """A table."""
        rows = [(name.replace("_", " "), getattr(self, name)) for name in self.__annotations__]
        return table("Accuracy-aware training:", rows, ("Statistic", "Value"))
