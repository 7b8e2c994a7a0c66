"""``nncf quantize``, as a user runs it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

METRICS = '''
import numpy as np

def error(model, items):
    """Minus the distance to the labels."""
    name = model.get_inputs()[0].name
    return -float(np.mean([np.abs(model.run(None, {name: item["x"]})[0] - item["y"]).max() for item in items]))

def broken(model, items):
    return "good"
'''


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    from onnx import TensorProto, helper, numpy_helper

    folder = tmp_path_factory.mktemp("quantize")
    random = np.random.default_rng(0)
    weights = [random.normal(0, 0.1, (128, 128)).astype(np.float32) for _ in range(3)]
    nodes, taken = [], "x"
    for index in range(3):
        nodes.append(helper.make_node("MatMul", [taken, f"w{index}"], [f"y{index}"], f"layer{index}"))
        nodes.append(helper.make_node("Tanh", [f"y{index}"], [f"z{index}"], f"tanh{index}"))
        taken = f"z{index}"
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 16, 128])],
        [helper.make_tensor_value_info("z2", TensorProto.FLOAT, [1, 16, 128])],
        [numpy_helper.from_array(weight, f"w{index}") for index, weight in enumerate(weights)],
    )
    # large enough for integers to pay
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), folder / "m.onnx")
    x = random.normal(0, 1, (20, 16, 128)).astype(np.float32)
    y = x
    for weight in weights:
        y = np.tanh(y @ weight)
    np.savez(folder / "x.npz", x=x)
    np.savez(folder / "xy.npz", x=x, y=y)
    (folder / "metrics.py").write_text(METRICS)
    return folder


def nncf(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "nncf_core.cli", "quantize", *map(str, arguments)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=120)


def test_quantizes(folder: Path) -> None:
    done = nncf(folder, "m.onnx", "-o", "q.onnx", "--dataset", "x.npz", "--ignore", "layer1", "--json")
    assert done.returncode == 0, done.stderr
    entries = json.loads(done.stdout)["entries"]
    assert {entry["target"] for entry in entries if entry["action"] == "compress"} == {"w0", "w2"}
    assert "QuantizeLinear" in {node.op_type for node in onnx.load(folder / "q.onnx").graph.node}


def test_keeps_a_metric(folder: Path) -> None:
    more = ["--validation", "metrics:error", "--validation-dataset", "xy.npz", "--sensitivity-report", "report"]
    done = nncf(folder, "m.onnx", "-o", "c.onnx", "--dataset", "x.npz", "--max-drop", "1e-5", *more)
    assert done.returncode == 0, done.stderr
    assert "quantizers kept" in done.stdout
    report = json.loads((folder / "report/sensitivity.json").read_text())
    assert report["drop"] <= 1e-5
    assert report["kept"] < report["quantizers"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--max-drop", "0.1"], "need --validation"),
        (["--validation", "metrics:error"], "needs --max-drop"),
        (["--max-drop", "0.1", "--validation", "metrics"], "module:function"),
        (["--max-drop", "0.1", "--validation", "metrics:missing"], "missing"),
        (["--max-drop", "0.1", "--validation", "no_such_module:f"], "no_such_module"),
        (["--max-drop", "0.1", "--validation", "metrics:broken"], "gives 'good' (str)"),
    ],
)
def test_errors_name_what_is_wrong(folder: Path, arguments: list[str], message: str) -> None:
    done = nncf(folder, "m.onnx", "-o", "e.onnx", "--dataset", "x.npz", *arguments)
    assert done.returncode != 0
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (folder / "e.onnx").exists()


@pytest.fixture
def contradictory(tmp_path: Path) -> Path:
    """A model that says float32 of what a Cast to int64 gives."""
    from onnx import TensorProto, helper, numpy_helper

    random = np.random.default_rng(0)
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["y"], "layer"),
        helper.make_node("Cast", ["y"], ["z"], "cast", to=TensorProto.INT64),
    ]
    x, y, z = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 128]) for name in "xyz")
    weight = numpy_helper.from_array(random.normal(0, 0.1, (128, 128)).astype(np.float32), "w")
    graph = helper.make_graph(nodes, "g", [x], [y, z], [weight])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), tmp_path / "m.onnx")
    np.save(tmp_path / "x.npy", random.normal(size=(4, 128)).astype(np.float32))
    np.savez(tmp_path / "x.npz", x=np.load(tmp_path / "x.npy"))
    return tmp_path


@pytest.mark.parametrize("data", ["x.npy", "x.npz"])
def test_a_model_that_is_not_valid_is_told_of_in_place_of_items(contradictory: Path, data: str) -> None:
    done = nncf(contradictory, "m.onnx", "--dataset", data, "-o", "out.onnx", "-q")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "Item" not in done.stderr
    start = "nncf: error: m.onnx cannot be run on any item, so that the dataset is not at fault. onnxruntime does"
    assert done.stderr.splitlines()[-1].startswith(start), done.stderr
    assert "(tensor(float)) of output arg (z) of node (cast)" in done.stderr
    assert not (contradictory / "out.onnx").exists()
