"""Limits that are too low end a command soon, with one line."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.cli.models import onnx_model, weights

pytestmark = pytest.mark.needs("nncf_weight_compression")
ONNX = pytest.mark.needs("onnx", "nncf_onnx")

CODE = """
import resource, sys
resource.setrlimit(getattr(resource, sys.argv.pop(1)), (int(sys.argv.pop(1)) << 20,) * 2)
from nncf_core.cli import entry
entry()
"""
MEGABYTES = 2048


def limited(folder: Path, limit: str, megabytes: int, *arguments: str) -> subprocess.CompletedProcess[str]:
    """What a command does that may take so much memory."""
    command = [sys.executable, "-c", CODE, limit, str(megabytes), *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=120)


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


LINUX = pytest.mark.skipif(sys.platform != "linux", reason="other systems do not hold processes to these limits")


@LINUX
@ONNX
@pytest.mark.parametrize(
    ("limit", "megabytes", "what"),
    [("RLIMIT_AS", 1500, "model.data cannot be mapped, 2,147,483,648 bytes"), ("RLIMIT_DATA", 300, "MiB for an array")],
)
def test_one_line_says_so(limit: str, megabytes: int, what: str, model: Path) -> None:
    before = set(model.parent.iterdir())
    done = limited(model.parent, limit, megabytes, "compress-weights", "m.onnx", "-o", "small.onnx", "-q")
    assert done.returncode == 1, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("nncf: error: there is not enough memory: ")
    assert what in line
    assert line.endswith(". No file was changed; raise the limit of the process, or of its container.")
    assert set(model.parent.iterdir()) == before


@LINUX
@ONNX
@pytest.mark.needs("nncf_weight_refinement")
def test_a_runtime_that_finds_none(tmp_path: Path) -> None:
    """onnxruntime has errors of its own for it."""
    model = onnx_model(tmp_path / "m.onnx", weights((8192, 8192, 64)))
    np.savez(tmp_path / "x.npz", x=np.ones((4, 8192), np.float32))
    arguments = ["compress-weights", model.name, "-o", "small.onnx", "--mode", "int4_sym", "--scale-estimation"]
    arguments += ["--dataset", "x.npz", "-q"]
    done = limited(tmp_path, "RLIMIT_DATA", 250, *arguments)
    assert done.returncode == 1, done.stderr
    assert done.stderr.splitlines()[-1].startswith("nncf: error: there is not enough memory: ")
    assert not (tmp_path / "small.onnx").exists()


def openvino_file(path: Path) -> str:
    """A layer with 256 MB of weights."""
    import openvino
    from openvino import opset13

    x = opset13.parameter([-1, 8192], np.float32, name="x")
    x.output(0).set_names({"x"})
    layer = opset13.matmul(x, opset13.constant(np.ones((8192, 8192), np.float32)), False, False, name="layer")
    openvino.save_model(openvino.Model([layer], [x], "g"), path / "m.xml", compress_to_fp16=False)
    return "m.xml"


def torch_file(path: Path) -> str:
    """The same."""
    import torch

    layer = torch.nn.Linear(8192, 8192, bias=False).eval()
    torch.export.save(torch.export.export(layer, (torch.ones(4, 8192),)), path / "m.pt2")
    return "m.pt2"


@LINUX
@pytest.mark.needs("nncf_post_training_quantization")
@pytest.mark.parametrize(
    ("make", "megabytes"),
    [
        pytest.param(openvino_file, megabytes, marks=pytest.mark.needs("openvino", "nncf_openvino"))
        for megabytes in (250, 325, 400)
    ]
    + [pytest.param(torch_file, megabytes, marks=pytest.mark.needs("torch", "nncf_torch")) for megabytes in (300, 400)],
)
def test_other_runtimes_that_find_none(make: Callable[[Path], str], megabytes: int, tmp_path: Path) -> None:
    """When they read a model, start threads, or run it: what they say of it may be said of other faults, too."""
    name = make(tmp_path)
    np.save(tmp_path / "x.npy", np.ones((4, 8192), np.float32))
    output = f"small{Path(name).suffix}"
    done = limited(tmp_path, "RLIMIT_DATA", megabytes, "quantize", name, "--dataset", "x.npy", "-o", output, "-q")
    assert done.returncode == 1, done.stderr
    assert done.stderr.splitlines()[-1].startswith("nncf: error: there is not enough memory: "), done.stderr
    assert not (tmp_path / output).exists()
