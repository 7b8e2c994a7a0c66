"""Limits that are too low end a command soon, with one line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.cli.models import onnx_model, weights

pytestmark = pytest.mark.needs("onnx", "nncf_onnx", "nncf_weight_compression")

CODE = """
import resource, sys
resource.setrlimit(getattr(resource, sys.argv.pop(1)), (int(sys.argv.pop(1)) << 20,) * 2)
from nncf_core.cli import entry
entry()
"""
MEGABYTES = 2048


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A product with 2 GB of zeros, which take no room on the disk."""
    import onnx
    from onnx import TensorProto, helper

    rows, columns = 32768, MEGABYTES << 20 >> 17
    weight = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[rows, columns])
    weight.data_location = TensorProto.EXTERNAL
    weight.external_data.add(key="location", value="model.data")
    with (tmp_path / "model.data").open("wb") as file:
        file.truncate(MEGABYTES << 20)
    x, y = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", size])
        for name, size in (("x", rows), ("y", columns))
    )
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"], name="layer")], "g", [x], [y], [weight])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), tmp_path / "m.onnx")
    return tmp_path / "m.onnx"


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not hold processes to these limits")
@pytest.mark.parametrize(
    ("limit", "megabytes", "what"),
    [("RLIMIT_AS", 1500, "model.data cannot be mapped, 2,147,483,648 bytes"), ("RLIMIT_DATA", 300, "MiB for an array")],
)
def test_one_line_says_so(limit: str, megabytes: int, what: str, model: Path) -> None:
    before = set(model.parent.iterdir())
    command = [
        sys.executable,
        "-c",
        CODE,
        limit,
        str(megabytes),
        "compress-weights",
        "m.onnx",
        "-o",
        "small.onnx",
        "-q",
    ]
    done = subprocess.run(command, cwd=model.parent, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 1, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("nncf: error: there is not enough memory: ")
    assert what in line
    assert line.endswith(". No file was changed; raise the limit of the process, or of its container.")
    assert set(model.parent.iterdir()) == before


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not hold processes to these limits")
@pytest.mark.needs("nncf_weight_refinement")
def test_a_runtime_that_finds_none(tmp_path: Path) -> None:
    """onnxruntime has errors of its own for it."""
    model = onnx_model(tmp_path / "m.onnx", weights((8192, 8192, 64)))
    np.savez(tmp_path / "x.npz", x=np.ones((4, 8192), np.float32))
    arguments = ["compress-weights", model.name, "-o", "small.onnx", "--scale-estimation", "--dataset", "x.npz", "-q"]
    command = [sys.executable, "-c", CODE, "RLIMIT_DATA", "300", *arguments]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 1, done.stderr
    assert done.stderr.splitlines()[-1].startswith("nncf: error: there is not enough memory: ")
    assert not (tmp_path / "small.onnx").exists()
