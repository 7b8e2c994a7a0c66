"""What the command leaves of a model that does not do what it should, and of what was there before."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from nncf_core.cli import main
from tests.cli.models import MAKERS, onnx_model, openvino_model

DIGITS = Path(__file__).parents[2] / "models/digits_transformer.onnx"

FRAMEWORKS = [pytest.param(name, marks=pytest.mark.needs(name, f"nncf_{name}")) for name in MAKERS]


def nncf(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments])


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.endswith(".lock.json"))


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> None:
    """A backend that writes scales which are a bit too large."""
    from nncf_onnx.forms import dequantize_linear

    plain = dequantize_linear.emit

    def emit(rewriter: Any, target: Any, tensor: Any, *more: Any, **named: Any) -> Any:
        from attrs import evolve

        return plain(rewriter, target, evolve(tensor, scale=tensor.scale * np.float32(1.02)), *more, **named)

    monkeypatch.setattr(dequantize_linear, "emit", emit)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_the_result_is_shown(framework: str, tmp_path: Path) -> None:
    make, suffix = MAKERS[framework]
    model = make(tmp_path / f"model{suffix}")
    result = nncf("compress-weights", model, "-o", tmp_path / f"small{suffix}")
    assert result.exit_code == 0, result.output
    assert "Verified\n  stored: yes, bit for bit: 3 constants hold" in result.stdout
    assert "layers: yes, 3 layers" in result.stdout
    assert not [name for name in names(tmp_path) if name.endswith(".tmp")]
    data = json.loads(nncf("compress-weights", model, "-o", tmp_path / f"small{suffix}", "--json").stdout)
    assert data["verification"]["passed"]


@pytest.mark.needs("onnx", "nncf_onnx")
@pytest.mark.parametrize("mode", ["int8_asym", "int4_sym", "nf4", "fp8_e4m3"])
def test_tables_of_codes_pass(mode: str, tmp_path: Path) -> None:
    """A Gather of codes gives codes, which are no rows of the table of floats."""
    result = nncf("compress-weights", DIGITS, "-o", tmp_path / "small.onnx", "--mode", mode)
    assert result.exit_code == 0, result.output
    assert "layers: yes, " in result.stdout


@pytest.mark.parametrize("before", [None, "another model"])
def test_what_fails_is_not_left(broken: None, before: str | None, tmp_path: Path) -> None:
    model, output = onnx_model(tmp_path / "model.onnx"), tmp_path / "small.onnx"
    if before is not None:
        output.write_text(before)
    result = nncf("compress-weights", model, "-o", output, "--mode", "int4_sym", "--group-size", 32)
    assert result.exit_code == 1
    assert f"{output} was not written, since it failed its verification: the constant 'w0' was written" in result.stderr
    assert "--no-verify" in result.stderr.splitlines()[-1]
    assert (output.read_text() if output.exists() else None) == before
    assert names(tmp_path) == ["model.onnx", *(["small.onnx"] if before else [])]


def test_without_verification_it_is_written(broken: None, tmp_path: Path) -> None:
    model, output = onnx_model(tmp_path / "model.onnx"), tmp_path / "small.onnx"
    options = ("--mode", "int4_sym", "--group-size", 32, "--no-verify")
    result = nncf("compress-weights", model, "-o", output, *options)
    assert result.exit_code == 0
    assert output.exists()
    assert "Verified" not in result.stdout


@pytest.mark.parametrize("verify", ["--verify", "--no-verify"])
def test_the_files_are_the_same(verify: str, tmp_path: Path) -> None:
    model = onnx_model(tmp_path / "model.onnx", apart=True)
    assert nncf("compress-weights", model, "-o", tmp_path / "small.onnx", verify).exit_code == 0
    assert names(tmp_path) == ["model.onnx", "model.onnx.data", "small.onnx", "small.onnx.data"]
    import onnxruntime

    session = onnxruntime.InferenceSession(tmp_path / "small.onnx", providers=["CPUExecutionProvider"])
    assert session.run(None, {"x": np.ones((2, 64), np.float32)})[0].shape == (2, 16)


@pytest.mark.needs("openvino", "nncf_openvino")
@pytest.mark.skipif(os.name == "nt", reason="no such permissions")
def test_the_input_may_be_overwritten_and_keeps_its_permissions(tmp_path: Path) -> None:
    for model in (openvino_model(tmp_path / "model.xml"), onnx_model(tmp_path / "model.onnx", apart=True)):
        model.chmod(0o640)
        size = sum(path.stat().st_size for path in tmp_path.glob(f"{model.stem}*"))
        assert nncf("compress-weights", model, "-o", model, "--no-lock").exit_code == 0
        assert sum(path.stat().st_size for path in tmp_path.glob(f"{model.stem}*")) < size
        assert model.stat().st_mode & 0o777 == 0o640
        assert nncf("inspect", model).exit_code == 0


def test_data_of_another_model_are_not_overwritten(tmp_path: Path) -> None:
    model = onnx_model(tmp_path / "model.onnx", apart=True)
    other = tmp_path / "small.onnx.data"
    other.write_text("of another model")
    result = nncf("compress-weights", model, "-o", tmp_path / "small.onnx")
    assert result.exit_code == 2
    assert "exists and does not belong to a model small.onnx" in result.stderr
    assert other.read_text() == "of another model"
    assert names(tmp_path) == ["model.onnx", "model.onnx.data", "small.onnx.data"]
