"""Functions that fail, that are not deterministic, and runs that are stopped: the best model so far is kept."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import numpy as np
import onnx
import pytest

import nncf
from nncf_accuracy_control import sensitivity
from nncf_core.process import finishing
from nncf_core.trials import Trial, Trials
from nncf_onnx import running
from tests.algorithms.accuracy_control.networks import (
    ITEMS,
    Accuracy,
    controlled,
    datasets,
    digits,
    in_framework,
    labelled,
    metric,
)
from tests.variants import variants


class Broken(Accuracy):
    """Does something else at a whole run, counted from 1."""

    def __init__(self, call: int, instead) -> None:
        super().__init__()
        self.call, self.instead = call, instead

    def __call__(self, model, items):
        items = list(items)
        if len(items) == ITEMS and self.full == self.call - 1:
            return self.instead()
        return super().__call__(model, items)


def _raise(error: BaseException):
    raise error


@pytest.mark.parametrize(
    ("instead", "part"),
    [
        (lambda: _raise(ZeroDivisionError("no boxes")), "fails: ZeroDivisionError: no boxes"),
        (lambda: float("nan"), "gives the metric nan"),
        (lambda: "good", r"gives 'good' \(str\)"),
    ],
    ids=["raises", "nan", "type"],
)
@pytest.mark.parametrize("call", [1, 2, 3])
def test_the_error_carries_the_best_model(call: int, instead, part: str, tmp_path) -> None:
    with pytest.raises(nncf.ValidationFunctionError, match=part) as caught:
        controlled("onnx", Broken(call, instead), 1, restorer={"intermediate_model_dir": str(tmp_path)})
    error = caught.value
    assert isinstance(error, nncf.NNCFError)
    assert "error.best_model" in str(error)
    assert error.best_metric == (None if call < 3 else metric(error.best_model))
    assert metric(error.best_model) == metric(onnx.load(tmp_path / "best.onnx"))
    assert metric(onnx.load(tmp_path / "quantized.onnx")) == metric(error.best_model)
    if part.startswith("fails"):
        assert isinstance(error.__cause__, ZeroDivisionError)


@pytest.mark.parametrize("framework", variants(["openvino", "torch"], "openvino"))
def test_in_other_frameworks(framework: str, tmp_path) -> None:
    with pytest.raises(nncf.ValidationFunctionError) as caught:
        controlled(framework, Broken(3, lambda: None), 1, restorer={"intermediate_model_dir": str(tmp_path)})
    assert metric(caught.value.best_model) == caught.value.best_metric
    assert (tmp_path / "best.xml").is_file() == (framework == "openvino")


@pytest.mark.parametrize("per_item", [False, True])
def test_functions_that_are_not_deterministic(per_item: bool) -> None:
    random = np.random.default_rng(0)

    def function(model, items):
        hits = [float(random.random() < 0.5) for _ in items]
        return (float(np.mean(hits)), hits) if per_item else float(np.mean(hits))

    with pytest.raises(nncf.ValidationFunctionError, match="not deterministic") as caught:
        controlled("onnx", function)
    assert isinstance(caught.value.best_model, onnx.ModelProto)


def test_functions_that_become_random_while_groups_are_ranked() -> None:
    random = np.random.default_rng(0)
    accuracy = Accuracy(True)

    def function(model, items):
        found, hits = accuracy(model, items)
        return (found + random.normal(0, 0.1) if len(accuracy.calls) > 4 else found), hits

    with pytest.raises(nncf.ValidationFunctionError, match="not deterministic"):
        controlled("onnx", function, 1, inputs=False)


class Whole(Accuracy):
    """Takes nothing but all items."""

    def __call__(self, model, items):
        items = list(items)
        if len(items) < ITEMS:
            raise ValueError("too few items for this metric")
        return super().__call__(model, items)


def test_functions_that_take_nothing_but_all_items(tmp_path) -> None:
    part = rf"validation_fn fails: ValueError: too few items for this metric \(on 5 of {ITEMS} items\)\. .*"
    with pytest.raises(nncf.ValidationFunctionError, match=part + f"ranking_subset_size .* to {ITEMS}") as caught:
        controlled("onnx", Whole(), 1, restorer={"intermediate_model_dir": str(tmp_path)})
    assert isinstance(caught.value.__cause__, ValueError)
    assert metric(caught.value.best_model) == caught.value.best_metric == metric(onnx.load(tmp_path / "best.onnx"))
    wanted = metric(in_framework(digits(1), "onnx")) - 0.01
    for inputs in (True, False):
        accuracy = Whole()
        result = controlled("onnx", accuracy, 1, inputs=inputs, restorer={"ranking_subset_size": ITEMS})
        assert metric(result) >= wanted
    # where nothing is ranked, there is nothing to ask about a few items
    controlled("onnx", Whole(), max_drop=0.5)


def test_functions_that_fail_while_groups_are_ranked() -> None:
    accuracy = Accuracy(True)

    def function(model, items):
        if len(accuracy.calls) == 8:
            raise RuntimeError("device lost")
        return accuracy(model, items)

    with pytest.raises(nncf.ValidationFunctionError, match="fails: RuntimeError: device lost") as caught:
        controlled("onnx", function, 1, inputs=False)
    assert metric(caught.value.best_model) == caught.value.best_metric


def test_a_model_that_cannot_be_compiled_does_not_lose_the_best_one(monkeypatch) -> None:
    sessions = []

    def failing(model):
        sessions.append(deployed(model))
        if len(sessions) == 4:  # the original, the quantized one, and the original once more
            raise RuntimeError("out of memory")
        return sessions[-1]

    deployed = running.deployed
    monkeypatch.setattr(running, "deployed", failing)
    part = r"RuntimeError: out of memory\. This was while the quantized model without \d+ of \d+ edits"
    with pytest.raises(nncf.ValidationFunctionError, match=part) as caught:
        controlled("onnx", Accuracy(), 1)
    assert isinstance(caught.value.__cause__, RuntimeError)
    monkeypatch.undo()
    assert metric(caught.value.best_model) == caught.value.best_metric


def test_an_input_that_cannot_be_made_does_not_lose_the_best_model() -> None:
    def inputs(item):
        raise KeyError("image")

    model, items = in_framework(digits(1), "onnx"), nncf.Dataset(labelled(), inputs)
    with pytest.raises(nncf.ValidationFunctionError, match=r"KeyError: 'image'\. .* item 0 of the dataset") as caught:
        nncf.quantize_with_accuracy_control(model, datasets("onnx")[0], items, Accuracy())
    assert metric(caught.value.best_model) == caught.value.best_metric


def test_a_folder_for_the_report_that_cannot_be_written_to_is_known_at_the_start(tmp_path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder" / "sensitivity.svg").mkdir(parents=True)
    for name in ("file", "folder"):
        accuracy = Accuracy()
        with pytest.raises(nncf.InvalidPathError, match=name):
            controlled("onnx", accuracy, restorer={"sensitivity_report_dir": str(tmp_path / name)})
        assert accuracy.calls == []


@pytest.mark.parametrize("error", [OSError("no space"), KeyboardInterrupt()])
def test_a_report_that_is_not_written_does_not_lose_the_model(
    error: BaseException, tmp_path, monkeypatch, caplog
) -> None:
    monkeypatch.setattr(sensitivity, "replacing", lambda path: _raise(error))
    result = controlled("onnx", Accuracy(), max_drop=1, restorer={"sensitivity_report_dir": str(tmp_path)})
    assert isinstance(result, onnx.ModelProto)
    assert "sensitivity report" in caplog.records[-1].getMessage()
    assert caplog.records[-1].levelname == "WARNING"


def test_a_full_disk_does_not_lose_the_best_model(tmp_path, monkeypatch, caplog) -> None:
    save = Trials.save

    def failing(self, trial, folder, stem):
        return _raise(nncf.InvalidPathError("no space")) if stem == "best" else save(self, trial, folder, stem)

    monkeypatch.setattr(Trials, "save", failing)
    with pytest.raises(nncf.ValidationFunctionError) as caught:
        controlled("onnx", Broken(3, lambda: None), 1, restorer={"intermediate_model_dir": str(tmp_path)})
    assert metric(caught.value.best_model) == caught.value.best_metric
    assert "no space" in caplog.text


@pytest.mark.parametrize("framework", variants(["onnx", "torch"], "onnx"))
def test_stopped_runs_give_the_best_model(framework: str, caplog) -> None:
    result = controlled(framework, Broken(3, lambda: _raise(KeyboardInterrupt())), 1)
    assert "Interrupted" in caplog.text
    quantized = controlled(framework, Accuracy(), 1, restorer={"max_num_iterations": 0})
    assert metric(result) == metric(quantized)


def test_stopped_while_groups_are_ranked(caplog) -> None:
    accuracy = Accuracy(True)

    def function(model, items):
        if len(accuracy.calls) == 8:
            raise KeyboardInterrupt
        return accuracy(model, items)

    result = controlled("onnx", function, 1, inputs=False)
    assert "Interrupted" in caplog.text
    assert isinstance(result, onnx.ModelProto)


@pytest.fixture
def interruptible() -> Iterator[None]:
    """SIGINT interrupts, although processes that a shell starts in the background ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_stopped_while_the_model_that_was_found_is_made(monkeypatch, caplog) -> None:
    carried_out = Trial.carried_out

    def stopping(self, working, consume):
        def interrupted(*given):
            signal.raise_signal(signal.SIGINT)
            return consume(*given)

        return carried_out(self, working, consume if consume == self.trials.run._apply else interrupted)

    monkeypatch.setattr(Trial, "carried_out", stopping)
    result = controlled("onnx", Accuracy(), max_drop=1)
    assert isinstance(result, onnx.ModelProto)
    assert "is being made" in caplog.text
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    monkeypatch.undo()
    with finishing("nothing"):
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_stopped_before_any_model_is_known() -> None:
    with pytest.raises(KeyboardInterrupt):
        controlled("onnx", Broken(1, lambda: _raise(KeyboardInterrupt())), 1)


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        ({"max_drop": -1}, "max_drop"),
        ({"max_drop": "0.01"}, "max_drop"),
        ({"drop_type": "some"}, "drop_type"),
    ],
)
def test_bad_arguments(arguments: dict, part: str) -> None:
    with pytest.raises(nncf.ValidationError, match=part):
        controlled("onnx", Accuracy(), **arguments)


def test_bad_functions_and_data() -> None:
    data = nncf.Dataset([1])
    with pytest.raises(nncf.ValidationError, match="validation_fn"):
        nncf.quantize_with_accuracy_control(object(), data, data, 3)
    with pytest.raises(nncf.UnsupportedDatasetError, match="validation dataset"):
        nncf.quantize_with_accuracy_control(object(), data, [1], print)
    with pytest.raises(nncf.UnsupportedDatasetError, match=r"nncf\.Dataset"):
        nncf.quantize_with_accuracy_control(object(), [1], data, print)
    with pytest.raises(nncf.ValidationError, match="ranking_subset_size"):
        nncf.AdvancedAccuracyRestorerParameters(ranking_subset_size=0)
    with pytest.raises(nncf.ValidationError, match="max_num_iterations"):
        nncf.AdvancedAccuracyRestorerParameters(max_num_iterations=-1)
