"""Faults that the reference (3.4.0) has, each with a test that it is not here."""

from __future__ import annotations

import json

import numpy as np
import pytest

import nncf
from nncf_core.trials import Trial
from tests.algorithms.accuracy_control.networks import (
    Accuracy,
    controlled,
    digits,
    in_framework,
    metric,
    scores,
)


def report_of(folder) -> dict:
    return json.loads((folder / "sensitivity.json").read_text())


@pytest.mark.parametrize("given", [True, False], ids=["outputs of the function", "outputs of the model"])
def test_what_costs_most_comes_first_where_errors_of_outputs_are_compared(given: bool, tmp_path) -> None:
    # there the order was turned round: what cost least was reverted first
    accuracy = Accuracy()

    def function(model, items):
        items = list(items)
        found = accuracy(model, items)
        return (found, [[scores(model, image)] for image, _ in items]) if given else found

    controlled("onnx", function, 1, restorer={"sensitivity_report_dir": str(tmp_path)})
    rows = report_of(tmp_path)["groups"]
    assert report_of(tmp_path)["measure"] == "error of outputs"
    costs = [row["cost"] for row in rows]
    assert costs == sorted(costs, reverse=True)
    assert costs[0] > 5 * costs[1]
    assert [row["rank"] for row in rows if row["reverted"]] == [1]


def test_success_with_the_last_group_is_success(caplog) -> None:
    # every quantizer but those of one group is excluded: to revert it is to revert all
    model = in_framework(digits(1), "onnx")
    fragile = [node.name for node in nncf.build_graph(model) if node.op_type == "Conv"]
    others = [name for name in fragile if name != _fragile(model)]
    scope = nncf.IgnoredScope(names=others, types=["Gemm", "MatMul"], validate=False)
    with caplog.at_level("INFO", "nncf"):
        result = controlled("onnx", Accuracy(), 1, ignored_scope=scope)
    assert metric(result) == metric(model)
    assert "more than max_drop" not in caplog.text
    assert "0 of 3 quantizers kept" in caplog.text or "0 of 2 quantizers kept" in caplog.text


def _fragile(model) -> str:
    graph = nncf.build_graph(model)
    behind = {user.name for node in graph if node.op_type == "Exp" for user in graph.successors(node)}
    return next(node.name for node in graph if node.op_type == "Conv" and node.name in behind)


def test_no_iterations_give_the_quantized_model(caplog) -> None:
    # there: TypeError
    function = Accuracy()
    result = controlled("onnx", function, 1, restorer={"max_num_iterations": 0})
    assert function.full == 2
    assert metric(result) < metric(in_framework(digits(1), "onnx")) - 0.01
    assert "more than max_drop" in caplog.text


def test_one_iteration_is_one_validation() -> None:
    function = Accuracy()
    controlled("onnx", function, 0, 1, 3, 4, 5, max_drop=0.0, restorer={"max_num_iterations": 1})
    assert function.full == 3


def test_groups_are_ranked_as_they_are_reverted(monkeypatch, tmp_path) -> None:
    # there models were ranked with float weights, too, whatever the restore mode
    seen: list[Trial] = []
    deployed = Trial.deployed
    monkeypatch.setattr(Trial, "deployed", lambda self: seen.append(self) or deployed(self))
    settings = {"restore_mode": nncf.quantization.advanced_parameters.RestoreMode.ONLY_ACTIVATIONS}
    controlled("onnx", Accuracy(True), 1, inputs=False, restorer={**settings, "sensitivity_report_dir": str(tmp_path)})
    dropped = {type(trial.trials.edits[index]).__name__ for trial in seen for index in trial.dropped}
    assert dropped == {"InsertQuantizer"}
    assert len([trial for trial in seen if trial.dropped]) > 5


def test_scores_belong_to_all_parameters_together(monkeypatch) -> None:
    # there scores of one step were taken for those of the next, whose other parameters differ
    from nncf_accuracy_control import tuning

    asked: list[str] = []
    rerun = tuning.Trials.rerun

    def kept(self, changes):
        found = rerun(self, changes)
        asked.append(tuning._key(found))
        return found

    monkeypatch.setattr(tuning.Trials, "rerun", kept)
    controlled("onnx", Accuracy(True), 1, inputs=False, restorer={"tune_hyperparams": True}, subset_size=20)
    assert len(asked) == len(set(asked)) >= 15
    assert len(asked) < 30  # the reference makes 360 pipelines


def test_tuning_collects_each_statistic_once(monkeypatch) -> None:
    from nncf_onnx.statistics_aggregator import OnnxStatisticsAggregator

    passes: list[int] = []
    collect = OnnxStatisticsAggregator.collect

    def counted(self, model, graph, requests, inputs):
        if all(request.kind != "tensors" for request in requests):
            passes.append(len(requests))
        return collect(self, model, graph, requests, inputs)

    monkeypatch.setattr(OnnxStatisticsAggregator, "collect", counted)
    quantization = nncf.AdvancedQuantizationParameters(smooth_quant_alpha=-1.0)
    controlled(
        "onnx", Accuracy(), 1, restorer={"tune_hyperparams": True}, subset_size=20,
        advanced_quantization_parameters=quantization,
    )  # fmt: skip
    # for what is given, for all alternatives of ranges together, and for accurate bias correction
    assert len(passes) <= 4


def test_tuning_that_is_enough_reverts_nothing(tmp_path) -> None:
    function = Accuracy()
    quantization = nncf.AdvancedQuantizationParameters(
        activations_range_estimator_params=nncf.quantization.range_estimator.RangeEstimatorParameters(
            max=nncf.quantization.range_estimator.StatisticsCollectorParameters(
                statistics_type="quantile", aggregator_type="mean", quantile_outlier_prob=0.2
            ),
        )
    )
    result = controlled(
        "onnx", function, restorer={"tune_hyperparams": True, "sensitivity_report_dir": str(tmp_path)},
        advanced_quantization_parameters=quantization, subset_size=20,
    )  # fmt: skip
    before = metric(in_framework(digits(), "onnx"))
    assert metric(result) >= before - 0.01
    assert not any(row["reverted"] for row in report_of(tmp_path)["groups"]) or function.full > 3
    assert np.isfinite(report_of(tmp_path)["quantized"])
