"""External data is mapped, stays in its folder, and is kept where it was."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("nncf_onnx")

import onnx
import onnxruntime
from onnx import helper, numpy_helper

import nncf
from nncf_core.pipeline import run as run_pipeline
from nncf_onnx.mapped import MappedTensor
from nncf_onnx.wire import SELF
from tests.backends.onnx import models
from tests.backends.onnx.models import random, run
from tests.backends.onnx.reading.files import BUILDER, INT8, broken, graph_of, saved


def test_external_data_is_mapped(tmp_path: Path) -> None:
    w = random(64, 64)
    path = saved(models.matmul(w), tmp_path, external=True)
    assert isinstance(BUILDER.open(path, {}).graph.initializers["w"].const_value, MappedTensor)
    run_pipeline(INT8, path, output=tmp_path / "small.onnx")
    x = random(3, 64, seed=1)
    want = run(nncf.compress_weights(models.matmul(w)), x=x)[0]
    np.testing.assert_array_equal(run(onnx.load(tmp_path / "small.onnx"), x=x)[0], want)


def test_external_data_of_a_proto_is_found_in_the_given_folder(tmp_path: Path) -> None:
    w = random(64, 64)
    proto = onnx.load(saved(models.matmul(w), tmp_path, external=True), load_external_data=False)
    advanced = nncf.AdvancedCompressionParameters(backend_params={"external_data_dir": str(tmp_path)})
    result = nncf.compress_weights(proto, advanced_parameters=advanced)
    x = random(3, 64, seed=1)
    np.testing.assert_array_equal(run(result, x=x)[0], run(nncf.compress_weights(models.matmul(w)), x=x)[0])
    with pytest.raises(nncf.InvalidPathError, match="external_data_dir"):
        nncf.compress_weights(proto)
    advanced.backend_params["external_data_dir"] = "relative"
    with pytest.raises(nncf.ValidationError, match="absolute"):
        nncf.compress_weights(proto, advanced_parameters=advanced)


@pytest.mark.parametrize("location", ["../weights.bin", "{folder}/weights.bin", "link.bin", "a/../../weights.bin"])
def test_external_data_stays_in_the_models_folder(location: str, tmp_path: Path) -> None:
    inside = tmp_path / "models"
    inside.mkdir()
    path = saved(models.matmul(random(64, 64)), inside, external=True)
    (inside / "weights.bin").rename(tmp_path / "weights.bin")
    (inside / "link.bin").symlink_to(tmp_path / "weights.bin")
    proto = onnx.load(path, load_external_data=False)
    entry = next(e for e in proto.graph.initializer[0].external_data if e.key == "location")
    entry.value = location.format(folder=tmp_path)
    path.write_bytes(proto.SerializeToString())
    with pytest.raises(nncf.InvalidPathError, match="outside"):
        nncf.compress_weights(path)


@pytest.mark.parametrize(
    ("key", "value"),
    [("location", "none.bin"), ("offset", "999999"), ("offset", "-8"), ("length", "12"), ("length", "99999999"),
     ("offset", "x"), ("location", "")],
)  # fmt: skip
def test_wrong_external_data(key: str, value: str, tmp_path: Path) -> None:
    path = saved(models.matmul(random(64, 64)), tmp_path, external=True)
    proto = onnx.load(path, load_external_data=False)
    entries = {e.key: e for e in proto.graph.initializer[0].external_data}
    entry = entries.get(key) or proto.graph.initializer[0].external_data.add(key=key)
    entry.value = value
    assert broken(proto, tmp_path)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("offset", "1_0", "has the offset '1_0'"),
        ("length", "-4", "has the length '-4'"),
        ("length", "12", "has 12 bytes in weights.bin"),
        ("offset", "4096", "which has 16384"),
        ("location", "a" * 5000, "is no file"),
        ("location", "a\0b", "is no file"),
        ("location", ".", "is a folder"),
        ("location", SELF, "truncated or belongs to another"),
    ],
)
def test_what_is_wrong_with_external_data(key: str, value: str, message: str, tmp_path: Path) -> None:
    path = saved(models.matmul(random(64, 64)), tmp_path, external=True)
    proto = onnx.load(path, load_external_data=False)
    entries = {e.key: e for e in proto.graph.initializer[0].external_data}
    entry = entries.get(key) or proto.graph.initializer[0].external_data.add(key=key)
    entry.value = value
    text = broken(proto, tmp_path)
    assert message in text
    assert "'w'" in text


def test_external_data_stays_external(tmp_path: Path) -> None:
    w = random(64, 64)
    path = saved(models.matmul(w), tmp_path, external=True)
    BUILDER.save(BUILDER.open(path, {}), tmp_path / "copy.onnx")
    proto = onnx.load(tmp_path / "copy.onnx", load_external_data=False)
    entries = {e.key: e.value for e in proto.graph.initializer[0].external_data}
    assert entries == {"location": "copy.onnx.data", "offset": "0", "length": str(w.nbytes)}
    np.testing.assert_array_equal(numpy_helper.to_array(onnx.load(tmp_path / "copy.onnx").graph.initializer[0]), w)
    onnx.checker.check_model(tmp_path / "copy.onnx")
    # and may be written over itself, while it is mapped
    for _ in range(2):
        BUILDER.save(BUILDER.open(tmp_path / "copy.onnx", {}), tmp_path / "copy.onnx")
    x = random(3, 64, seed=1)
    np.testing.assert_array_equal(run(onnx.load(tmp_path / "copy.onnx"), x=x)[0], run(onnx.load(path), x=x)[0])
    assert {p.name for p in tmp_path.iterdir()} == {"model.onnx", "weights.bin", "copy.onnx", "copy.onnx.data"}


KILLED = """
import os, sys
from pathlib import Path
from nncf_onnx.builder import OnnxGraphBuilder

source, target, renamings = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
rename = os.replace

def dying(*names):
    global renamings
    if renamings == 0:
        os._exit(9)
    renamings -= 1
    rename(*names)

def failing(*names):
    raise OSError("no links")

os.replace = dying
if sys.argv[4] == "False":
    os.link = failing
builder = OnnxGraphBuilder()
builder.save(builder.open(source, {}), target)
"""


@pytest.mark.parametrize("linking", [True, False])
def test_a_pair_is_whole_whenever_the_process_dies(tmp_path: Path, linking: bool) -> None:
    old, new = random(64, 64), random(64, 64, seed=1)
    x = random(3, 64, seed=2)
    source = saved(models.matmul(new), tmp_path, external=True)
    target = tmp_path / "pair.onnx"
    seen = []
    for renamings in range(4):
        (tmp_path / str(renamings)).mkdir()
        first = saved(models.matmul(old), tmp_path / str(renamings), external=True)
        BUILDER.save(BUILDER.open(first, {}), target)
        arguments = [sys.executable, "-c", KILLED, *map(str, (source, target, renamings, linking))]
        ended = subprocess.run(arguments, check=False).returncode
        held = np.array(graph_of(target).constants["w"].read())
        assert np.array_equal(held, old) or np.array_equal(held, new)
        seen.append((ended, bool(np.array_equal(held, new))))
        # not onnx.load, which refuses files that have two names
        session = onnxruntime.InferenceSession(target, providers=["CPUExecutionProvider"])
        np.testing.assert_allclose(session.run(None, {"x": x})[0], x @ held, rtol=1e-4, atol=1e-4)
    assert seen == [(9, False), (9, True), (9, True), (0, True)]
    entry = onnx.load(target, load_external_data=False).graph.initializer[0].external_data[0]
    assert (entry.key, entry.value) == ("location", "pair.onnx.data")


def test_data_of_something_else_is_not_overwritten(tmp_path: Path) -> None:
    source = saved(models.matmul(random(64, 64)), tmp_path, external=True)
    other = tmp_path / "out.onnx.data"
    other.write_text("mine")
    with pytest.raises(nncf.InvalidPathError, match=r"out\.onnx\.data, which exists.*another name"):
        BUILDER.save(BUILDER.open(source, {}), tmp_path / "out.onnx")
    assert other.read_text() == "mine"
    assert not (tmp_path / "out.onnx").exists()


def test_weights_of_constant_nodes_may_be_external(tmp_path: Path) -> None:
    w = random(64, 64)
    nodes = [
        helper.make_node("Constant", [], ["w"], value=numpy_helper.from_array(w, "w")),
        helper.make_node("MatMul", ["x", "w"], ["y"], name="matmul"),
    ]
    path = tmp_path / "model.onnx"
    proto = models.model(nodes, {}, {"x": [3, 64]}, {"y": [3, 64]})
    onnx.save(proto, path, save_as_external_data=True, location="w.bin", size_threshold=0, convert_attribute=True)
    model = BUILDER.open(path, {})
    np.testing.assert_array_equal(BUILDER.build(model).constants["w"].read(), w)
    BUILDER.save(model, tmp_path / "copy.onnx")
    assert (tmp_path / "copy.onnx.data").stat().st_size == w.nbytes
    x = random(3, 64, seed=1)
    np.testing.assert_array_equal(run(onnx.load(tmp_path / "copy.onnx"), x=x)[0], run(onnx.load(path), x=x)[0])


def test_scalars_and_empty_tensors(tmp_path: Path) -> None:
    arrays = {"one": np.float32(3), "none": np.zeros((0, 3), np.float32)}
    nodes = [helper.make_node("Identity", [name], [f"{name}_copy"]) for name in arrays]
    outputs = {f"{name}_copy": list(array.shape) for name, array in arrays.items()}
    path = saved(models.model(nodes, arrays, {}, outputs), tmp_path, external=True)
    constants = graph_of(path).constants
    assert constants["one"].read() == 3
    assert constants["none"].read().shape == (0, 3)
