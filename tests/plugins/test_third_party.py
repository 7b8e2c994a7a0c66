"""A third party's backend and algorithms, installed beside the core alone, through the public API and the command."""

import json

import numpy as np
import pytest

pytestmark = pytest.mark.fresh_env

NETWORK = """
import json, sys
import numpy as np
from toy import Layer, Network

def network():
    random = np.random.default_rng(0)
    weights = [random.normal(0, 0.3, shape).astype(np.float32) for shape in ((64, 32), (32, 8))]
    weights[0][0, 0] = 9
    return Network([
        Layer("first", weights[0], np.zeros(32, np.float32)),
        Layer("last", weights[1], np.ones(8, np.float32), relu=False),
    ])

model = network()
x = np.random.default_rng(1).normal(size=(5, 64)).astype(np.float32)
"""
FRAMEWORKS = ("torch", "openvino", "onnx", "onnxruntime", "onnx_ir", "pytest")


@pytest.fixture(scope="module")
def environment(environment_with):
    return environment_with("example-weight-clipping", "toy", "nncf-weight-compression")


@pytest.fixture(scope="module")
def saved(environment, tmp_path_factory):
    """A file of the third party's framework."""
    folder = tmp_path_factory.mktemp("toy")
    script = "from pathlib import Path\nfrom toy.files import write\nwrite(model, Path('model.toy'))\nprint(0)"
    environment.python(NETWORK + script, folder)
    np.savez(folder / "data.npz", x=np.random.default_rng(1).normal(size=(6, 64)).astype(np.float32))
    return folder


def test_plugins_are_listed(environment, tmp_path):
    found = environment.plugins(tmp_path)
    assert set(found) == {"core", "toy", "weight_clipping", "weight_compression"}
    assert all(record["error"] is None for record in found.values())
    clipping, toy = found["weight_clipping"], found["toy"]
    assert (clipping["distribution"], clipping["version"]) == ("example-weight-clipping", "2.3")
    assert clipping["target"] == "weight_clipping.plugin"
    assert clipping["registers"] == ["algorithm weight_clipping", "algorithm activation_smoothing"]
    assert (toy["distribution"], toy["version"]) == ("toy", "0.1.0")
    assert toy["registers"] == ["graph builder toy", "target-point inserter toy", "statistics aggregator toy"]
    lines = environment.execute("nncf", "plugins", cwd=tmp_path).stdout
    assert "weight_clipping  (example-weight-clipping 2.3)\n    algorithm weight_clipping" in lines


def test_no_framework_is_there(environment, tmp_path):
    script = f"import importlib.util as u, json; print(json.dumps([u.find_spec(m) is None for m in {FRAMEWORKS}]))"
    assert all(environment.python(script, tmp_path))


def test_the_pipeline_runs_it(environment, tmp_path):
    script = """
from nncf_core.pipeline import run
result = run({"compression": {"algorithm": "weight_clipping", "k": 2.0}}, model)
print(json.dumps([
    float(np.abs(result.model.layers[0].weight).max()), float(2 * model.layers[0].weight.std()),
    float(model.layers[0].weight.max()), [entry.target for entry in result.plan.entries],
]))
"""
    largest, limit, before, targets = environment.python(NETWORK + script, tmp_path)
    assert largest == pytest.approx(limit, rel=1e-5)
    assert before == 9
    assert targets == ["first.weight", "last.weight"]


def test_weight_compression_meets_the_unknown_backend(environment, tmp_path):
    script = """
import nncf
small = nncf.compress_weights(model, mode=nncf.CompressWeightsMode.INT8_SYM)
error = float(np.abs(small(x) - model(x)).max() / np.abs(model(x)).max())
try:
    nncf.compress_weights(model, mode=nncf.CompressWeightsMode.INT4_SYM, group_size=32, all_layers=True)
except nncf.ParameterNotSupportedError as refusal:
    print(json.dumps([[layer.weight.dtype.name for layer in small.layers], error, str(refusal)]))
"""
    dtypes, error, refusal = environment.python(NETWORK + script, tmp_path)
    assert dtypes == ["int8", "int8"]
    assert 0 < error < 0.05
    assert "first.weight" in refusal
    assert "a network stores int8 per channel only" in refusal


def test_statistics_reach_the_algorithm(environment, tmp_path):
    script = """
import nncf
from nncf_core.pipeline import run
config = {"compression": {"algorithm": "activation_smoothing"}}
try:
    run(config, model)
except nncf.UnsupportedDatasetError as error:
    message = str(error)
result = run(config, model, dataset=nncf.Dataset([{"x": x}]))
print(json.dumps([message, len(result.model.factors), float(np.abs(result.model(x) - model(x)).max())]))
"""
    message, factors, difference = environment.python(NETWORK + script, tmp_path)
    assert "activation_smoothing" in message
    assert "dataset" in message
    assert factors == 2
    assert difference < 1e-4


def test_the_command_runs_several_algorithms(environment, saved):
    sections = [
        {"algorithm": "weight_clipping", "k": 2.5},
        {"algorithm": "activation_smoothing", "alpha": 0.25},
        {"algorithm": "weight_compression", "ignored_scope": {"names": ["last"]}},
    ]
    (saved / "config.json").write_text(json.dumps({"compression": sections}))
    arguments = ("run", "config.json", "model.toy", "--dataset", "data.npz", "-o", "small.toy", "--json")
    done = environment.execute("nncf", *arguments, cwd=saved)
    assert done.returncode == 0, done.stderr
    entries = json.loads(done.stdout)["entries"]
    assert [(e["algorithm"], e["action"], e["target"]) for e in entries] == [
        ("weight_clipping", "replace", "first.weight"),
        ("weight_clipping", "replace", "last.weight"),
        ("activation_smoothing", "multiply", "first:input:0"),
        ("activation_smoothing", "replace", "first.weight"),
        ("activation_smoothing", "multiply", "last:input:0"),
        ("activation_smoothing", "replace", "last.weight"),
        ("weight_compression", "compress", "first.weight"),
    ]
    inspected = environment.execute("nncf", "inspect", "small.toy", "--json", cwd=saved)
    formats = {weight["name"]: weight["format"] for weight in json.loads(inspected.stdout)["weights"]}
    assert formats == {"first.weight": "uint8", "last.weight": "float32"}


def test_a_wrong_value_names_the_third_partys_key(environment, saved):
    (saved / "wrong.json").write_text(json.dumps({"compression": {"algorithm": "weight_clipping", "k": -1}}))
    done = environment.execute("nncf", "run", "wrong.json", "model.toy", "-o", "wrong.toy", cwd=saved)
    assert done.returncode == 2
    assert "compression.k" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (saved / "wrong.toy").exists()


def test_the_kit_runs_without_pytest(environment, tmp_path):
    suite = """
from nncf_core.testing import AlgorithmConformance

class Clipping(AlgorithmConformance):
    algorithm = "weight_clipping"

class Missing(AlgorithmConformance):
    algorithm = "no_such_algorithm"
"""
    (tmp_path / "suite.py").write_text(suite)
    good = environment.execute("python", "-m", "nncf_core.testing", "suite:Clipping", cwd=tmp_path)
    assert good.returncode == 0, good.stdout + good.stderr
    assert " 0 failed, 0 skipped" in good.stdout
    bad = environment.execute("python", "-m", "nncf_core.testing", "suite:Missing", cwd=tmp_path)
    assert bad.returncode == 1
    assert "no plugin provides the algorithm 'no_such_algorithm'" in bad.stdout
