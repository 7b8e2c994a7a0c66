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


@pytest.mark.needs("nncf_openvino")
def test_nothing_is_said_where_something_is_quantized(tmp_path: Path) -> None:
    np.savez(tmp_path / "data.npz", x=rows(8))
    model = openvino_model(tmp_path / "model.xml")
    result = nncf("quantize", model, "-o", tmp_path / "small.xml", "--dataset", tmp_path / "data.npz")
    assert "Nothing is quantized" not in result.stdout + result.stderr
