"""Opening, describing and saving ONNX models; malformed ones give one clear error."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("nncf_onnx")

import onnx
import onnx_ir as ir
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

import nncf
from nncf_core.errors import NNCFError
from nncf_core.graph import Graph, OpKind, WeightLayout
from nncf_core.pipeline import run as run_pipeline
from nncf_onnx import saving
from nncf_onnx.builder import OnnxGraphBuilder
from nncf_onnx.mapped import MappedTensor
from nncf_onnx.wire import skeleton
from tests.backends.onnx import models
from tests.backends.onnx.models import random, run

BUILDER = OnnxGraphBuilder()
INT8 = {"compression": {"algorithm": "weight_compression"}}


def graph_of(proto: onnx.ModelProto | Path) -> Graph:
    return BUILDER.build(BUILDER.open(proto, {}))


def saved(proto: onnx.ModelProto, folder: Path, external: bool = False) -> Path:
    path = folder / "model.onnx"
    onnx.save(proto, path, save_as_external_data=external, location="weights.bin", size_threshold=0)
    return path


# --- opening


def test_weights_of_a_file_stay_in_the_file(tmp_path: Path) -> None:
    w = random(64, 64)
    path = saved(models.matmul(w), tmp_path)
    model = BUILDER.open(path, {})
    tensor = model.graph.initializers["w"].const_value
    assert isinstance(tensor, MappedTensor)
    np.testing.assert_array_equal(tensor.numpy(), w)
    assert not tensor.numpy().flags.writeable
    assert len(skeleton(memoryview(path.read_bytes()))) < 1000


def test_memory_stays_small(tmp_path: Path) -> None:
    path = saved(models.matmul(np.zeros((8192, 8192), np.float32)), tmp_path)
    assert path.stat().st_size > 256e6
    script = (
        "import resource, sys; from pathlib import Path; import numpy, onnx, onnx_ir, onnxruntime\n"
        "from nncf_core import pipeline; from nncf_onnx.builder import OnnxGraphBuilder\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024\n"
        "b = OnnxGraphBuilder(); before = peak(); m = b.open(Path(sys.argv[1]), {}); b.build(m); opened = peak()\n"
        "b.save(m, Path(sys.argv[2])); print(opened - before, peak() - before)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, path, tmp_path / "copy.onnx"], capture_output=True, text=True, check=True
    )
    opened, saved_ = map(float, done.stdout.split())
    assert opened < 40
    assert saved_ < 100
    assert (tmp_path / "copy.onnx").stat().st_size == pytest.approx(path.stat().st_size, abs=100)


def test_external_data_is_mapped(tmp_path: Path) -> None:
    w = random(64, 64)
    path = saved(models.matmul(w), tmp_path, external=True)
    assert isinstance(BUILDER.open(path, {}).graph.initializers["w"].const_value, MappedTensor)
    run_pipeline(INT8, path, output=tmp_path / "small.onnx")
    x = random(3, 64, seed=1)
    want = run(nncf.compress_weights(models.matmul(w)), x=x)[0]
    np.testing.assert_array_equal(run(onnx.load(tmp_path / "small.onnx"), x=x)[0], want)


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


def test_an_ir_model_gives_an_ir_model_and_stays_as_it_is() -> None:
    proto = models.matmul(random(64, 32))
    model = ir.from_proto(proto)
    result = nncf.compress_weights(model)
    assert isinstance(result, ir.Model)
    assert [n.op_type for n in result.graph] == ["DequantizeLinear", "MatMul"]
    assert ir.to_proto(model).SerializeToString() == ir.to_proto(ir.from_proto(proto)).SerializeToString()


def test_a_path_gives_a_proto(tmp_path: Path) -> None:
    path = saved(models.matmul(random(64, 32)), tmp_path)
    for source in (path, str(path)):
        assert isinstance(nncf.compress_weights(source), onnx.ModelProto)


def test_functions_are_inlined(tmp_path: Path) -> None:
    w = random(64, 32)
    body = [helper.make_node("MatMul", ["a", "b"], ["c"])]
    function = helper.make_function("own", "Linear", ["a", "b"], ["c"], body, [helper.make_opsetid("", 21)])
    graph = helper.make_graph(
        [helper.make_node("Linear", ["x", "w"], ["y"], name="linear", domain="own")],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [3, 64])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [3, 32])],
        [numpy_helper.from_array(w, "w")],
    )
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("own", 1)]
    proto = helper.make_model(graph, opset_imports=opsets, functions=[function], ir_version=10)
    result = nncf.compress_weights(saved(proto, tmp_path))
    assert [n.op_type for n in result.graph.node] == ["DequantizeLinear", "MatMul"]
    x = random(3, 64, seed=1)
    np.testing.assert_allclose(run(result, x=x)[0], run(proto, x=x)[0], atol=0.2)


def test_custom_operators_are_left_alone() -> None:
    graph = helper.make_graph(
        [
            helper.make_node("Strange", ["x", "v"], ["h"], name="strange", domain="own"),
            helper.make_node("MatMul", ["h", "w"], ["y"], name="matmul"),
        ],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [3, 64])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [3, 32])],
        [numpy_helper.from_array(random(64, 32), n) for n in ("v", "w")],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21), helper.make_opsetid("own", 1)])
    assert graph_of(proto).node("strange").kind is OpKind.OTHER
    result = nncf.compress_weights(proto)
    assert {t.name for t in result.graph.initializer} == {"v", "w_quantized", "w_scale", "w_zero_point"}


# --- describing


@pytest.mark.parametrize(
    ("node", "shape", "layout"),
    [
        (helper.make_node("MatMul", ["x", "w"], ["y"]), (8, 4), WeightLayout((0,), (1,))),
        (helper.make_node("MatMul", ["w", "x"], ["y"]), (8, 4), WeightLayout((1,), (0,))),
        (helper.make_node("MatMul", ["x", "w"], ["y"]), (2, 8, 4), WeightLayout((1,), (2,), (0,))),
        (helper.make_node("Gemm", ["x", "w"], ["y"]), (8, 4), WeightLayout((0,), (1,))),
        (helper.make_node("Gemm", ["x", "w"], ["y"], transB=1), (4, 8), WeightLayout((1,), (0,))),
        (helper.make_node("Gemm", ["w", "x"], ["y"]), (4, 8), WeightLayout((1,), (0,))),
        (helper.make_node("Gemm", ["w", "x"], ["y"], transA=1), (8, 4), WeightLayout((0,), (1,))),
        (helper.make_node("Conv", ["x", "w"], ["y"]), (4, 8, 3, 3), WeightLayout((1, 2, 3), (0,))),
        (helper.make_node("Conv", ["x", "w"], ["y"]), (4, 8, 3), WeightLayout((1, 2), (0,))),
        (helper.make_node("ConvTranspose", ["x", "w"], ["y"]), (8, 4, 3, 3), WeightLayout((0, 2, 3), (1,))),
        (helper.make_node("ConvTranspose", ["x", "w"], ["y"], group=2), (8, 4, 3, 3), WeightLayout((1, 2, 3), (0,))),
        (helper.make_node("Gather", ["w", "x"], ["y"]), (8, 4), WeightLayout((1,), (0,))),
        (helper.make_node("Gather", ["w", "x"], ["y"], axis=-2), (8, 4), WeightLayout((1,), (0,))),
        (helper.make_node("Gather", ["w", "x"], ["y"], axis=1), (8, 4), None),
        (helper.make_node("LSTM", ["x", "w", "w"], ["y"], hidden_size=1), (1, 4, 8), WeightLayout((2,), (1,), (0,))),
        (helper.make_node("Add", ["x", "w"], ["y"]), (8, 4), None),
    ],
)  # fmt: skip
def test_layouts(node: onnx.NodeProto, shape: tuple[int, ...], layout: WeightLayout | None) -> None:
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, None)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(random(*shape), "w")],
    )
    described = graph_of(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)]))
    (found,) = described.nodes
    index = list(node.input).index("w")
    assert found.inputs[index].constant == "w"
    assert found.inputs[index].layout == layout


def test_weights_are_seen_through_transposes_casts_and_copies() -> None:
    w = random(4, 3, 8, dtype="float16")
    nodes = [
        helper.make_node("Cast", ["w"], ["a"], name="cast", to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["a"], ["b"], name="one", perm=[2, 0, 1]),
        helper.make_node("Identity", ["b"], ["c"], name="copy"),
        helper.make_node("Transpose", ["c"], ["d"], name="two", perm=[2, 0, 1]),
        helper.make_node("MatMul", ["x", "d"], ["y"], name="matmul"),
    ]
    # [4, 3, 8] → [8, 4, 3] → [3, 8, 4]: experts, input channels, output channels
    proto = models.model(nodes, {"w": w}, {"x": [3, 5, 8]}, {"y": [3, 5, 4]})
    port = graph_of(proto).node("matmul").inputs[1]
    assert port.constant == "w"
    assert port.layout == WeightLayout((2,), (0,), (1,))
    x = random(3, 5, 8, seed=1)
    result = nncf.compress_weights(proto)
    assert "w_quantized" in {t.name for t in result.graph.initializer}
    np.testing.assert_allclose(run(result, x=x)[0], run(proto, x=x)[0], atol=0.1)


def test_names_are_unique_and_the_users_where_they_can_be() -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["a"]),
        helper.make_node("Relu", ["a"], ["b"], name="same"),
        helper.make_node("Relu", ["b"], ["c"], name="same"),
        helper.make_node("Relu", ["c"], ["y"], name="Relu_0"),
    ]
    proto = models.model(nodes, {}, {"x": [2]}, {"y": [2]})
    assert [node.name for node in graph_of(proto)] == ["Relu_0_1", "same", "same_1", "Relu_0"]


def test_bodies_are_described_with_their_scope() -> None:
    body = helper.make_graph(
        [
            helper.make_node("MatMul", ["state", "w"], ["next"], name="step"),
            helper.make_node("Identity", ["go"], ["go_on"], name="again"),
        ],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("state", TensorProto.FLOAT, [3, 8]),
        ],
        [
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.FLOAT, [3, 8]),
        ],
        [numpy_helper.from_array(random(8, 8), "w")],
    )
    nodes = [helper.make_node("Loop", ["n", "", "x"], ["y"], name="loop", body=body)]
    proto = models.model(nodes, {}, {"n": [], "x": [3, 8]}, {"y": [3, 8]}, types={"n": TensorProto.INT64})
    graph = graph_of(proto)
    assert [(n.name, n.scope) for n in graph] == [("step", ("loop",)), ("again", ("loop",)), ("loop", ())]
    result = nncf.compress_weights(proto)
    onnx.checker.check_model(result)
    feed = {"n": np.array(3), "x": random(3, 8, seed=1)}
    assert "DequantizeLinear" in {n.op_type for n in result.graph.node[0].attribute[0].g.node}
    want = run(proto, **feed)[0]
    np.testing.assert_allclose(run(result, **feed)[0], want, atol=0.05 * np.abs(want).max())
    ignored = nncf.compress_weights(proto, ignored_scope=nncf.IgnoredScope(names=["loop"]))
    assert ignored.SerializeToString() == ir.to_proto(BUILDER.open(proto, {})).SerializeToString()


# --- saving


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


# --- malformed input


def broken(proto: onnx.ModelProto, tmp_path: Path, **compress: object) -> str:
    """The message of the one error that a broken model gives; nothing is written."""
    path = tmp_path / "broken.onnx"
    path.write_bytes(proto.SerializeToString())
    files = set(tmp_path.iterdir())
    with pytest.raises(NNCFError) as caught:
        run_pipeline({"compression": {"algorithm": "weight_compression", **compress}}, path, output=tmp_path / "o.onnx")
    assert set(tmp_path.iterdir()) == files
    return str(caught.value)


def test_a_truncated_file_at_any_length(tmp_path: Path) -> None:
    data = models.matmul(random(64, 32)).SerializeToString()
    path = tmp_path / "model.onnx"
    rng = np.random.default_rng(0)
    for length in [0, 1, 7, *rng.integers(8, len(data), 40)]:
        path.write_bytes(data[:length])
        with pytest.raises(NNCFError):
            nncf.compress_weights(path)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_damaged_file_is_a_model_or_a_clear_error(data: st.DataObject) -> None:
    original = bytearray(models.gemm(random(32, 64), bias=random(32)).SerializeToString())
    for _ in range(data.draw(st.integers(1, 4))):
        original[data.draw(st.integers(0, 120) | st.integers(0, len(original) - 1))] = data.draw(st.integers(0, 255))
    folder = Path(os.environ.get("PYTEST_TMP", "/tmp"))
    path = folder / f"nncf_damaged_{os.getpid()}.onnx"
    path.write_bytes(original)
    try:
        nncf.compress_weights(path)
    except NNCFError:
        pass
    finally:
        path.unlink()


def test_no_model_at_all(tmp_path: Path) -> None:
    (tmp_path / "text.onnx").write_text("this is no model " * 100)
    for path, error, message in [
        (tmp_path / "none.onnx", nncf.InvalidPathError, "no model file"),
        (tmp_path, nncf.UnsupportedBackendError, "suffix"),
        (tmp_path / "text.onnx", nncf.UnsupportedModelError, "text.onnx"),
    ]:
        with pytest.raises(error, match=message):
            nncf.compress_weights(path)


def test_missing_initializer(tmp_path: Path) -> None:
    proto = models.matmul(random(64, 32))
    del proto.graph.initializer[:]
    assert "nothing produces 'w'" in broken(proto, tmp_path)


def test_cyclic_graph(tmp_path: Path) -> None:
    proto = models.matmul(random(64, 32))
    proto.graph.node.add(op_type="Add", input=["y", "q"], output=["p"], name="one")
    proto.graph.node.add(op_type="Relu", input=["p"], output=["q"], name="two")
    assert "cycle" in broken(proto, tmp_path)


def test_nodes_out_of_order_are_sorted() -> None:
    proto = models.matmul(random(64, 32))
    proto.graph.node.insert(0, helper.make_node("Relu", ["y"], ["z"], name="late"))
    proto.graph.output[0].name = "z"
    assert [n.name for n in graph_of(proto)] == ["matmul", "late"]


def test_one_tensor_produced_twice(tmp_path: Path) -> None:
    proto = models.matmul(random(64, 32))
    proto.graph.node.add(op_type="Relu", input=["x"], output=["y"], name="again")
    assert "'y' is produced by" in broken(proto, tmp_path)


@pytest.mark.parametrize(("opset", "message"), [(12, "13"), (99, "99"), (None, "no opset")])
def test_unknown_opsets(opset: int | None, message: str, tmp_path: Path) -> None:
    proto = models.matmul(random(64, 32))
    del proto.opset_import[:]
    if opset is not None:
        proto.opset_import.add(domain="", version=opset)
    assert message in broken(proto, tmp_path)


def test_no_graph(tmp_path: Path) -> None:
    assert "no graph" in broken(onnx.ModelProto(ir_version=10), tmp_path)


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


def test_data_of_the_wrong_length(tmp_path: Path) -> None:
    proto = models.matmul(random(64, 64))
    proto.graph.initializer[0].dims[0] = 65
    assert "'w'" in broken(proto, tmp_path)


def test_small_data_of_the_wrong_length(tmp_path: Path) -> None:
    proto = models.matmul(random(4, 4))
    proto.graph.initializer[0].dims[0] = 5
    assert "'w'" in broken(proto, tmp_path)


def test_weights_without_elements(tmp_path: Path) -> None:
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"], name="matmul")],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [3, 0])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [3, 4])],
        [numpy_helper.from_array(np.zeros((0, 4), np.float32), "w")],
    )
    message = broken(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)]), tmp_path)
    assert "'w' of node 'matmul'" in message


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("mode", ["int8_asym", "int4_sym", "nf4"])
def test_weights_that_are_not_finite(value: float, mode: str, tmp_path: Path) -> None:
    w = random(128, 32)
    w[5, 7] = value
    more = {} if mode.startswith("int8") else {"all_layers": True}
    assert "'w'" in broken(models.matmul(w), tmp_path, mode=mode, **more)


def test_weights_that_other_tools_compressed_are_recognised() -> None:
    """DequantizeLinear of constants, without any shape of what lies between."""
    codes, scale = np.arange(64, dtype=np.int8).reshape(16, 4), np.linspace(0.5, 1, 4, dtype=np.float32)
    points = np.array([1, -2, 3, 0], np.int8)
    nodes = [
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["w"], name="dq", axis=1),
        helper.make_node("MatMul", ["x", "w"], ["y"], name="matmul"),
    ]
    proto = models.model(nodes, {"q": codes, "s": scale, "z": points}, {"x": [3, 16]}, {"y": [3, 4]})
    graph = graph_of(proto)
    port = graph.node("matmul").inputs[1]
    constant = graph.constants[port.constant]
    assert (constant.compressed_format, constant.granularity, constant.shape) == ("int8", "per channel", (16, 4))
    assert port.layout == WeightLayout((0,), (1,))
    np.testing.assert_array_equal(constant.read(), (codes.astype(np.float32) - points) * scale)
    assert nncf.compress_weights(proto).SerializeToString() == ir.to_proto(BUILDER.open(proto, {})).SerializeToString()
