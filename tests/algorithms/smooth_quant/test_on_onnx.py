"""Factors move between constants; what a network computes stays, and quantization does less harm to it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

import nncf
from nncf_core.pipeline import run

node = helper.make_node


def random(*shape: int, seed: int = 0, scale: float = 1.0) -> np.ndarray:
    fan = int(np.prod(shape[1:])) if len(shape) > 1 else 1
    return np.random.default_rng(seed).normal(0, scale / np.sqrt(fan), shape).astype(np.float32)


def spread(count: int, seed: int = 0) -> np.ndarray:
    """Factors that differ a thousandfold."""
    return np.exp(np.random.default_rng(seed).uniform(-3.5, 3.5, count)).astype(np.float32)


def model(
    nodes: list[onnx.NodeProto], constants: Mapping[str, np.ndarray], shape: list[int | str], dtype: str = "float32"
) -> onnx.ModelProto:
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_tensor_value_info("y", kind, None)],
        [numpy_helper.from_array(array.astype(dtype), name) for name, array in constants.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    return onnx.shape_inference.infer_shapes(made, strict_mode=True)


def convolutions(dtype: str = "float32", share: bool = False) -> onnx.ModelProto:
    """Every way to hand factors on: batch normalization, ReLU, pooling, a number that is multiplied and one that is
    added, groups, depthwise."""
    same = {"pads": [1, 1, 1, 1]}
    nodes = [
        node("Conv", ["x", "w0"], ["c0"], "stem", **same),
        node("BatchNormalization", ["c0", "gamma", "beta", "mean", "var"], ["n0"], "norm"),
        node("Relu", ["n0"], ["r0"], "relu"),
        node("MaxPool", ["r0"], ["p0"], "pool", kernel_shape=[2, 2], strides=[2, 2]),
        node("Conv", ["p0", "w1", "b1"], ["c1"], "depthwise", group=32, **same),
        node("HardSwish", ["c1"], ["h1"], "act"),
        node("Mul", ["h1", "a"], ["m1"], "times"),
        node("Add", ["m1", "b"], ["a1"], "plus"),
        node("Conv", ["a1", "w2", "b2"], ["c2"], "grouped", group=4),
        node("LeakyRelu", ["c2"], ["l2"], "leaky"),
        node("Conv", ["l2", "w0" if share else "w3"], ["y"], "last"),
    ]
    constants = {
        "w0": random(32, 32, 3, 3, seed=1), "gamma": spread(32), "beta": random(32, seed=2) * spread(32),
        "mean": random(32, seed=3),
        "var": spread(32, 1) ** 0.1, "w1": random(32, 1, 3, 3, seed=4) / spread(32).reshape(-1, 1, 1, 1),
        "b1": random(32, seed=5), "a": np.array([1.5]), "b": np.array([0.3]), "w2": random(16, 8, 1, 1, seed=6),
        "b2": random(16, seed=7), "w3": random(8, 16, 1, 1, seed=8) * spread(16, 2).reshape(1, -1, 1, 1) ** -1,
    }  # fmt: skip
    constants["w2"] *= spread(16, 2).reshape(-1, 1, 1, 1)
    return model(nodes, constants, ["n", 32, 12, 12], dtype)


def products() -> onnx.ModelProto:
    """Layer normalization before two matrix products, one of them a Gemm with a transposed weight."""
    nodes = [
        node("LayerNormalization", ["x", "gamma", "beta"], ["n"], "norm"),
        node("MatMul", ["n", "up"], ["u"], "up"),
        node("Add", ["u", "up_bias"], ["v"], "up_add"),
        node("Relu", ["v"], ["r"], "relu"),
        node("Gemm", ["r", "down", "down_bias"], ["d"], "down", transB=1),
        node("MatMul", ["n", "side"], ["s"], "side"),
        node("Add", ["d", "s"], ["y"], "sum"),
    ]
    constants = {
        "gamma": spread(32), "beta": random(32, seed=1) * spread(32),
        "up": random(32, 64, seed=2) / spread(32)[:, None],
        "up_bias": random(64, seed=3),
        "down": random(16, 64, seed=4), "down_bias": random(16, seed=5),
        "side": random(32, 16, seed=6) / spread(32)[:, None],
    }  # fmt: skip
    return model(nodes, constants, ["n", 32])


def samples(proto: onnx.ModelProto, count: int, seed: int = 0) -> list[np.ndarray]:
    tensor = proto.graph.input[0].type.tensor_type
    shape = [dim.dim_value or 2 for dim in tensor.shape.dim]
    dtype = helper.tensor_dtype_to_np_dtype(tensor.elem_type)
    generator = np.random.default_rng(seed)
    return [generator.normal(0, 1, shape).astype(dtype) for _ in range(count)]


def outputs(proto: onnx.ModelProto, items: list[np.ndarray]) -> np.ndarray:
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(None, {"x": x})[0].ravel() for x in items]).astype(np.float64)


def error(found: np.ndarray, wanted: np.ndarray) -> float:
    return float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))


def smoothed(proto: onnx.ModelProto, **section: Any) -> tuple[onnx.ModelProto, list[str]]:
    """The model, and the names of the constants that were changed."""
    config = {"compression": {"algorithm": "smooth_quant", **section}}
    result = run(config, proto, dataset=nncf.Dataset(samples(proto, 20)))
    onnx.checker.check_model(result.model, full_check=True)
    return result.model, [entry.target for entry in result.plan.entries]


@pytest.mark.parametrize("make", [convolutions, products])
def test_the_network_computes_the_same(make: Any) -> None:
    proto = make()
    result, changed = smoothed(proto)
    assert len(changed) > 3
    assert [n.op_type for n in result.graph.node] == [n.op_type for n in proto.graph.node]
    test = samples(proto, 5, seed=1)
    assert error(outputs(result, test), outputs(proto, test)) < 2e-6


def test_every_constant_that_can_take_factors_does() -> None:
    _, changed = smoothed(convolutions())
    # of a tensor that goes into a depthwise convolution, of one that goes into a grouped one, and of the last
    assert set(changed) == {"gamma", "beta", "w1", "a", "b", "w2", "b2", "w3"}
    _, changed = smoothed(products())
    assert {"gamma", "beta", "up", "side"} <= set(changed)


def test_a_number_becomes_one_for_each_channel() -> None:
    result, _ = smoothed(convolutions())
    shapes = {tensor.name: list(tensor.dims) for tensor in result.graph.initializer}
    assert (shapes["a"], shapes["b"]) == ([32, 1, 1], [32, 1, 1])


def test_few_digits_lose_nothing() -> None:
    proto = convolutions("float16")
    result, changed = smoothed(proto)
    assert changed
    before = {t.name: numpy_helper.to_array(t) for t in proto.graph.initializer}
    for tensor in result.graph.initializer:
        after = numpy_helper.to_array(tensor)
        ratio = after.astype(np.float64) / before[tensor.name]
        mantissa, _ = np.frexp(ratio[np.abs(after) > 1e-4])
        assert (mantissa == 0.5).all()


@pytest.mark.parametrize("make", [convolutions, products])
def test_quantization_does_less_harm(make: Any) -> None:
    proto = make()
    test = samples(proto, 20, seed=1)
    wanted = outputs(proto, test)
    off = nncf.AdvancedQuantizationParameters(smooth_quant_alphas=nncf.AdvancedSmoothQuantParameters(matmul=-1))
    quantized = [
        nncf.quantize(proto, nncf.Dataset(samples(proto, 30)), advanced_parameters=advanced) for advanced in (None, off)
    ]
    smooth, plain = (error(outputs(found, test), wanted) for found in quantized)
    assert smooth < 0.5 * plain


def test_a_given_strength_is_taken() -> None:
    results = [smoothed(products(), alpha_matmul=alpha)[0] for alpha in (0.3, 0.9)]
    first, second = ({t.name: numpy_helper.to_array(t) for t in r.graph.initializer}["gamma"] for r in results)
    assert np.abs(np.log(first) - np.log(second)).max() > 0.5
    assert smoothed(products(), alpha_matmul=-1)[1] == []
    assert smoothed(convolutions(), alpha_convolution=-1)[1] == []


def test_what_is_ignored_or_shared_stays() -> None:
    ignored = {"names": ["depthwise"]}
    assert not {"w1", "gamma", "beta"} & set(smoothed(convolutions(), ignored_scope=ignored)[1])
    nodes = [
        node("Gemm", ["x", "w"], ["h"], "first"),
        node("Relu", ["h"], ["r"], "relu"),
        node("Gemm", ["r", "w"], ["y"], "second"),
    ]
    shared = model(nodes, {"w": random(16, 16) * spread(16)}, ["n", 16])
    assert smoothed(shared)[1] == []


def test_outputs_stay_as_they_are() -> None:
    proto = products()
    proto.graph.output.append(helper.make_tensor_value_info("n", onnx.TensorProto.FLOAT, None))
    proto.graph.output.append(helper.make_tensor_value_info("v", onnx.TensorProto.FLOAT, None))
    proto = onnx.shape_inference.infer_shapes(proto)
    result, changed = smoothed(proto)
    assert not {"gamma", "beta", "up", "up_bias", "down"} & set(changed)
    quantized = nncf.quantize(proto, nncf.Dataset(samples(proto, 20)))
    x = samples(proto, 1, seed=1)[0]
    for found in (result, quantized):
        sessions = [
            onnxruntime.InferenceSession(m.SerializeToString(), providers=["CPUExecutionProvider"])
            for m in (found, proto)
        ]
        (_, n, _), (_, n_before, _) = (session.run(None, {"x": x}) for session in sessions)
        np.testing.assert_array_equal(n, n_before)


@pytest.mark.parametrize(("groups", "takes"), [(1, True), (4, False), (32, True)])
def test_transposed_convolutions_give_way_where_an_axis_is_that_of_their_outputs(groups: int, takes: bool) -> None:
    weight = random(32, 32 // groups, 2, 2) * spread(32)[:, None, None, None]
    if groups == 1:
        weight = weight.swapaxes(0, 1)
    nodes = [
        node("ConvTranspose", ["x", "w", "b"], ["t"], "up", group=groups, strides=[2, 2]),
        node("Relu", ["t"], ["r"], "relu"),
        node("Conv", ["r", "v"], ["y"], "last"),
    ]
    proto = model(nodes, {"w": weight, "b": random(32, seed=1), "v": random(16, 32, 3, 3)}, ["n", 32, 5, 5])
    result, changed = smoothed(proto)
    assert set(changed) == ({"w", "b", "v"} if takes else set())
    test = samples(proto, 3, seed=1)
    assert error(outputs(result, test), outputs(proto, test)) < 2e-6


def test_a_tensor_with_another_user_stays() -> None:
    nodes = [
        node("Gemm", ["x", "w0"], ["h"], "first"),
        node("Gemm", ["h", "w1"], ["g"], "second"),
        node("Sigmoid", ["h"], ["s"], "gate"),
        node("Mul", ["g", "s"], ["y"], "product"),
    ]
    proto = model(nodes, {"w0": random(16, 16) * spread(16), "w1": random(16, 16, seed=1)}, ["n", 16])
    assert smoothed(proto)[1] == []


def test_a_result_that_is_taken_in_floating_point_gets_a_product() -> None:
    weight = random(32, 32, 1, 1) * spread(32).reshape(-1, 1, 1, 1)
    nodes = [
        node("Conv", ["x", "w", "b"], ["c"], "conv"),
        node("Sigmoid", ["c"], ["s"], "gate"),
        node("Mul", ["c", "s"], ["y"], "product"),
    ]
    proto = model(nodes, {"w": weight, "b": random(32, seed=1)}, ["n", 32, 5, 5])
    result, changed = smoothed(proto)
    assert set(changed) == {"w", "b", "conv:output:0"}
    assert [n.op_type for n in result.graph.node] == ["Conv", "Mul", "Sigmoid", "Mul"]
    test = samples(proto, 5, seed=1)
    assert error(outputs(result, test), outputs(proto, test)) < 2e-6
    # where all others take integers, too, the product would be quantized with channels as uneven as they were
    assert smoothed(proto, target_device="NPU")[1] == []
    # of a layer that is too small for integers nothing is quantized, and of even channels nothing is gained
    small = model(nodes, {"w": weight[:8], "b": random(8, seed=1)}, ["n", 32, 5, 5])
    even = model(nodes, {"w": random(32, 32, 1, 1), "b": random(32, seed=1, scale=0.1)}, ["n", 32, 5, 5])
    assert smoothed(small)[1] == smoothed(even)[1] == []


def test_samples_of_one_position_do_no_harm() -> None:
    """The mean over such samples of the largest value of a channel is the mean of the channel, near zero."""
    nodes = [
        node("Gemm", ["x", "w0", "b0"], ["h"], "first"),
        node("Sigmoid", ["h"], ["s"], "gate"),
        node("Mul", ["h", "s"], ["g"], "product"),
        node("Gemm", ["g", "w1", "b1"], ["y"], "second"),
    ]
    weights = {"w0": random(64, 128), "w1": random(128, 32, seed=1)}
    biases = {"b0": random(128, seed=2, scale=0.3), "b1": random(32, seed=3, scale=0.3)}
    proto = model(nodes, weights | biases, [1, 64])
    dataset, test = nncf.Dataset(samples(proto, 50)), samples(proto, 50, seed=1)
    off = nncf.AdvancedQuantizationParameters(smooth_quant_alphas=nncf.AdvancedSmoothQuantParameters(matmul=-1))
    expected = outputs(proto, test)
    alone, both = (
        error(outputs(nncf.quantize(proto, dataset, advanced_parameters=advanced), test), expected)
        for advanced in (off, None)
    )
    assert both < 1.2 * alone < 0.1


def test_gates_get_no_product() -> None:
    """Their layers stay in floating point."""
    weight = random(32, 32, 1, 1) * spread(32).reshape(-1, 1, 1, 1)
    nodes = [
        node("GlobalAveragePool", ["x"], ["p"], "pool"),
        node("Conv", ["p", "w", "b"], ["c"], "conv"),
        node("HardSigmoid", ["c"], ["s"], "gate"),
        node("Mul", ["x", "s"], ["y"], "product"),
    ]
    proto = model(nodes, {"w": weight, "b": random(32, seed=1)}, ["n", 32, 5, 5])
    assert smoothed(proto)[1] == []
    nodes[0] = node("MaxPool", ["x"], ["p"], "pool", kernel_shape=[1, 1])
    nodes[3] = node("Mul", ["c", "s"], ["y"], "product")
    assert "conv:output:0" in smoothed(model(nodes, {"w": weight, "b": random(32, seed=1)}, ["n", 32, 5, 5]))[1]
