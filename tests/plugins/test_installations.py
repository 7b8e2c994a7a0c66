"""Only a part of the distributions is installed: what is there works, what is missing is named."""

import json

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

pytestmark = pytest.mark.fresh_env


@pytest.fixture(scope="module")
def onnx_only(environment_with):
    return environment_with("nncf-onnx", "nncf-weight-compression")


@pytest.fixture(scope="module")
def core_only(environment_with):
    return environment_with()


@pytest.fixture
def folder(tmp_path):
    """A folder with an ONNX model."""
    weight = np.random.default_rng(0).normal(0, 1, (64, 32)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"], "matmul")],
        "main",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 64])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 32])],
        [numpy_helper.from_array(weight, "w")],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), tmp_path / "model.onnx"
    )
    return tmp_path


class TestOnnxOnly:
    def test_other_frameworks_are_absent(self, onnx_only, tmp_path):
        script = (
            "import importlib.util as u, json\n"
            "print(json.dumps({m: u.find_spec(m) is not None for m in ('torch', 'openvino', 'tensorflow', 'onnx')}))"
        )
        found = onnx_only.python(script, tmp_path)
        assert found == {"torch": False, "openvino": False, "tensorflow": False, "onnx": True}

    def test_models_are_compressed(self, onnx_only, folder):
        script = """
import json, nncf, onnx, numpy as np
model = onnx.load("model.onnx")
before = model.SerializeToString()
small = nncf.compress_weights(model, mode=nncf.CompressWeightsMode.INT8_ASYM)
onnx.checker.check_model(small, full_check=True)
operators = sorted({node.op_type for node in small.graph.node})
print(json.dumps([operators, model.SerializeToString() == before, type(small).__name__]))
"""
        operators, untouched, kind = onnx_only.python(script, folder)
        assert operators == ["DequantizeLinear", "MatMul"]
        assert untouched
        assert kind == "ModelProto"

    def test_the_command_compresses_files(self, onnx_only, folder):
        arguments = ("compress-weights", "model.onnx", "-o", "small.onnx", "--mode", "int4_sym", "--group-size", "32")
        done = onnx_only.execute("nncf", *arguments, "--all-layers", "--json", cwd=folder)
        assert done.returncode == 0, done.stderr
        (entry,) = json.loads(done.stdout)["entries"]
        assert (entry["target"], entry["format"], entry["group_size"]) == ("w", "int4", 32)
        assert (folder / "small.onnx").stat().st_size < (folder / "model.onnx").stat().st_size / 4

    def test_openvino_models_name_their_package(self, onnx_only, folder):
        script = """
import json, nncf
class Model: ...
Model.__module__ = "openvino._pyopenvino"
class Mine(Model): ...
messages = []
for model in (Model(), Mine(), "model.xml"):
    try:
        nncf.compress_weights(model)
    except nncf.UnsupportedBackendError as error:
        messages.append(str(error))
print(json.dumps(messages))
"""
        messages = onnx_only.python(script, folder)
        assert len(messages) == 3
        assert all("OpenVINO" in message and "pip install nncf-openvino" in message for message in messages)
        assert "openvino._pyopenvino.Model" in messages[0]
        assert "model.xml" in messages[2]

    def test_the_command_names_the_package(self, onnx_only, folder):
        (folder / "model.xml").write_text("<net/>")
        done = onnx_only.execute("nncf", "compress-weights", "model.xml", "-o", "small.xml", cwd=folder)
        assert done.returncode == 2
        assert "pip install nncf-openvino" in done.stderr
        assert "Traceback" not in done.stderr
        assert not (folder / "small.xml").exists()

    def test_unknown_models_name_what_is_installed(self, onnx_only, tmp_path):
        script = """
import json, nncf
try:
    nncf.compress_weights(object())
except nncf.UnsupportedBackendError as error:
    print(json.dumps(str(error)))
"""
        message = onnx_only.python(script, tmp_path)
        assert "builtins.object" in message
        assert "Installed backends: ONNX (.onnx)." in message


class TestCoreOnly:
    def test_nncf_is_there(self, core_only, tmp_path):
        script = """
import json, sys, nncf
loaded = sorted({m.partition(".")[0] for m in sys.modules} & {"numpy", "attrs", "cattrs", "jsonschema", "rich"})
print(json.dumps([loaded, nncf.CompressWeightsMode.INT8_ASYM == "int8_asym"]))
"""
        assert core_only.python(script, tmp_path) == [[], True]

    def test_missing_algorithms_name_their_package(self, core_only, tmp_path):
        script = """
import json, nncf
messages = []
for section in ("weight_compression", "weight_compresion", "nothing_like_it"):
    try:
        nncf.NNCFConfig.from_dict({"compression": {"algorithm": section}})
    except nncf.ValidationError as error:
        messages.append(str(error))
print(json.dumps(messages))
"""
        known, misspelt, unknown = core_only.python(script, tmp_path)
        assert "pip install nncf-weight-compression" in known
        assert "Did you mean 'weight_compression' (pip install nncf-weight-compression)?" in misspelt
        assert "nothing_like_it" in unknown
        assert "Installed algorithms: none" in unknown

    def test_missing_backends_name_their_package(self, core_only, folder):
        done = core_only.execute("nncf", "inspect", "model.onnx", cwd=folder)
        assert done.returncode == 2
        assert "pip install nncf-onnx" in done.stderr
        done = core_only.execute("nncf", "compress-weights", "model.onnx", "-o", "small.onnx", cwd=folder)
        assert done.returncode == 2
        assert "pip install nncf-onnx" in done.stderr
        assert not (folder / "small.onnx").exists()

    def test_only_the_core_is_listed(self, core_only, tmp_path):
        (record,) = core_only.plugins(tmp_path).values()
        assert record["name"] == "core"
        assert record["registers"] == [f"strip format {name}" for name in ("native", "dequantize", "in_place")]
