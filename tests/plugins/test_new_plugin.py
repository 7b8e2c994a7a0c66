"""What ``nncf new-plugin`` writes is installed, passes its own tests, and is found by name."""

import json

import pytest

from nncf_core.errors import InvalidPathError, ValidationError
from nncf_core.plugin_templates import KINDS, write_plugin
from tests.plugins.fresh import build_wheels, make_environment

_NAMES = {"algorithm": "my-algo", "backend": "my-frame", "strip-format": "my-form"}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("new")
    return {kind: write_plugin(kind, name, folder) for kind, name in _NAMES.items()}


@pytest.fixture(scope="module")
def environment(wheels, written, tmp_path_factory):
    folder = tmp_path_factory.mktemp("new environment")
    made = build_wheels(folder, {path.name: path for path in written.values()})
    chosen = [wheels["nncf-core"], wheels["nncf-onnx"], *made.values()]
    return make_environment(folder / "venv", chosen, ["pytest", "onnxruntime"])


@pytest.mark.fresh_env
@pytest.mark.needs("onnx")
@pytest.mark.parametrize("kind", KINDS)
def test_a_new_plugin_passes_its_own_tests(kind, environment, written):
    options = ("-q", "-W", "error", "-p", "no:cacheprovider")
    done = environment.execute("python", "-m", "pytest", *options, cwd=written[kind])
    assert done.returncode == 0, done.stdout + done.stderr
    assert "failed" not in done.stdout


@pytest.mark.fresh_env
@pytest.mark.needs("onnx")
def test_a_new_plugin_is_listed_and_used_by_name(environment, tmp_path):
    found = environment.plugins(tmp_path)
    assert found["my_algo"]["registers"] == ["algorithm my_algo"]
    assert found["my_form"]["registers"] == ["strip format my_form"]
    assert len(found["my_frame"]["registers"]) == 3
    script = """
import json
import numpy as np, onnx
from onnx import TensorProto as T, helper as h, numpy_helper as n
weight = np.random.default_rng(0).normal(size=(64, 32)).astype(np.float32)
node = h.make_node("MatMul", ["x", "w"], ["y"])
ports = [h.make_tensor_value_info(name, T.FLOAT, [1, size]) for name, size in (("x", 64), ("y", 32))]
graph = h.make_graph([node], "g", ports[:1], ports[1:], [n.from_array(weight, "w")])
onnx.save(h.make_model(graph, opset_imports=[h.make_opsetid("", 17)], ir_version=8), "model.onnx")
json.dump({"compression": {"algorithm": "my_algo", "k": 1.0}}, open("config.json", "w"))
print(json.dumps(None))
"""
    environment.python(script, tmp_path)
    done = environment.execute("nncf", "run", "config.json", "model.onnx", "-o", "clipped.onnx", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    script = """
import json, onnx
from onnx import numpy_helper as n
before, after = (n.to_array(onnx.load(f"{name}.onnx").graph.initializer[0]) for name in ("model", "clipped"))
print(json.dumps([float(abs(after).max()), float(before.std())]))
"""
    largest, deviation = environment.python(script, tmp_path)
    assert largest == pytest.approx(deviation, rel=1e-6)


@pytest.mark.parametrize("name", ["My-Algo", "my_algo", "1st", "class", "", "../up", "a--b"])
def test_names_that_cannot_be_packages_are_refused(name, tmp_path):
    with pytest.raises(ValidationError, match="cannot be the name of a plugin"):
        write_plugin("algorithm", name, tmp_path)
    assert not any(tmp_path.iterdir())


def test_nothing_is_written_over(tmp_path):
    write_plugin("algorithm", "my-algo", tmp_path)
    with pytest.raises(InvalidPathError, match="exists already"):
        write_plugin("algorithm", "my-algo", tmp_path)


@pytest.mark.parametrize(
    ("kind", "name"), [("strip-format", "in-place"), ("algorithm", "nncf-core"), ("backend", "numpy")]
)
def test_what_is_installed_already_needs_another_name(kind, name, tmp_path):
    with pytest.raises(ValidationError, match="already"):
        write_plugin(kind, name, tmp_path)


def test_the_config_in_the_readme_is_one(written):
    text = (written["algorithm"] / "README.md").read_text()
    line = next(line for line in text.splitlines() if line.startswith("echo"))
    assert json.loads(line.split("'")[1])["compression"]["algorithm"] == "my_algo"
