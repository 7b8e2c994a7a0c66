"""Only the core, the OpenVINO backend and weight compression are installed: no ONNX, no PyTorch."""

import json

import numpy as np
import pytest

pytest.importorskip("nncf_openvino")

import openvino as ov
from openvino import opset13 as ops

pytestmark = pytest.mark.fresh_env


@pytest.fixture(scope="module")
def openvino_only(environment_with):
    return environment_with("nncf-openvino", "nncf-weight-compression")


@pytest.fixture
def folder(tmp_path):
    """A folder with an OpenVINO model."""
    weight = ops.constant(np.random.default_rng(0).normal(0, 1, (32, 64)).astype(np.float32))
    weight.set_friendly_name("w")
    x = ops.parameter([-1, 64], np.float32)
    ov.serialize(ov.Model([ops.result(ops.matmul(x, weight, False, True))], [x], "main"), tmp_path / "model.xml")
    return tmp_path


def test_other_frameworks_are_absent(openvino_only, tmp_path):
    script = (
        "import importlib.util as u, json\n"
        "print(json.dumps({m: u.find_spec(m) is not None for m in ('torch', 'onnx', 'onnx_ir', 'openvino')}))"
    )
    found = openvino_only.python(script, tmp_path)
    assert found == {"torch": False, "onnx": False, "onnx_ir": False, "openvino": True}


def test_models_are_compressed_and_run(openvino_only, folder):
    script = """
import json, nncf, numpy as np, openvino as ov
model = ov.Core().read_model("model.xml")
before = len(model.get_ordered_ops())
small = nncf.compress_weights(model, mode=nncf.CompressWeightsMode.INT8_ASYM)
x = np.ones((2, 64), np.float32)
a, b = (ov.compile_model(m, "CPU")(x)[0] for m in (model, small))
types = sorted({n.get_type_name() for n in small.get_ordered_ops()})
print(json.dumps([types, len(model.get_ordered_ops()) == before, float(np.abs(a - b).max()) < 0.5]))
"""
    types, untouched, close = openvino_only.python(script, folder)
    assert types == ["Constant", "Convert", "MatMul", "Multiply", "Parameter", "Result", "Subtract"]
    assert untouched
    assert close


def test_the_command_compresses_files(openvino_only, folder):
    arguments = ("compress-weights", "model.xml", "-o", "small.xml", "--mode", "int4_sym", "--group-size", "32")
    done = openvino_only.execute("nncf", *arguments, "--all-layers", "--json", cwd=folder)
    assert done.returncode == 0, done.stderr
    (entry,) = json.loads(done.stdout)["entries"]
    assert (entry["target"], entry["format"], entry["group_size"]) == ("w", "int4", 32)
    assert (folder / "small.bin").stat().st_size < (folder / "model.bin").stat().st_size / 4


def test_onnx_models_name_their_package(openvino_only, folder):
    (folder / "model.onnx").write_bytes(b"")
    done = openvino_only.execute("nncf", "inspect", "model.onnx", cwd=folder)
    assert done.returncode == 2
    assert "pip install nncf-onnx" in done.stderr
