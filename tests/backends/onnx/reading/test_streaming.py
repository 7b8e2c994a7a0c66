"""Codes go to the file while later weights are compressed; it is as good as one that is written at the end."""

import errno
import gc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("nncf_onnx")

import onnx
import onnx_ir as ir

import nncf
from nncf_core.numerics.formats import SCHEMES
from nncf_core.numerics.kernels import compress, decompress
from nncf_core.pipeline import run as run_pipeline
from nncf_core.transformations import CompressConstant, ReplaceConstant, Transformation
from nncf_onnx import saving, writing
from nncf_onnx.inserter import OnnxTargetPointInserter
from nncf_onnx.writing import WrittenTensor
from tests.backends.onnx import models
from tests.backends.onnx.models import random, run
from tests.backends.onnx.reading.files import BUILDER, INT8, saved

X = random(3, 64, seed=1)


def edits(weight: np.ndarray, name: str = "w") -> Iterator[Transformation]:
    yield CompressConstant(name, compress(weight, SCHEMES["int8_asym"], reduction_axes=0))


def edited(model: ir.Model, *transformations: Transformation) -> ir.Model:
    return OnnxTargetPointInserter().apply(model, BUILDER.build(model), transformations, {})


@pytest.mark.parametrize("external", [False, True])
def test_the_file_holds_what_one_written_at_the_end_holds(tmp_path: Path, external: bool) -> None:
    proto = models.tied(random(64, 96))
    path = saved(proto, tmp_path, external)
    run_pipeline(INT8, path, output=tmp_path / "streamed.onnx")
    model = run_pipeline(INT8, BUILDER.open(path, {})).model
    model.meta["nncf_onnx.external_data"] = external
    BUILDER.save(model, tmp_path / "whole.onnx")
    streamed, whole = onnx.load(tmp_path / "streamed.onnx"), onnx.load(tmp_path / "whole.onnx")
    onnx.checker.check_model(tmp_path / "streamed.onnx", full_check=True)
    assert (tmp_path / "streamed.onnx.data").exists() == external

    def by_name(proto: onnx.ModelProto) -> dict[str, bytes]:
        return {tensor.name: tensor.SerializeToString() for tensor in proto.graph.initializer}

    assert by_name(streamed) == by_name(whole)
    for proto in (streamed, whole):
        proto.graph.ClearField("initializer")
    assert streamed == whole


@pytest.mark.parametrize("external", [False, True])
def test_what_is_written_can_be_read_and_replaced(tmp_path: Path, external: bool) -> None:
    w = random(64, 64)
    model = BUILDER.open(saved(models.matmul(w), tmp_path, external), {})
    path = tmp_path / "out.onnx"
    with saving.streaming(model, path):
        edited(model, *edits(w))
        assert isinstance(model.graph.initializers["w_quantized"].const_value, WrittenTensor)
        graph = BUILDER.build(model)
        want = decompress(compress(w, SCHEMES["int8_asym"], reduction_axes=0))
        np.testing.assert_array_equal(graph.constants["w"].read(), want)
        # a later round puts other values in its place: what was written is not in the result
        edited(model, ReplaceConstant("w", w * 2))
        assert not path.exists()
        BUILDER.save(model, path)
    np.testing.assert_allclose(run(onnx.load(path), x=X)[0], X @ (w * 2), rtol=1e-4, atol=1e-4)
    assert [t.name for t in onnx.load(path).graph.initializer] == ["w"]
    again = tmp_path / "again.onnx"
    BUILDER.save(BUILDER.open(path, {}), again)
    assert abs(path.stat().st_size - again.stat().st_size) < 100


def test_a_weight_that_survives_a_new_beginning(tmp_path: Path) -> None:
    w, v = random(64, 64), random(64, 64, seed=5)
    nodes = [onnx.helper.make_node("MatMul", ["x", "w"], ["h"]), onnx.helper.make_node("MatMul", ["h", "v"], ["y"])]
    proto = models.model(nodes, {"w": w, "v": v}, {"x": ["n", 64]}, {"y": ["n", 64]})
    path = tmp_path / "out.onnx"
    model = BUILDER.open(saved(proto, tmp_path), {})
    with saving.streaming(model, path):
        edited(model, *edits(w), *edits(v, "v"))
        edited(model, ReplaceConstant("w", w))
        BUILDER.save(model, path)
    want = X @ w @ decompress(compress(v, SCHEMES["int8_asym"], reduction_axes=0))
    np.testing.assert_allclose(run(onnx.load(path), x=X)[0], want, rtol=1e-3, atol=1e-3)


def test_a_changed_header_is_written(tmp_path: Path) -> None:
    w = random(64, 64)
    model = BUILDER.open(saved(models.matmul(w), tmp_path), {})
    with saving.streaming(model, tmp_path / "out.onnx"):
        edited(model, *edits(w))
        model.producer_name = "somebody"
        BUILDER.save(model, tmp_path / "out.onnx")
    proto = onnx.load(tmp_path / "out.onnx")
    assert proto.producer_name == "somebody"
    assert proto.graph.initializer[0].name == "w_quantized"


@pytest.mark.parametrize("external", [False, True])
def test_a_disk_that_is_full_on_the_way(tmp_path: Path, external: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(models.matmul(random(64, 64)), tmp_path, external)
    before = {p: p.read_bytes() for p in tmp_path.iterdir()}

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(writing, "write", full)
    with pytest.raises(nncf.InvalidPathError, match="No space left"):
        run_pipeline(INT8, path, output=path)
    assert {p: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_an_error_on_the_way_leaves_the_old_file(tmp_path: Path) -> None:
    bad = random(64, 64)
    bad[5, 5] = np.nan
    nodes = [onnx.helper.make_node("MatMul", ["x", "w"], ["h"]), onnx.helper.make_node("MatMul", ["h", "v"], ["y"])]
    proto = models.model(nodes, {"w": random(64, 64), "v": bad}, {"x": ["n", 64]}, {"y": ["n", 64]})
    path = saved(proto, tmp_path)
    before = path.read_bytes()
    with pytest.raises(nncf.ValidationError, match="'v'"):
        run_pipeline(INT8, path, output=path)
    gc.collect()
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_the_source_may_be_the_target(tmp_path: Path) -> None:
    w = random(640, 640)
    path = saved(models.matmul(w), tmp_path)
    run_pipeline(INT8, path, output=tmp_path / "other.onnx")
    run_pipeline(INT8, path, output=path)
    assert path.read_bytes() == (tmp_path / "other.onnx").read_bytes()
