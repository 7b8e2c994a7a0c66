"""Runs after which a model is as large and as slow as before say so, and why: in the terminal and in the report."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from nncf_core.cli import main
from tests.cli.models import onnx_model, openvino_model, rows

pytestmark = pytest.mark.needs("onnx", "nncf_onnx", "nncf_weight_compression", "nncf_post_training_quantization")

SMALL = "what the runtime could compute with integers is left in floating point, as layers so small that integers would"
SCOPE = "the ignored or target scope leaves out all that the runtime could compute with integers"


def nncf(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def relu(path: Path) -> Path:
    """A model without weights."""
    import onnx
    from onnx import TensorProto, helper

    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 64]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"], name="relu")], "g", [x], [y])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), path)
    return path


CASES = {
    "small layers": ("quantize", onnx_model, [], f"Nothing is quantized: {SMALL}"),
    "no operators": ("quantize", relu, [], "Nothing is quantized: the model has no operator that its runtime"),
    "scope": ("quantize", onnx_model, ["--ignore-pattern", "layer.*"], f"Nothing is quantized: {SCOPE}"),
    "no weights": ("compress-weights", relu, [], "No weight is compressed: the model has no layers with weights."),
    "scope of weights": (
        "compress-weights", onnx_model, ["--ignore-pattern", ".*"],
        "No weight is compressed: the ignored scope leaves out all of them.",
    ),
}  # fmt: skip


def test_the_command_is_advised(tmp_path: Path) -> None:
    model = relu(tmp_path / "model.onnx")
    np.savez(tmp_path / "data.npz", x=rows(8))
    result = nncf("quantize", model, "-o", tmp_path / "small.onnx", "--dataset", tmp_path / "data.npz")
    assert "nncf compress-weights" in result.stdout


@pytest.mark.usefixtures("measured_sizes")
@pytest.mark.parametrize("name", CASES)
def test_it_is_said(name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    command, make, options, said = CASES[name]
    model = make(tmp_path / "model.onnx")
    np.savez(tmp_path / "data.npz", x=rows(8))
    data = ["--dataset", tmp_path / "data.npz"] if command == "quantize" else []
    for report in ("report.html", "report.json"):
        caplog.clear()
        arguments = [model, "-o", tmp_path / "small.onnx", "--report", tmp_path / report, *data, *options]
        result = nncf(command, *arguments)
        assert result.exit_code == 0
        assert said in result.stdout
        assert [record.levelname for record in caplog.records if said in record.getMessage()] == ["WARNING"]
    assert said in (tmp_path / "report.html").read_text()
    assert any(note.startswith(said) for note in json.loads((tmp_path / "report.json").read_text())["notes"])


@pytest.mark.needs("nncf_openvino")
def test_weights_that_were_compressed_before(tmp_path: Path) -> None:
    model, small = openvino_model(tmp_path / "model.xml"), tmp_path / "small.xml"
    assert "No weight is compressed" not in nncf("compress-weights", model, "-o", small).stdout
    result = nncf("compress-weights", small, "-o", tmp_path / "smaller.xml")
    assert result.exit_code == 0
    assert "they may have been compressed before" in result.stdout


def ran(tmp_path: Path, caplog: pytest.LogCaptureFixture, config: dict[str, object]) -> tuple[Result, list[str]]:
    """What the command says of a config, and what its log warns of."""
    (tmp_path / "config.json").write_text(json.dumps(config))
    caplog.clear()
    model = onnx_model(tmp_path / "model.onnx")
    report = ["--report", tmp_path / "report.json"]
    result = nncf("run", tmp_path / "config.json", model, "-o", tmp_path / "small.onnx", *report)
    assert result.exit_code == 0, result.output
    return result, [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]


def test_a_config_that_changes_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    said = "Nothing is changed: no edit comes of channel_alignment with this model and these settings."
    result, warnings = ran(tmp_path, caplog, {"compression": {"algorithm": "channel_alignment"}})
    assert said in result.stdout
    assert warnings == [said]
    assert json.loads((tmp_path / "report.json").read_text())["notes"] == [said]


def test_why_nothing_is_changed_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    section = {"algorithm": "weight_compression", "ignored_scope": {"patterns": [".*"]}}
    result, warnings = ran(tmp_path, caplog, {"compression": section})
    assert "No weight is compressed" in result.stdout
    assert "Nothing is changed" not in result.stdout
    assert len(warnings) == 1


def test_keys_that_mean_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = {"foo": 2, "log_dir": "logs", "compression": {"algorithm": "weight_compression"}}
    assert ran(tmp_path, caplog, config)[1] == ["Keys of the config that have no effect in this run: log_dir, foo."]


@pytest.mark.needs("nncf_magnitude_sparsity")
def test_zeros_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    section = {"algorithm": "magnitude_sparsity", "params": {"sparsity_target": 0.25}}
    assert "25.0% of the elements of 3 weights are zeros." in ran(tmp_path, caplog, {"compression": section})[0].stdout
    scoped = {**section, "ignored_scopes": ["{re}.*"]}
    assert "no weight gets zeros" in ran(tmp_path, caplog, {"compression": scoped})[0].stdout


@pytest.mark.needs("nncf_openvino")
def test_nothing_is_said_where_something_is_quantized(tmp_path: Path) -> None:
    np.savez(tmp_path / "data.npz", x=rows(8))
    model = openvino_model(tmp_path / "model.xml")
    result = nncf("quantize", model, "-o", tmp_path / "small.xml", "--dataset", tmp_path / "data.npz")
    assert "Nothing is quantized" not in result.stdout + result.stderr
