"""A network with a layer that 8 bits destroy, in each framework: the drop is kept, and so are most quantizers."""

from __future__ import annotations

import json

import numpy as np
import pytest
from torch import nn

import nncf
from tests.algorithms.accuracy_control.networks import (
    FRAMEWORKS,
    ITEMS,
    Accuracy,
    controlled,
    datasets,
    digits,
    in_framework,
    labelled,
    metric,
    quantizers,
    scores,
)
from tests.variants import variants


def plain(framework: str, *fragile: int) -> object:
    return nncf.quantize(in_framework(digits(*fragile), framework), datasets(framework)[0])


@pytest.mark.parametrize("per_item", [False, True], ids=["metric", "items"])
@pytest.mark.parametrize("framework", variants(FRAMEWORKS, "onnx"))
def test_within_the_drop_with_most_quantizers(framework: str, per_item: bool, tmp_path) -> None:
    function = Accuracy(per_item)
    result = controlled(framework, function, 1, restorer={"sensitivity_report_dir": str(tmp_path)})
    before, quantized = metric(in_framework(digits(1), framework)), plain(framework, 1)
    assert metric(quantized) < before - 0.05
    assert metric(result) >= before - 0.01
    assert function.full == 3
    assert isinstance(result, type(in_framework(digits(1), framework)))
    report = json.loads((tmp_path / "sensitivity.json").read_text())
    assert report["kept"] >= 0.8 * report["quantizers"]
    assert report["result"] == metric(result)
    assert report["quantized"] == pytest.approx(metric(quantized), abs=0.02)
    assert quantizers(result, framework) >= 0.8 * quantizers(quantized, framework)
    assert (report["validations"], report["partial_validations"]) == (3, len(function.calls) - 3)
    # hits and misses are too coarse: outputs are compared, without the function
    assert report["measure"] == "error of outputs"
    assert sum(function.calls) <= 3 * ITEMS + 2 * 16


@pytest.mark.parametrize(("framework", "kind"), [("onnx", "DeployedSession"), ("openvino", "CompiledModel")])
def test_the_function_gets_models_as_users_run_them(framework: str, kind: str) -> None:
    function = Accuracy()
    controlled(framework, function, max_drop=1)
    assert set(function.models) == {kind}


def test_the_session_can_be_serialized_as_scripts_for_the_reference_do() -> None:
    import onnx
    import onnxruntime

    accuracy = Accuracy()

    def function(model, items):
        assert isinstance(model, onnxruntime.InferenceSession)
        assert onnx.load_model_from_string(model.SerializeToString()).graph.node == model.graph.node
        assert not hasattr(model, "no_such_name")
        return accuracy(onnxruntime.InferenceSession(model.SerializeToString()), items)

    controlled("onnx", function, max_drop=1)
    assert accuracy.full == 2


def test_modules_are_in_evaluation_mode() -> None:
    modes = []

    def function(model, items):
        modes.append((isinstance(model, nn.Module), model.training))
        return 1.0

    controlled("torch", function)
    assert set(modes) == {(True, False)}


@pytest.mark.parametrize("framework", variants(FRAMEWORKS, "onnx"))
def test_reverting_everything_gives_the_outputs_of_the_original(framework: str) -> None:
    result = controlled(framework, Accuracy(), 1, 4, max_drop=0.0, restorer={"restore_mode": "only_activations"})
    before = in_framework(digits(1, 4), framework)
    assert metric(result) >= metric(before) - 0.03  # weights stay in 8 bits


def test_several_fragile_layers_take_no_more_validations() -> None:
    function = Accuracy()
    result = controlled("onnx", function, 0, 1, 3, 4, 5)
    assert metric(result) >= metric(in_framework(digits(0, 1, 3, 4, 5), "onnx")) - 0.01
    assert function.full <= 4  # one by one: 2 + 5


def test_outputs_that_the_function_gives() -> None:
    calls = []

    def function(model, items):
        found = [(scores(model, image), label) for image, label in items]
        calls.append(len(found))
        return float(np.mean([a.argmax() == b for a, b in found])), [[a] for a, _ in found]

    result = controlled("onnx", function, 1, inputs=False)
    assert metric(result) >= metric(in_framework(digits(1), "onnx")) - 0.01
    assert calls.count(ITEMS) == 3


def test_items_that_are_no_inputs_are_ranked_by_the_metric() -> None:
    function = Accuracy()
    result = controlled("onnx", function, 1, inputs=False)
    assert metric(result) >= metric(in_framework(digits(1), "onnx")) - 0.01
    assert function.full <= 4
    assert function.calls.count(40) > 5


def test_the_same_model_whatever_the_number_of_threads() -> None:
    one, two = (
        controlled("onnx", Accuracy(True), 1, inputs=False, restorer={"num_ranking_workers": workers})
        for workers in (1, 2)
    )
    default = controlled("onnx", Accuracy(True), 1, inputs=False)
    assert one.SerializeToString() == two.SerializeToString() == default.SerializeToString()


def test_the_relative_drop() -> None:
    original = metric(in_framework(digits(1), "onnx"))
    lost = original - metric(plain("onnx", 1))
    function = Accuracy()
    controlled("onnx", function, 1, drop_type=nncf.DropType.RELATIVE, max_drop=lost / original + 1e-6)
    assert function.full == 2
    function = Accuracy()
    controlled("onnx", function, 1, drop_type=nncf.DropType.RELATIVE, max_drop=lost * 0.9)
    assert function.full > 2


def test_the_models_that_are_given_stay_as_they_are() -> None:
    model = in_framework(digits(1), "onnx")
    before = model.SerializeToString()
    calibration, validation = datasets("onnx")
    nncf.quantize_with_accuracy_control(model, calibration, validation, Accuracy())
    assert model.SerializeToString() == before
    assert len(labelled()) == ITEMS
