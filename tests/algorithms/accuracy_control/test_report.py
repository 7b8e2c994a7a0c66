"""The sensitivity report."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET

import pytest

import nncf
from nncf_core.api import quantize_config
from nncf_core.errors import ModuleNotFoundError
from nncf_core.pipeline import Validation, make_plan, run
from nncf_core.plots import bar_chart
from tests.algorithms.accuracy_control.networks import (
    Accuracy,
    controlled,
    datasets,
    digits,
    in_framework,
    labelled,
)


def report_of(folder) -> dict:
    return json.loads((folder / "sensitivity.json").read_text())


def test_also_when_nothing_has_to_be_reverted(tmp_path, caplog) -> None:
    function = Accuracy()
    with caplog.at_level("INFO", "nncf"):
        controlled("onnx", function, max_drop=1, restorer={"sensitivity_report_dir": str(tmp_path)})
    report = report_of(tmp_path)
    assert function.full == 2
    assert (
        report["kept"]
        == report["quantizers"]
        == sum(len(row["quantizers"]) + len(row["weights"]) for row in report["groups"])
    )
    assert not any(row["reverted"] for row in report["groups"])
    assert "Cost (error of outputs)" in caplog.text


@pytest.mark.parametrize("framework", ["onnx", "openvino"])
def test_the_ignored_scope_leaves_out_the_group(framework: str, tmp_path) -> None:
    controlled(framework, Accuracy(), 1, restorer={"sensitivity_report_dir": str(tmp_path)})
    model, data = in_framework(digits(1), framework), datasets(framework)[0]

    def targets(scope) -> set[str]:
        plan, _ = make_plan(quantize_config(ignored_scope=scope), model, dataset=data)
        return {entry.target for entry in plan.entries if entry.action in ("quantize", "compress")}

    everything = targets(None)
    for row in report_of(tmp_path)["groups"][:3]:
        left = targets(nncf.IgnoredScope(**row["ignored_scope"]))
        assert not left & {*row["weights"]}
        group = {*row["quantizers"], *row["weights"]}
        # what an excluded operator gives is quantized where it is taken, if others want it so
        assert everything - left <= group | {t for t in everything if t.endswith(":output:0")}
        assert {t.partition(":")[0] for t in left}.isdisjoint(row["ignored_scope"]["names"])


def test_two_runs_leave_the_same_bytes(tmp_path) -> None:
    for name in ("a", "b"):
        controlled("onnx", Accuracy(), 1, restorer={"sensitivity_report_dir": str(tmp_path / name)})
    for file in (tmp_path / "a").iterdir():
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes()


@pytest.mark.needs("matplotlib")
def test_the_plot_is_a_picture_of_the_same_bytes_each_time(tmp_path) -> None:
    arguments = (["conv/1", "conv/2"], [0.5, -0.1], [True, False], "What quantizers cost", "metric", "left out")
    for name in ("a.svg", "b.svg"):
        bar_chart(tmp_path / name, *arguments)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    text = "".join(ET.parse(tmp_path / "a.svg").getroot().itertext())
    assert "conv/2" in text
    assert "left out" in text
    with pytest.raises(nncf.InvalidPathError):
        bar_chart(tmp_path / "missing" / "a.svg", *arguments)


def test_without_matplotlib_a_plot_says_what_to_install(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("nncf_core.plots.can_plot", lambda: False)
    with pytest.raises(ModuleNotFoundError, match=r"nncf-core\[plots\]"):
        bar_chart(tmp_path / "a.svg", [], [], [], "", "", "")


def test_a_config_runs_it_too_and_needs_a_function() -> None:
    config = quantize_config(subset_size=50)
    config["compression"].append({"algorithm": "accuracy_control", "max_drop": 0.01})
    model, (calibration, validation) = in_framework(digits(1), "onnx"), datasets("onnx")
    with pytest.raises(nncf.ValidationError, match="validation=Validation"):
        run(config, model, dataset=calibration)
    result = run(config, model, dataset=calibration, validation=Validation(Accuracy(), validation))
    assert any("quantizers kept, after 3 validations" in note for note in result.report.notes)
    compressed = [entry for entry in result.plan.entries if entry.action == "compress"]
    assert len(compressed) == sum(share.layers for share in result.report.shares if "int8" in share.label)
    for wrong in (config["compression"][-1:], [*config["compression"], {"algorithm": "channel_alignment"}]):
        with pytest.raises(nncf.ValidationError, match="put its section last"):
            run({"compression": wrong}, model, dataset=calibration, validation=Validation(Accuracy(), validation))


def test_weights_alone_can_be_controlled() -> None:
    config = {
        "compression": [
            {"algorithm": "weight_compression", "mode": "int4_sym", "group_size": 32, "all_layers": True},
            {"algorithm": "accuracy_control", "max_drop": 0.0},
        ]
    }
    model, (_, validation) = in_framework(digits(), "onnx"), datasets("onnx")
    result = run(config, model, validation=Validation(Accuracy(), validation))
    before, after = (Accuracy()(_session(m), labelled()) for m in (model, result.model))
    assert after >= before


def _session(model):
    import onnxruntime

    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


def test_large_reports_fit(tmp_path) -> None:
    from nncf_accuracy_control.sensitivity import Summary, table

    rows = [
        {
            "cost": 1 / (i + 1),
            "reverted": i < 2,
            "quantizers": ["q"],
            "weights": [],
            "ignored_scope": {"names": ["n" * 200]},
        }
        for i in range(100)
    ]
    text = table(rows, Summary("metric", 10, 1.0, 0.5, 0.99, 0.01, 3, 4, 100, 98))
    assert max(map(len, text.splitlines())) < 120
    assert "and 80 groups that cost less" in text
