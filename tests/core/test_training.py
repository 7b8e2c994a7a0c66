"""What goes on around a training, whatever the framework."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pytest

import nncf
from nncf.api.compression import (
    CompressionAlgorithmController,
    CompressionLoss,
    CompressionScheduler,
    CompressionStage,
)
from nncf.common.accuracy_aware_training import create_accuracy_aware_training_loop
from nncf.common.accuracy_aware_training.training_loop import (
    AdaptiveCompressionTrainingLoop,
    EarlyExitCompressionTrainingLoop,
)
from nncf.common.statistics import NNCFStatistics
from nncf_core.checking import checked_edits
from nncf_core.errors import PluginError, UnsupportedBackendError, ValidationError
from nncf_core.pipeline import run
from nncf_core.testing import registered
from nncf_core.testing.numpy_backend import samples
from nncf_core.testing.numpy_backend.builder import NumpyGraphBuilder
from nncf_core.testing.numpy_backend.inserter import NumpyTargetPointInserter
from nncf_core.training.assembling import assemble
from nncf_core.training.composite import CompositeController
from nncf_core.training.sparsity_schedules import SparsitySchedule, SparsityScheduler
from nncf_core.training.statistics import MagnitudeSparsityStatistics, SparsifiedModelStatistics, table
from nncf_core.transformations import FoldMask, InsertMask, InsertThreshold, TargetPoint
from tests.core.pipeline_doubles import Recorder, Scale, module


class Levels:
    """Writes down what a schedule asks for."""

    def __init__(self, held: float = 0.0) -> None:
        self.asked: list[float] = []
        self.held, self.frozen = held, 0

    def set_sparsity_level(self, sparsity_level: float) -> None:
        self.asked.append(sparsity_level)

    def freeze(self) -> None:
        self.frozen += 1

    def held_sparsity(self) -> float:
        return self.held


def levels(epochs: int, initial: float = 0.1, **params: Any) -> list[float]:
    target = Levels()
    scheduler = SparsityScheduler(target, SparsitySchedule(**params), "polynomial", initial)
    for _ in range(epochs):
        scheduler.epoch_step()
    return target.asked


def test_polynomial_levels() -> None:
    found = levels(6, sparsity_target=0.7, sparsity_target_epoch=4, power=2.0)
    np.testing.assert_allclose(found, [0.1 + 0.6 * (1 - (1 - min(e, 4) / 4) ** 2) for e in range(6)])
    found = levels(6, sparsity_target=0.7, sparsity_target_epoch=4, power=2.0, concave=False)
    np.testing.assert_allclose(found, [0.1 + 0.6 * (min(e, 4) / 4) ** 2 for e in range(6)])


def test_exponential_levels() -> None:
    found = levels(5, schedule="exponential", sparsity_target=0.9, sparsity_target_epoch=4)
    kept = 1 - np.array(found)
    np.testing.assert_allclose(kept[[0, 4]], [0.9, 0.1])
    np.testing.assert_allclose(kept[1:] / kept[:-1], (1 / 9) ** 0.25)


def test_multistep_levels() -> None:
    found = levels(6, schedule="multistep", multistep_steps=[2.0, 4.0], multistep_sparsity_levels=[0.2, 0.3, 0.6])
    assert found == [0.2, 0.2, 0.3, 0.3, 0.6, 0.6]


def test_adaptive_levels_wait_for_the_model() -> None:
    target = Levels(held=0.0)
    schedule = SparsitySchedule(schedule="adaptive", sparsity_target=0.2, patience=2)
    scheduler = SparsityScheduler(target, schedule, "exponential", 0.1)
    for _ in range(3):
        scheduler.epoch_step()
    assert target.asked == [0.1, 0.1, 0.1]
    target.held = 0.5
    for _ in range(6):
        scheduler.epoch_step()
    np.testing.assert_allclose(target.asked[3:], [0.1, 0.15, 0.15, 0.2, 0.2, 0.2])


def test_levels_by_steps() -> None:
    target = Levels()
    schedule = SparsitySchedule(sparsity_target=0.5, sparsity_target_epoch=2, power=1.0, update_per_optimizer_step=True)
    scheduler = SparsityScheduler(target, schedule, "polynomial", 0.0)
    for _ in range(3):
        scheduler.epoch_step()
        for _ in range(4):
            scheduler.step()
    # how many steps an epoch has is known after the first
    np.testing.assert_allclose(target.asked[:6], [0.25, 0.25, 0.3125, 0.375, 0.4375, 0.5])
    assert target.asked[-1] == 0.5


def test_masks_are_frozen_from_an_epoch_on() -> None:
    target = Levels()
    schedule = SparsitySchedule(sparsity_target_epoch=1, sparsity_freeze_epoch=2)
    scheduler = SparsityScheduler(target, schedule, "polynomial", 0.0)
    for _ in range(4):
        scheduler.epoch_step()
    assert (len(target.asked), target.frozen) == (2, 2)


@pytest.mark.parametrize("begun", [None, 7])
def test_the_level_of_the_epoch_that_freezes_is_asked_for(begun: int | None) -> None:
    target = Levels()
    schedule = SparsitySchedule(sparsity_target=0.5, sparsity_target_epoch=2, sparsity_freeze_epoch=2)
    scheduler = SparsityScheduler(target, schedule, "polynomial", 0.1)
    for _ in range(4):
        scheduler.epoch_step(begun)
    assert target.asked[-1] == 0.5
    assert len(target.asked) == (3 if begun is None else 1)
    assert target.frozen


@pytest.mark.parametrize("number", [-5, -1, "3", 1.5, True, None.__class__])
def test_numbers_of_steps_and_epochs_are_checked(number: Any) -> None:
    scheduler = CompressionScheduler()
    for name, call in (("next_epoch", scheduler.epoch_step), ("next_step", scheduler.step)):
        with pytest.raises(ValidationError, match=rf"{name} is .*; it must be an integer from 0"):
            call(number)
    assert (scheduler.current_epoch, scheduler.current_step) == (-1, -1)
    scheduler.epoch_step(np.int64(3))
    assert scheduler.current_epoch == 3


@pytest.mark.parametrize(
    ("params", "initial", "lag", "part"),
    [
        ({"sparsity_freeze_epoch": 10}, 0.0, 0, "sparsity_freeze_epoch"),
        ({"sparsity_target_epoch": 5, "sparsity_freeze_epoch": 5}, 0.0, 1, "frozen in epoch 5, before .* to 0.5"),
        ({"sparsity_target": 0.0}, 0.0, 0, "no zeros are asked for"),
        ({"schedule": "multistep", "multistep_sparsity_levels": [0.5, 0.1]}, 0.0, 0, "fall"),
        ({"schedule": "multistep"}, 0.3, 0, "sparsity_init 0.3 means nothing"),
        ({"schedule": "multistep", "multistep_steps": [200.0]}, 0.1, 0, "frozen in epoch 100"),
        ({"sparsity_target_epoch": 5, "sparsity_freeze_epoch": 5}, 0.0, 0, None),
        ({"schedule": "multistep"}, 0.1, 0, None),
        ({"schedule": "adaptive", "sparsity_freeze_epoch": 3}, 0.0, 1, None),
        ({}, 0.5, 0, None),
        ({}, 0.0, 1, None),
    ],
)
def test_schedules_that_lead_nowhere_are_told(params: dict, initial: float, lag: int, part: str | None) -> None:
    told = SparsitySchedule(**params).idle("polynomial", initial, lag)
    assert len(told) == (part is not None)
    if part is not None:
        assert re.search(part, told[0])


def test_a_schedule_goes_on_from_its_state() -> None:
    schedule = SparsitySchedule(sparsity_target_epoch=4, update_per_optimizer_step=True)
    whole, first, second = Levels(), Levels(), Levels()
    schedulers = [SparsityScheduler(each, schedule, "polynomial", 0.0) for each in (whole, first, second)]

    def epochs(scheduler: SparsityScheduler, count: int) -> None:
        for _ in range(count):
            scheduler.epoch_step()
            for _ in range(3):
                scheduler.step()

    epochs(schedulers[0], 4)
    epochs(schedulers[1], 2)
    schedulers[2].load_state(schedulers[1].get_state())
    epochs(schedulers[2], 2)
    assert first.asked + second.asked == whole.asked


class Constant(CompressionLoss):
    def __init__(self, value: float) -> None:
        self.value = value

    def calculate(self, *args: Any, **kwargs: Any) -> float:
        return self.value


class Controller(CompressionAlgorithmController):
    """An algorithm with a rate of its own, or without."""

    def __init__(self, name: str, loss: float, stage: CompressionStage, rate: float | None = None) -> None:
        super().__init__(object())
        self.name, self._loss, self._stage, self.rate = name, Constant(loss), stage, rate
        self._scheduler = CompressionScheduler()
        self.stripped = False

    @property
    def loss(self) -> CompressionLoss:
        return self._loss

    @property
    def scheduler(self) -> CompressionScheduler:
        return self._scheduler

    @property
    def has_rate(self) -> bool:
        return self.rate is not None

    @property
    def compression_rate(self) -> float:
        return self.rate or 0.0

    @compression_rate.setter
    def compression_rate(self, value: float) -> None:
        self.rate = value

    def compression_stage(self) -> CompressionStage:
        return self._stage

    def statistics(self, quickly_collected_only: bool = False) -> NNCFStatistics:
        found = SparsifiedModelStatistics(0.5, 0.6)
        return NNCFStatistics.of(self.name, MagnitudeSparsityStatistics(found, 0.7))


FULL, PART, NONE = (
    CompressionStage.FULLY_COMPRESSED,
    CompressionStage.PARTIALLY_COMPRESSED,
    CompressionStage.UNCOMPRESSED,
)


def test_stages_merge() -> None:
    assert [a + b for a in (NONE, PART, FULL) for b in (NONE, PART, FULL)] == [
        NONE, PART, PART, PART, PART, PART, PART, PART, FULL,
    ]  # fmt: skip


def test_several_controllers_are_one() -> None:
    children = [Controller("magnitude_sparsity", 1.5, FULL, 0.4), Controller("mine", 2.0, PART)]
    both = CompositeController(object(), children)
    assert both.loss() == 3.5
    both.scheduler.epoch_step()
    both.scheduler.step()
    assert all(child.scheduler.current_epoch == child.scheduler.current_step == 0 for child in children)
    assert both.compression_stage() == PART
    both.compression_rate = 0.6
    assert (both.compression_rate, children[0].rate) == (0.6, 0.6)
    statistics = both.statistics()
    assert statistics.magnitude_sparsity is not None
    assert set(statistics.others) == {"mine"}
    assert "Target sparsity level" in statistics.to_str()
    other = CompositeController(object(), [Controller("magnitude_sparsity", 1.5, FULL, 0.4)])
    other.load_states(both.states())
    assert other.scheduler.get_state() == both.scheduler.get_state()


def test_tables_are_aligned() -> None:
    assert table("T", [("a", 0.5), ("longer", 2)], ("Name", "N")).splitlines() == [
        "T", "Name   | N", "-------+------", "a      | 0.500", "longer | 2",
    ]  # fmt: skip


class Trained:
    """Tensors that are numbers."""

    def __init__(self) -> None:
        self.value = 0.0

    def tensors(self) -> float:
        return self.value

    def load_tensors(self, tensors: float) -> None:
        self.value = tensors


def looped(mode: str, accuracy_of: Any, stage: Any = lambda _: FULL, **params: Any) -> tuple[Any, Controller, Trained]:
    """Run a loop whose model has the accuracy that a function of rate and epoch gives."""
    controller, trained = Controller("magnitude_sparsity", 0.0, FULL, 0.5), Trained()
    controller.attach(trained)  # type: ignore[arg-type]
    config = {"accuracy_aware_training": {"mode": mode, "params": params}}
    loop = create_accuracy_aware_training_loop(config, controller, 0.9, verbose=False)

    def epoch(control: Controller, model: Any, epoch: int, optimizer: Any, lr_scheduler: Any) -> None:
        control._stage = stage(epoch)
        trained.value = epoch + 1

    loop.run("model", epoch, lambda model, epoch: accuracy_of(controller.rate, trained.value))
    return loop, controller, trained


def test_early_exit_stops_when_accuracy_is_within_the_limit() -> None:
    loop, _, trained = looped(
        "early_exit",
        lambda _rate, epochs: 0.8 + 0.02 * epochs,
        lambda epoch: FULL if epoch >= 1 else PART,
        maximal_absolute_accuracy_degradation=0.03,
        maximal_total_epochs=20,
    )
    assert isinstance(loop, EarlyExitCompressionTrainingLoop)
    assert trained.value == 4
    assert loop.statistics.accuracy_budget == pytest.approx(0.01)
    assert "compressed accuracy" in loop.statistics.to_str()


def test_early_exit_chooses_the_best_that_there_was() -> None:
    loop, _, trained = looped(
        "early_exit",
        lambda _rate, epochs: 0.7 - abs(epochs - 3) / 10,
        maximal_relative_accuracy_degradation=1.0,
        maximal_total_epochs=6,
    )
    assert trained.value == 3
    assert loop.statistics.relative_accuracy_degradation == pytest.approx(100 * 0.2 / 0.9)


@pytest.mark.parametrize("most", [0.62, 0.78, 0.35])
def test_the_largest_rate_within_the_limit_is_found(most: float) -> None:
    loop, controller, _ = looped(
        "adaptive_compression_level",
        lambda rate, _epochs: 0.9 if rate <= most else 0.5,
        maximal_absolute_accuracy_degradation=0.01,
        initial_training_phase_epochs=1,
        patience_epochs=2,
        maximal_total_epochs=40,
    )
    assert isinstance(loop, AdaptiveCompressionTrainingLoop)
    assert most - 0.1 < loop.statistics.compression_rate <= most
    assert loop.statistics.compressed_accuracy == 0.9
    assert controller.scheduler.current_epoch == -1


def test_rates_of_algorithms_without_one_are_not_looked_for() -> None:
    config = {
        "accuracy_aware_training": {
            "mode": "adaptive_compression_level",
            "params": {
                "maximal_absolute_accuracy_degradation": 0.01,
                "initial_training_phase_epochs": 1,
                "patience_epochs": 1,
            },
        }
    }
    with pytest.raises(ValidationError, match="'early_exit'"):
        AdaptiveCompressionTrainingLoop(config, Controller("a", 0.0, FULL), 0.9)
    with pytest.raises(ValidationError, match="no section"):
        create_accuracy_aware_training_loop({}, Controller("a", 0.0, FULL), 0.9)


CASE = samples.perceptron()


def test_backends_without_masks_refuse_them_by_name() -> None:
    model = CASE.model()
    graph = NumpyGraphBuilder().build(model)
    name = next(iter(CASE.weights))
    for edit in (InsertMask(name, np.ones(CASE.weights[name].shape)), FoldMask(name)):
        with pytest.raises(UnsupportedBackendError, match=f"numpy models are not trained.*{name}"):
            NumpyTargetPointInserter().apply(model, graph, [edit], {})


def test_thresholds_cut_off_small_numbers() -> None:
    model = CASE.model()
    node = next(iter(NumpyGraphBuilder().build(model)))
    before = next(iter(CASE.model().run(CASE.feeds[0]).values()))
    graph = NumpyGraphBuilder().build(model)
    made = NumpyTargetPointInserter().apply(model, graph, [InsertThreshold(TargetPoint(node.name), 1e9)], {})
    assert before.shape == next(iter(made.run(CASE.feeds[0]).values())).shape
    operation = next(each for each in made.operations if each.type == "Threshold")
    assert made.constants[operation.inputs[1]] == np.float32(1e9)


def test_numbers_of_masks_must_be_finite() -> None:
    graph = NumpyGraphBuilder().build(CASE.model())
    name = next(iter(CASE.weights))
    with pytest.raises(PluginError, match="NaN"):
        list(checked_edits("a", [InsertMask(name, np.full(CASE.weights[name].shape, np.nan))], graph))
    with pytest.raises(PluginError, match="no constant"):
        list(checked_edits("a", [FoldMask("nothing")], graph))


class Exclusive(Scale):
    """Does nothing unless a model is trained, and not beside another."""

    only_trains = True
    excludes: Mapping[str, str] = {"scale": "one is enough"}


class Delegating(Scale):
    """Lets another do its work."""

    def __init__(self, other: str) -> None:
        super().__init__("delegating")
        self.to = other

    def delegates(self, params: Any) -> list[dict[str, Any]]:
        return [{"algorithm": self.to, "factor": 3.0}]


@pytest.fixture
def algorithms() -> Iterator[None]:
    made = [Scale(), Exclusive("exclusive"), Delegating("scale")]
    with registered(Recorder().plugin, "recorder"), registered(module(nncf_algorithms=made), "algorithms"):
        yield


@pytest.mark.usefixtures("algorithms")
def test_what_cannot_be_together_is_refused_when_the_config_is_read() -> None:
    for names in (("exclusive", "scale"), ("scale", "exclusive")):
        with pytest.raises(ValidationError, match="cannot be in the same config: one is enough"):
            nncf.NNCFConfig.from_dict({"compression": [{"algorithm": name} for name in names]})
    with pytest.raises(ValidationError, match="'exclusive' acts while a model is trained"):
        run({"compression": {"algorithm": "exclusive"}}, CASE.model())
    with pytest.raises(UnsupportedBackendError, match="not trained"):
        assemble({"compression": {"algorithm": "exclusive"}}, CASE.model())


@pytest.mark.usefixtures("algorithms")
def test_an_algorithm_that_delegates_has_its_work_done_by_others() -> None:
    plan = run({"compression": {"algorithm": "delegating", "factor": 5.0}}, CASE.model()).plan
    direct = run({"compression": {"algorithm": "scale", "factor": 3.0}}, CASE.model()).plan
    assert plan.entries == direct.entries
    assert plan.entries


@pytest.mark.usefixtures("algorithms")
def test_what_work_is_delegated_to_must_be_installed() -> None:
    class Lost(Delegating):
        def __init__(self) -> None:
            super().__init__("nowhere")
            self.name = "lost"

    with (
        registered(module(nncf_algorithms=[Lost()]), "lost"),
        pytest.raises(ValidationError, match="lets 'nowhere' do its work"),
    ):
        run({"compression": {"algorithm": "lost"}}, CASE.model())
