"""Models are streamed to files that replace others only as a whole."""

import errno
import os
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest

pytest.importorskip("nncf_onnx")

import onnx
import onnx_ir as ir
import onnxruntime
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper

import nncf
from nncf_core.pipeline import run as run_pipeline
from nncf_onnx import saving
from nncf_onnx.mapped import MappedTensor
from nncf_onnx.wire import STREAMED
from tests.backends.onnx import models
from tests.backends.onnx.models import random, run
from tests.backends.onnx.reading.files import BUILDER, INT8, saved


def test_a_saved_model_is_the_same_model(tmp_path: Path) -> None:
    proto = models.tied(random(64, 32, dtype="float16"))
    proto.metadata_props.add(key="author", value="me")
    model = BUILDER.open(saved(proto, tmp_path), {})
    BUILDER.save(model, tmp_path / "copy.onnx")
    copy = onnx.load(tmp_path / "copy.onnx")
    onnx.checker.check_model(copy)
    assert copy.metadata_props[0].value == "me"
    ids = np.array([1, 2, 3, 4])
    np.testing.assert_array_equal(run(copy, i=ids)[0], run(proto, i=ids)[0])
    first = (tmp_path / "copy.onnx").read_bytes()
    BUILDER.save(model, tmp_path / "copy.onnx")
    assert (tmp_path / "copy.onnx").read_bytes() == first
    BUILDER.save(proto, tmp_path / "direct.onnx")
    assert onnx.load(tmp_path / "direct.onnx").graph.initializer[0].dims == proto.graph.initializer[0].dims


@pytest.mark.parametrize("external", [False, True])
def test_the_input_may_be_overwritten(tmp_path: Path, external: bool) -> None:
    w = random(64, 64)
    path = saved(models.matmul(w), tmp_path, external)
    run_pipeline(INT8, path, output=path)
    x = random(3, 64, seed=1)
    want = run(nncf.compress_weights(models.matmul(w)), x=x)[0]
    np.testing.assert_array_equal(run(onnx.load(path), x=x)[0], want)


def test_a_failed_run_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(models.matmul(random(64, 64)), tmp_path)
    model, before = BUILDER.open(path, {}), path.read_bytes()

    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(MappedTensor, "tofile", fail)
    with pytest.raises(KeyboardInterrupt):
        BUILDER.save(model, path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_where_it_cannot_be_written(tmp_path: Path) -> None:
    model = BUILDER.open(models.matmul(random(8, 8)), {})
    with pytest.raises(nncf.InvalidPathError, match="missing"):
        BUILDER.save(model, tmp_path / "missing" / "model.onnx")
    with pytest.raises(nncf.InvalidPathError, match="folder"):
        BUILDER.save(model, tmp_path)


def test_large_models_are_written_with_external_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    proto = models.tied(random(64, 96))
    path = saved(proto, tmp_path)
    monkeypatch.setattr(saving, "LIMIT", 1000)
    out = tmp_path / "out.onnx"
    run_pipeline(INT8, path, output=out)
    assert (tmp_path / "out.onnx.data").stat().st_size >= 64 * 96
    onnx.checker.check_model(out)
    first = [(tmp_path / name).read_bytes() for name in ("out.onnx", "out.onnx.data")]
    run_pipeline(INT8, path, output=out)
    assert [(tmp_path / name).read_bytes() for name in ("out.onnx", "out.onnx.data")] == first
    ids = np.array([1, 2, 3, 4])
    monkeypatch.undo()
    np.testing.assert_array_equal(run(onnx.load(out), i=ids)[0], run(nncf.compress_weights(proto), i=ids)[0])
    monkeypatch.setattr(saving, "LIMIT", 1000)
    # what is over the limit stays in the file when it is given back to a script
    assert isinstance(nncf.compress_weights(path), ir.Model)


def test_small_and_large_tensors_keep_their_order(tmp_path: Path) -> None:
    constants = {f"c{size}": random(size, seed=size) for size in (4, 3000, 5, 300, 2, 256, 255)}
    nodes = [helper.make_node("Relu", [name], [f"{name}_out"]) for name in constants]
    proto = models.model(nodes, constants, {}, {f"{name}_out": [len(c)] for name, c in constants.items()})
    BUILDER.save(BUILDER.open(saved(proto, tmp_path), {}), tmp_path / "copy.onnx")
    copy = onnx.load(tmp_path / "copy.onnx")
    assert [t.SerializeToString() for t in copy.graph.initializer] == [
        t.SerializeToString() for t in proto.graph.initializer
    ]
    session = onnxruntime.InferenceSession(tmp_path / "copy.onnx", providers=["CPUExecutionProvider"])
    for (name, constant), output in zip(constants.items(), session.run(None, {}), strict=True):
        np.testing.assert_array_equal(output, np.maximum(constant, 0), err_msg=name)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from([0, 1, 255, 256, 257, 5000]), min_size=1, max_size=6), st.text(max_size=300))
def test_any_sizes_give_a_valid_file(sizes: list[int], note: str) -> None:
    constants = {f"{STREAMED}{index}": np.arange(size, dtype=np.float32) for index, size in enumerate(sizes)}
    graph = helper.make_graph([], "g", [], [], [numpy_helper.from_array(a, n) for n, a in constants.items()])
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], doc_string=note + STREAMED + "0")
    with TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        BUILDER.save(BUILDER.open(proto, {}), path)
        copy = onnx.load(path)
    assert copy.doc_string == proto.doc_string
    assert [t.SerializeToString() for t in copy.graph.initializer] == [
        t.SerializeToString() for t in proto.graph.initializer
    ]


def test_a_tensor_that_gives_other_bytes_than_it_says(tmp_path: Path) -> None:
    model = BUILDER.open(models.matmul(random(64, 64)), {})
    wrong = ir.LazyTensor(
        lambda: ir.Tensor(random(64, 63)), dtype=ir.DataType.FLOAT, shape=ir.Shape([64, 64]), name="w"
    )
    model.graph.initializers["w"].const_value = wrong
    with pytest.raises(nncf.UnsupportedModelError, match="'w' has 16128 bytes"):
        BUILDER.save(model, tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("external", [False, True])
def test_a_full_disk(external: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(models.matmul(random(64, 64)), tmp_path, external)
    model, before = BUILDER.open(path, {}), {p: p.read_bytes() for p in tmp_path.iterdir()}

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(MappedTensor, "tofile", full)
    with pytest.raises(nncf.InvalidPathError, match="No space left"):
        BUILDER.save(model, path)
    assert {p: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_copies_without_help_of_the_kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(models.matmul(random(64, 64)), tmp_path)
    model = BUILDER.open(path, {})
    BUILDER.save(model, tmp_path / "kernel.onnx")

    def refuse(*_: object) -> int:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "copy_file_range", refuse, raising=False)
    BUILDER.save(model, tmp_path / "chunks.onnx")
    monkeypatch.delattr(os, "copy_file_range")
    BUILDER.save(model, tmp_path / "other_system.onnx")
    assert len({(tmp_path / f"{n}.onnx").read_bytes() for n in ("kernel", "chunks", "other_system")}) == 1
