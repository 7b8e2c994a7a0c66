"""What users are told of arguments and sections that are not acceptable: what is wrong, where, and what to do."""

from __future__ import annotations

import types
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nncf
from nncf_core import errors
from nncf_core.accuracy import accuracy_control_config
from nncf_core.advanced import FP8QuantizationParameters, QuantizationParameters
from nncf_core.config.nncf_config import NNCFConfig
from nncf_core.contracts import Context
from nncf_core.dataset import Dataset
from nncf_core.lazy import plugin_module
from nncf_core.numerics.arrays import dtype_of
from nncf_core.numerics.formats import scheme_for
from nncf_core.numerics.packing import pack, unpack
from nncf_core.numerics.quantizer import Quantizer
from nncf_core.pipeline import run
from nncf_core.plugin_templates import write_plugin
from nncf_core.statistics import StatisticsRequest
from nncf_core.testing import registered
from nncf_core.testing.numpy_backend import samples
from nncf_core.training.accuracy_aware import EarlyExitCompressionTrainingLoop
from nncf_core.training.assembling import assemble
from nncf_core.training.composite import CompositeController
from nncf_core.training.control import share_of
from nncf_core.training.pruning import batch_norm_adaptation, prune, section_for
from nncf_core.training.pruning_schedulers import (
    ExponentialMagnitudePruningScheduler,
    MultiStepMagnitudePruningScheduler,
    RBLoss,
)
from nncf_core.training.quantization_section import convert_quantization_parameters_to_dict
from nncf_core.training.sparsity_schedules import SparsitySchedule
from nncf_core.transformations import PointKind, TargetPoint
from tests.core.pipeline_doubles import Recorder, Scale, module
from tests.core.test_training import FULL, Controller

CASE = samples.perceptron()
LOCAL = nncf.PruneMode.UNSTRUCTURED_MAGNITUDE_LOCAL


def model() -> Any:
    return CASE.make(CASE.weights)


def backend() -> AbstractContextManager[None]:
    """While this lasts, models of the toy framework are known."""
    return registered(Recorder().plugin, "toy")


ROWS: dict[str, tuple[Callable[[], Any], type[Exception], list[str]]] = {
    "parameters of quantize": (
        lambda: nncf.quantize(model(), Dataset(CASE.feeds), advanced_parameters={"a": 1}),  # type: ignore[arg-type]
        errors.ValidationError, ["advanced_parameters is {'a': 1}", "give nncf.AdvancedQuantizationParameters("],
    ),
    "dataset": (
        lambda: Dataset(5), errors.UnsupportedDatasetError,  # type: ignore[arg-type]
        ["A int cannot be iterated", "give a list, a data loader, or a generator"],
    ),
    "plugin that hides a package": (
        lambda: write_plugin("algorithm", "json", None),  # type: ignore[arg-type]
        errors.ValidationError, ["Python package 'json' already", "choose another name"],
    ),
    "transform function": (
        lambda: Dataset([1], "x"), errors.UnsupportedDatasetError,
        ["transform_func is a str", "give a function that makes a model's input of an item"],
    ),
    "index that is no integer": (
        lambda: list(Dataset([1]).get_data(["a"])), errors.ValidationError,
        ["Dataset indices must be integers", "'str'"],
    ),
    "negative index": (
        lambda: list(Dataset([1]).get_data([0, -2])), errors.ValidationError,
        ["Dataset indices must not be negative: -2"],
    ),
    "strip format": (
        lambda: nncf.strip(model(), strip_format="thin"), errors.ValidationError,
        ["No strip format is named 'thin'", "installed are dequantize"],
    ),
    "model of no backend": (
        lambda: nncf.compress_weights({"weights": [1]}), errors.UnsupportedBackendError,
        ["No installed backend reads models of type builtins.dict", "Installed backends: "],
    ),
    "mode": (
        lambda: scheme_for("int5_sym"), errors.ValidationError,
        ["Unknown compression mode 'int5_sym'", "known modes: "],
    ),
    "8-bit floats of a section": (
        lambda: convert_quantization_parameters_to_dict(FP8QuantizationParameters()),
        errors.ParameterNotSupportedError, ["'quantization' has integers only", "leave out FP8 parameters"],
    ),
    "narrow range of a section": (
        lambda: convert_quantization_parameters_to_dict(QuantizationParameters(narrow_range=True)),
        errors.ParameterNotSupportedError, ["'quantization' has no narrow_range", "leave it out"],
    ),
    "statistic": (
        lambda: StatisticsRequest(TargetPoint("a", PointKind.INPUT, 0), "average"), errors.ValidationError,
        ["Unknown statistic 'average'", "known are "],
    ),
    "scope": (
        lambda: nncf.compress_weights(model(), ignored_scope=["a"]), errors.ValidationError,
        ["ignored_scope is ['a']", "give nncf.IgnoredScope(names=[...])"],
    ),
    "LoRA twice": (
        lambda: nncf.compress_weights(
            model(), lora_correction=True, compression_format=nncf.CompressionFormat.FQ_LORA
        ),
        errors.ValidationError, ["lora_correction", "leave out one of the two"],
    ),
    "data for nothing": (
        lambda: nncf.compress_weights(model(), dataset=Dataset([1])), errors.ParameterNotSupportedError,
        ["int8_asym is data-free", "leave out the dataset"],
    ),
    "restorer": (
        lambda: accuracy_control_config(restorer=3), errors.ValidationError,
        ["advanced_accuracy_restorer_parameters is 3", "nncf.AdvancedAccuracyRestorerParameters("],
    ),
    "iterations": (
        lambda: nncf.AdvancedAccuracyRestorerParameters(max_num_iterations=-1), errors.ValidationError,
        ["max_num_iterations is -1", "an integer of at least 0"],
    ),
    "threshold": (
        lambda: nncf.quantization.advanced_parameters.AdvancedBiasCorrectionParameters(threshold=-1.0),
        errors.ValidationError, ["threshold is -1.0", "a number of at least 0"],
    ),
    "a structure": (
        lambda: NNCFConfig().register_extra_structs([3]), errors.ValidationError,
        ["3 is no extra structure", "derive its class from ExtraStruct"],
    ),
    "scales": (
        lambda: Quantizer(np.ones(2), np.zeros(3), 0, 255), errors.ValidationError,
        ["scales of shape (2,), zero points of shape (3,)", "with one both have one dimension"],
    ),
    "a scale": (lambda: Quantizer(-1.0, 0, 0, 255), errors.ValidationError, ["must be finite and positive"]),
    "a zero point": (lambda: Quantizer(1.0, 300, 0, 255), errors.ValidationError, ["must lie within 0 and 255"]),
    "8-bit floats": (
        lambda: Quantizer(1.0, 0, -8, 7, float8="f4"), errors.ValidationError, ["to f4", "f8e4m3", "no zero points"],
    ),
    "bits": (lambda: pack(np.zeros(3, np.uint8), 5), errors.ValidationError, ["Codes of 5 bits", "2, 3, 4, 8 and 16"]),
    "codes": (
        lambda: unpack(np.zeros(1, np.uint8), 4, 3, signed=False), errors.ValidationError,
        ["1 bytes do not hold 3 codes of 4 bits", "2 are needed"],
    ),
    "an element type": (
        lambda: dtype_of(types.SimpleNamespace(dtype="torch.quint8")), errors.ValidationError,  # type: ignore[arg-type]
        ["no element type 'quint8'"],
    ),
    "a plugin": (
        lambda: plugin_module("nncf.none", "no_such_package", "nncf-none"), errors.ModuleNotFoundError,
        ["nncf.none is not installed", "pip install nncf-none"],
    ),
    "a kind of plugin": (
        lambda: write_plugin("model", "my-algo", None), errors.ValidationError,  # type: ignore[arg-type]
        ["no kind of plugin 'model'", "algorithm", "backend"],
    ),
    "a level": (
        lambda: share_of("sparsity_level", 1.0), errors.ValidationError,
        ["sparsity_level is 1.0", "from 0 to below 1"],
    ),
    "levels": (
        lambda: SparsitySchedule(schedule="multistep", multistep_steps=[1, 2]), errors.ValidationError,
        ["multistep_sparsity_levels has 2 levels for 2 epochs", "one more"],
    ),
    "epochs": (
        lambda: SparsitySchedule(multistep_steps=[2, 1]), errors.ValidationError,
        ["multistep_steps is [2, 1]", "ascending order; sort them"],
    ),
    "the beginning": (
        lambda: SparsitySchedule(sparsity_target=0.3).check_initial(0.4),
        errors.ValidationError, ["sparsity_init is 0.4", "sparsity_target 0.3: lower it, or raise that"],
    ),
    "a mode": (
        lambda: section_for("columns"), errors.ValidationError, ["mode is 'columns'", "it must be one of"],
    ),
    "no ratio": (
        lambda: prune(model(), nncf.PruneMode.UNSTRUCTURED_MAGNITUDE_LOCAL), errors.ValidationError,
        ["ratio is None", "a number from 0 to below 1"],
    ),
    "items": (
        lambda: batch_norm_adaptation(model(), Dataset([1]), num_iterations=0), errors.ValidationError,
        ["num_iterations is 0", "an integer from 1"],
    ),
    "a loop": (
        lambda: EarlyExitCompressionTrainingLoop({}, None, 0.5),  # type: ignore[arg-type]
        errors.ValidationError, ['"accuracy_aware_training" of the mode \'early_exit\'', "says None", "Add it"],
    ),
    "no rate": (
        lambda: setattr(CompositeController(object(), []), "compression_rate", 0.5),
        errors.ParameterNotSupportedError, ["None of the algorithms has a compression rate", "leave it as it is"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ROWS)
def test_arguments(name: str) -> None:
    call, kind, parts = ROWS[name]
    with backend(), pytest.raises(kind) as caught:
        call()
    for part in parts:
        assert part in str(caught.value)


TRAINED: dict[str, tuple[Callable[[], Any], type[Exception], list[str]]] = {
    "pruned": (
        lambda: prune(model(), nncf.PruneMode.UNSTRUCTURED_REGULARIZATION_BASED), errors.ParameterNotSupportedError,
        ["models are not trained", "prune them by magnitude, or prune the PyTorch model"],
    ),
    "adapted": (
        lambda: batch_norm_adaptation(model(), Dataset([1])), errors.UnsupportedBackendError,
        ["models are not trained", "give the PyTorch model"],
    ),
    "scheduled": (
        lambda: MultiStepMagnitudePruningScheduler(
            model(), mode=nncf.PruneMode.UNSTRUCTURED_REGULARIZATION_BASED, steps={0: 0.1}
        ),
        errors.InternalError, ["is not by magnitude", "take the RBLoss"],
    ),
    "no first epoch": (
        lambda: MultiStepMagnitudePruningScheduler(model(), mode=LOCAL, steps={1: 0.1}),
        errors.InternalError, ["steps is {1: 0.1}", "0 among them"],
    ),
    "a ratio": (
        lambda: MultiStepMagnitudePruningScheduler(model(), mode=LOCAL, steps={0: 1.0}),
        errors.InternalError, ["steps[0] is 1.0", "from 0 to below 1"],
    ),
    "ends": (
        lambda: ExponentialMagnitudePruningScheduler(
            model(), mode=LOCAL, initial_ratio=0.5, target_ratio=0.2, target_epoch=3
        ),
        errors.InternalError, ["initial_ratio is 0.5", "below target_ratio, 0.2"],
    ),
    "an end": (
        lambda: ExponentialMagnitudePruningScheduler(
            model(), mode=LOCAL, initial_ratio=0.1, target_ratio=0.2, target_epoch=0
        ),
        errors.InternalError, ["target_epoch is 0", "an integer from 1"],
    ),
    "a loss": (
        lambda: RBLoss(model(), 2.0), errors.InternalError, ["target_ratio is 2.0", "from 0 to below 1"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TRAINED)
def test_models_that_are_not_trained(name: str) -> None:
    pytest.importorskip("nncf_magnitude_sparsity")
    pytest.importorskip("nncf_rb_sparsity")
    call, kind, parts = TRAINED[name]
    with backend(), pytest.raises(kind) as caught:
        call()
    for part in parts:
        assert part in str(caught.value)


def test_state_of_another_config() -> None:
    from nncf_core.training.assembling import _check_state

    for state, message in (
        (3, "The compression state is none: controller.get_compression_state.. gives one, with the keys"),
        ({"builder_state": {}, "ctrl_state": {"a": {}}}, "a section for 'a', which this config does not have: go on"),
    ):
        with pytest.raises(errors.ValidationError, match=message):
            _check_state(state, ())  # type: ignore[arg-type]
    assert callable(assemble)


SECTIONS = [
    ([{"algorithm": "gptq"}], "Algorithm 'gptq' refines what another does to weights: put its section behind"),
    (
        [{"algorithm": "accuracy_control"}, {"algorithm": "weight_compression"}],
        "Algorithm 'accuracy_control' decides which edits of the section before it are kept: put its section last",
    ),
]


@pytest.mark.needs("nncf_weight_refinement", "nncf_accuracy_control")
@pytest.mark.parametrize(("sections", "message"), SECTIONS, ids=["refining", "deciding"])
def test_sections_in_the_wrong_place(sections: list[dict[str, Any]], message: str) -> None:
    with backend(), pytest.raises(errors.ValidationError, match=message):
        run({"compression": sections}, model())


def test_methods_that_no_plugin_provides(monkeypatch: pytest.MonkeyPatch) -> None:
    from nncf_core.api import _check_method

    with registered(module(nncf_algorithms=[Scale()]), "scaling"):
        _check_method("awq", False)
        with pytest.raises(errors.ParameterNotSupportedError, match=r"no_such=True needs the algorithm.*leave it out"):
            _check_method("no_such", True)


def test_a_state_that_was_not_run() -> None:
    config = {"accuracy_aware_training": {"mode": "early_exit", "params": {"maximal_total_epochs": 1}}}
    loop = EarlyExitCompressionTrainingLoop(config, None, 0.5)  # type: ignore[arg-type]
    with pytest.raises(errors.ValidationError, match=r"The loop has not run.*call run\(\) first"):
        loop.statistics  # noqa: B018


def test_controllers_with_rates_of_their_own() -> None:
    children = [Controller(name, 0.0, FULL, 0.5) for name in ("mine", "yours")]
    both = CompositeController(object(), children)  # type: ignore[arg-type]
    with pytest.raises(errors.ParameterNotSupportedError, match=r"'mine', 'yours' have compression rates.*set"):
        both.compression_rate = 0.5
    with pytest.raises(errors.InternalError, match="belongs to no model in training"):
        children[0].trained_model  # noqa: B018


def test_what_a_context_lacks() -> None:
    context = Context()
    for call, message in (
        (lambda: context.trial([]), "cannot shrink constants"),
        (lambda: context.part([], []), "no model to take a part of"),
        (lambda: context.hessian_traces([], 1, 1, 0.1), "no loss whose Hessian"),
    ):
        with pytest.raises(errors.UnsupportedBackendError, match=message):
            call()


class Asking(Scale):
    """Asks for what the toy backend does not have."""

    def __init__(self, ask: Callable[[Context], Any], requests: Sequence[StatisticsRequest] = ()) -> None:
        super().__init__()
        self.ask, self.wanted = ask, requests

    def requests(self, graph: Any, params: Any, context: Context, round_index: int) -> Any:
        self.ask(context)
        return self.wanted


@pytest.mark.parametrize(
    ("ask", "kind", "message"),
    [
        (
            lambda context: context.hessian_traces([], 1, 1, 0.1), errors.ParameterNotSupportedError,
            r"Traces of the loss's Hessian cannot be had of .* models; give those of the PyTorch model",
        ),
    ],
)  # fmt: skip
def test_what_a_backend_cannot_do(ask: Callable[[Context], Any], kind: type[Exception], message: str) -> None:
    algorithm = Asking(ask)
    with (
        backend(),
        registered(module(nncf_algorithms=[algorithm]), "asking"),
        pytest.raises(kind, match=message),
    ):
        run({"compression": {"algorithm": "scale"}}, model())


def test_statistics_of_what_is_not_there() -> None:
    request = StatisticsRequest(TargetPoint("last/matmul", PointKind.INPUT, 7), "mean", 0)
    algorithm, data = Asking(lambda _: None, (request,)), Dataset(CASE.feeds)
    with (
        backend(),
        registered(module(nncf_algorithms=[algorithm]), "asking"),
        pytest.raises(errors.NNCFError, match=r"last/matmul:input:7"),
    ):
        run({"compression": {"algorithm": "scale"}}, model(), dataset=data)


def test_plots_need_a_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from nncf_core import plots

    monkeypatch.setattr(plots, "can_plot", lambda: False)
    with pytest.raises(
        errors.ModuleNotFoundError, match=r"Plots need matplotlib; install it: pip install nncf-core.plots."
    ):
        plots.bar_chart(tmp_path / "a.svg", [], [], [], "", "", "")
