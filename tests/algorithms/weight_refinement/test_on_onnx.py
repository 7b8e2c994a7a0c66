"""Networks whose weights were refined compute nearly what they did, more nearly than round-to-nearest ones."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

import nncf
from nncf_core.pipeline import run

WIDTH, HIDDEN = 64, 128
node = helper.make_node


@cache
def network() -> onnx.ModelProto:
    """Two layers that take one tensor, a product of theirs, and a Gemm with a transposed weight; then a convolution."""
    generator = np.random.default_rng(0)
    constants = {
        "mix": generator.normal(size=(WIDTH, WIDTH)) * np.exp(generator.normal(size=WIDTH)) / 8,
        "gate": generator.standard_t(4, (WIDTH, HIDDEN)) / 8,
        "up": generator.standard_t(4, (WIDTH, HIDDEN)) / 8,
        "down": generator.standard_t(4, (WIDTH, HIDDEN)) / 12,
        "last": generator.standard_t(4, (WIDTH, WIDTH)) / 8,
    }
    nodes = [
        node("Tanh", ["x"], ["t"], "squash"),
        node("MatMul", ["t", "mix"], ["m"], "mix_node"),
        node("MatMul", ["m", "gate"], ["g"], "gate_node"),
        node("Relu", ["g"], ["r"], "relu"),
        node("MatMul", ["m", "up"], ["u"], "up_node"),
        node("Mul", ["r", "u"], ["p"], "product"),
        node("Gemm", ["p", "down"], ["d"], "down_node", transB=1),
        node("MatMul", ["d", "last"], ["y"], "last_node"),
    ]
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["n", WIDTH])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["n", WIDTH])],
        [numpy_helper.from_array(array.astype(np.float32), name) for name, array in constants.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    return onnx.shape_inference.infer_shapes(made, strict_mode=True)


def samples(count: int, seed: int) -> list[np.ndarray]:
    generator = np.random.default_rng(seed)
    return [generator.normal(0, 1, (32, WIDTH)).astype(np.float32) for _ in range(count)]


def outputs(proto: onnx.ModelProto) -> np.ndarray:
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(None, {"x": x})[0] for x in samples(8, seed=1)]).astype(np.float64)


def compressed(*sections: dict[str, Any], mode: str = "int4_sym", data: bool = True, **more: Any) -> onnx.ModelProto:
    first = {"algorithm": "weight_compression", "mode": mode, "group_size": 32, "all_layers": True}
    dataset = nncf.Dataset(samples(40, seed=0)) if data else None
    return run({"compression": [first, *sections]}, network(), dataset=dataset, **more).model


def error(proto: onnx.ModelProto) -> float:
    wanted = outputs(network())
    return float(np.linalg.norm(outputs(proto) - wanted) / np.linalg.norm(wanted))


@pytest.mark.parametrize("mode", ["int4_sym", "int4_asym", "nf4"])
def test_each_algorithm_loses_less_than_what_it_begins_with(mode):
    def after(*sections):
        return error(compressed(*sections, mode=mode))

    nearest = after()
    search = after({"algorithm": "scale_search"})
    estimation = after({"algorithm": "scale_estimation"})
    gptq = after({"algorithm": "gptq", "damp_percent": 0.01})
    refined = after({"algorithm": "gptq", "damp_percent": 0.01}, {"algorithm": "refinement"})
    assert search < nearest
    assert estimation < nearest
    assert gptq < 0.95 * min(search, estimation)
    assert refined < gptq


def test_a_search_without_data():
    assert error(compressed({"algorithm": "scale_search"}, data=False)) < error(compressed(data=False))


@pytest.mark.parametrize("algorithm", ["scale_estimation", "gptq", "error_propagation", "refinement"])
def test_algorithms_that_need_data_say_so(algorithm):
    with pytest.raises(nncf.UnsupportedDatasetError, match=f"'{algorithm}' needs calibration data"):
        compressed({"algorithm": algorithm}, data=False)


def test_layers_make_up_for_those_before():
    sections = ({"algorithm": "gptq", "damp_percent": 0.01}, {"algorithm": "refinement"})
    without = error(compressed(*sections))
    propagating = error(compressed({"algorithm": "error_propagation", "strength": 1.0}, *sections))
    assert propagating < without


def test_weights_of_eight_bits_stay_as_they_are():
    plain = run({"compression": {"algorithm": "weight_compression", "mode": "int8_asym"}}, network())
    section = {"algorithm": "weight_compression", "mode": "int8_asym"}
    refined = run(
        {"compression": [section, {"algorithm": "gptq"}]}, network(), dataset=nncf.Dataset(samples(2, seed=0))
    )
    assert refined.model.SerializeToString() == plain.model.SerializeToString()


def test_ignored_layers_stay_as_they_are():
    plain, refined = (
        {tensor.name: tensor for tensor in proto.graph.initializer}
        for proto in (
            compressed(data=False),
            compressed({"algorithm": "scale_search", "ignored_scope": {"names": ["gate_node"]}}, data=False),
        )
    )
    assert plain.keys() == refined.keys()
    same = {name for name in plain if plain[name].raw_data == refined[name].raw_data}
    assert any("gate" in name for name in same)
    assert not any("up" in name and "scale" in name for name in same)


def test_the_same_bytes_whatever_the_threads():
    sections = ({"algorithm": "error_propagation"}, {"algorithm": "gptq"}, {"algorithm": "refinement"})
    alone = compressed(*sections).SerializeToString()
    with ThreadPoolExecutor(3) as executor:
        assert compressed(*sections, executor=executor).SerializeToString() == alone
