"""Running, sub-models and statistics."""

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

pytest.importorskip("nncf_onnx")

from onnx import TensorProto, helper

import nncf
from nncf_core.graph import Graph
from nncf_core.statistics import Statistics, StatisticsRequest
from nncf_core.transformations import CompressConstant, InsertMultiply, PointKind, TargetPoint
from nncf_onnx import running
from nncf_onnx.statistics_aggregator import OnnxStatisticsAggregator
from tests.backends.onnx.models import matmul, model, random
from tests.backends.onnx.writing.reference import BUILDER, EXACT, INSERTER, compressed, meaning, written

node = helper.make_node
AGGREGATOR = OnnxStatisticsAggregator()
A, B = random(16, 32), random(32, 24, seed=1)


def layers(dtype: str = "float32") -> onnx.ModelProto:
    """``y = relu(x · a) · b``; nothing says the types in between."""
    nodes = [
        node("MatMul", ["x", "a"], ["h"], name="first"),
        node("Relu", ["h"], ["r"], name="relu"),
        node("MatMul", ["r", "b"], ["y"], name="second"),
    ]
    constants = {"a": A.astype(dtype), "b": B.astype(dtype)}
    return model(nodes, constants, {"x": ["n", 16]}, {"y": ["n", 24]}, dtype=dtype)


def two_inputs() -> onnx.ModelProto:
    nodes = [node("Gather", ["w", "i"], ["e"], name="embed"), node("Add", ["e", "x"], ["y"], name="add")]
    types = {"i": TensorProto.INT64}
    return model(nodes, {"w": random(10, 4)}, {"i": [3], "x": [3, 4]}, {"y": [3, 4]}, types=types)


def opened(proto: onnx.ModelProto) -> tuple[ir.Model, Graph]:
    working = BUILDER.open(proto, {})
    return working, BUILDER.build(working)


SECOND_INPUT = TargetPoint("second", PointKind.INPUT, 0)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_sub_models(dtype: str) -> None:
    working, _ = opened(layers(dtype))
    before = ir.to_proto(working).SerializeToString()
    x = random(5, 16, dtype=dtype)
    whole = INSERTER.runner(working)({"x": x})["y"]
    head = INSERTER.extract(working, (), [SECOND_INPUT, TargetPoint("relu"), TargetPoint("first")])
    tensors = INSERTER.runner(head)({"x": x})
    assert list(tensors) == ["second:input:0", "relu:output:0", "first:output:0"]
    np.testing.assert_array_equal(tensors["second:input:0"], np.maximum(tensors["first:output:0"], 0))
    tail = INSERTER.extract(working, [SECOND_INPUT], [TargetPoint("second")])
    assert [n.op_type for n in tail.graph] == ["MatMul", "Identity"]
    assert set(tail.graph.initializers) == {"b"}
    got = INSERTER.runner(tail)({"second:input:0": tensors["second:input:0"]})["second:output:0"]
    # onnxruntime computes chains of float16 in float32, and rounds at the ends
    np.testing.assert_allclose(got, whole, rtol=0, atol=2e-2 if dtype == "float16" else 1e-5)
    assert ir.to_proto(working).SerializeToString() == before


def test_points_that_do_not_exist_or_cannot_be_reached() -> None:
    working, _ = opened(layers())
    for point in (
        TargetPoint("none"),
        TargetPoint("first", PointKind.OUTPUT, 1),
        TargetPoint("first", PointKind.INPUT, 7),
    ):
        with pytest.raises(nncf.ValidationError, match="no point"):
            INSERTER.extract(working, (), [point])
    with pytest.raises(nncf.ValidationError, match="depend on 'x'"):
        INSERTER.extract(working, [SECOND_INPUT], [TargetPoint("first")])


def test_weights_are_read_where_they_are(tmp_path: Path) -> None:
    """Mapped from the file; the model is not changed, and may go before its session."""
    path = tmp_path / "m.onnx"
    onnx.save(layers(), path)
    working = BUILDER.open(path, {})
    session = running.session_for(working)
    assert {w.shape for w in session.weights} == {A.shape, B.shape}
    assert not any(w.flags.owndata for w in session.weights)
    assert working.graph.initializers["a"].const_value is not None
    x = random(5, 16)
    np.testing.assert_array_equal(working.graph.initializers["a"].const_value.numpy(), A)
    del working
    np.testing.assert_allclose(session.run({"x": x})["y"], np.maximum(x @ A, 0) @ B, rtol=0, atol=1e-4)


@pytest.mark.parametrize("scheme", ["int8_asym", "int4_asym", "fp8_e4m3", "nf4"])
def test_the_runner_computes_with_activations_as_they_are(scheme: str) -> None:
    """Also where onnxruntime fuses codes and product, and would round the activations to 8 bits."""
    w, x = random(64, 32), random(7, 64, seed=4)
    tensor = compressed(w, scheme, 0, 32)
    proto = written(matmul(w), tensor)
    got = INSERTER.runner(BUILDER.open(proto, {}))({"x": x[:3]})["y"]
    np.testing.assert_allclose(got, x[:3] @ meaning(tensor), rtol=0, atol=1e-5 * np.abs(got).max())


def test_models_that_protobuf_cannot_hold_run_from_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    w = random(64, 64)
    tensor = compressed(w, "int4_asym", 0, 16)
    working = BUILDER.open(written(matmul(w), tensor), {})
    monkeypatch.setattr(running, "LIMIT", 1000)  # the codes take 2048 bytes, and numpy has no such type
    session = running.session_for(working)
    assert not session.weights
    x = random(3, 64)
    np.testing.assert_allclose(session.run({"x": x})["y"], x @ meaning(tensor), rtol=0, atol=1e-4)


def test_a_transposed_operand_in_float16() -> None:
    """A fusion of onnxruntime 1.32 ends the process."""
    nodes = [node("Transpose", ["x"], ["t"], perm=[1, 0, 2]), node("MatMul", ["t", "a"], ["y"])]
    proto = model(nodes, {"a": A.astype(np.float16)}, {"x": ["n", "m", 16]}, {"y": ["m", "n", 32]}, dtype="float16")
    x = random(2, 3, 16, seed=4).astype(np.float16)
    found = running.runner(opened(proto)[0])({"x": x})["y"]
    np.testing.assert_allclose(found, x.transpose(1, 0, 2) @ A.astype(np.float16), rtol=0.01, atol=0.01)


def test_the_same_results_from_many_threads() -> None:
    run, x = INSERTER.runner(opened(layers())[0]), random(33, 16)
    want, got = run({"x": x})["y"], []
    threads = [threading.Thread(target=lambda: got.append(run({"x": x})["y"])) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(np.array_equal(y, want) for y in got)
    assert len(got) == 8


def test_what_onnxruntime_does_not_run_is_one_clear_error() -> None:
    proto = layers()
    proto.opset_import.append(helper.make_opsetid("own", 1))
    proto.graph.node[1].domain = "own"
    with pytest.raises(nncf.UnsupportedModelError, match="onnxruntime does not run the model"):
        INSERTER.runner(BUILDER.open(proto, {}))


def requests() -> list[StatisticsRequest]:
    return [
        StatisticsRequest(point, kind, axis)
        for point in (SECOND_INPUT, TargetPoint("first"), TargetPoint("first", PointKind.INPUT, 0))
        for kind in ("abs_max", "max", "mean", "mean_max", "mean_min", "mean_square", "min")
        for axis in (None, -1)
    ]


def expected(samples: list[np.ndarray], request: StatisticsRequest) -> np.ndarray:
    x = np.concatenate(samples).astype(np.float64)
    hidden = {"first:input:0": x, "first:output:0": x @ A, "second:input:0": np.maximum(x @ A, 0)}
    y = hidden[str(request.target)]
    if request.kind in ("mean_min", "mean_max"):
        reduce = np.min if request.kind == "mean_min" else np.max
        parts = np.split(y, np.cumsum([len(sample) for sample in samples])[:-1])
        return np.mean([reduce(part, axis=None if request.axis is None else 0) for part in parts], axis=0)
    if request.kind == "tensors":
        return y.reshape(-1)
    functions = {
        "min": np.min, "max": np.max, "mean": np.mean,
        "abs_max": lambda v, axis: np.abs(v).max(axis=axis), "mean_square": lambda v, axis: (v**2).mean(axis=axis),
    }  # fmt: skip
    return np.asarray(functions[request.kind](y, axis=None if request.axis is None else 0))


def test_statistics_are_those_of_the_tensors_and_halves_merge() -> None:
    working, graph = opened(layers())
    samples = [random(count, 16, seed=count) for count in (1, 4, 2, 7, 3)]
    whole = AGGREGATOR.collect(working, graph, requests(), iter(samples))
    first, second = (AGGREGATOR.collect(working, graph, requests(), part) for part in (samples[:2], samples[2:]))
    first.merge(second)
    restored = Statistics()
    restored.restore(tuple(requests()), whole.arrays())
    for request in requests():
        want = expected(samples, request)
        np.testing.assert_allclose(whole[request], want, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(first[request], whole[request], rtol=1e-12)
        np.testing.assert_array_equal(restored[request], whole[request])


def test_statistics_after_edits() -> None:
    """A factor in front of a node is seen at its input; a weight that is compressed is seen in its output."""
    working, graph = opened(layers())
    tensor, factor = compressed(B, "int4_asym", 0, 16), np.full(32, 2, np.float32)
    INSERTER.apply(working, graph, [InsertMultiply(SECOND_INPUT, factor), CompressConstant("b", tensor)], EXACT)
    wanted = [StatisticsRequest(SECOND_INPUT, "max"), StatisticsRequest(TargetPoint("second"), "max")]
    x = random(9, 16)
    found = AGGREGATOR.collect(working, BUILDER.build(working), wanted, [x])
    hidden = 2 * np.maximum(x @ A, 0)
    for request, want in zip(wanted, (hidden.max(), (hidden @ meaning(tensor)).max()), strict=True):
        np.testing.assert_allclose(found[request], want, rtol=1e-4)


def test_items_of_every_kind() -> None:
    working, graph = opened(two_inputs())
    wanted = [StatisticsRequest(TargetPoint("add"), "mean")]
    i, x = np.array([1, 2, 3]), random(3, 4)
    items = [{"i": i, "x": x}, {"x": x, "i": i}, (i, x), [i, x], {"i": i.tolist(), "x": x}, (i, x.astype(np.float64))]
    values = [AGGREGATOR.collect(working, graph, wanted, [item])[wanted[0]] for item in items]
    assert len({float(v) for v in values}) == 1
    single, graph = opened(layers())
    request = StatisticsRequest(TargetPoint("second"), "max")
    arrays = [random(2, 16), (random(2, 16),), {"x": random(2, 16)}]
    assert len({float(AGGREGATOR.collect(single, graph, [request], [item])[request]) for item in arrays}) == 1


BOTH = "the model's inputs are 'i' int64 [3], 'x' float32 [3, 4]."


@pytest.mark.parametrize(
    ("item", "said"),
    [
        (random(3, 4), BOTH), ((random(3, 4),), BOTH), ({"i": np.arange(3)}, BOTH), (None, BOTH), ("text", BOTH),
        ({"i": np.arange(3), "x": random(3, 4), "z": random(1)}, BOTH),
        ({"i": np.arange(3), "x": random(3, 5)}, "the input 'x' takes float32 [3, 4], and is given float32 [3, 5]."),
        (
            {"i": np.arange(3), "x": np.ones((3, 4), np.int32)},
            "the input 'x' takes float32 [3, 4], and is given int32 [3, 4].",
        ),
    ],
)  # fmt: skip
def test_items_that_do_not_fit_name_the_inputs(item: object, said: str) -> None:
    working, graph = opened(two_inputs())
    with pytest.raises(nncf.UnsupportedDatasetError) as raised:
        AGGREGATOR.collect(working, graph, [StatisticsRequest(TargetPoint("add"), "mean")], [item])
    assert said in str(raised.value)


def test_no_items_is_an_error_and_items_are_taken_one_by_one() -> None:
    working, graph = opened(layers())
    wanted = [StatisticsRequest(TargetPoint("second"), "max")]
    with pytest.raises(nncf.UnsupportedDatasetError, match="no items"):
        AGGREGATOR.collect(working, graph, wanted, [])

    def failing() -> Iterator[np.ndarray]:
        yield random(2, 16)
        raise RuntimeError("the user's own")

    with pytest.raises(RuntimeError, match="the user's own"):
        AGGREGATOR.collect(working, graph, wanted, failing())
