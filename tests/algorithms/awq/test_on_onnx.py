"""What is scaled and what is left as it is, on ONNX graphs."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

import nncf
from nncf_core.api import compress_weights_config
from nncf_core.pipeline import Result, run
from tests.algorithms.smooth_quant.test_on_onnx import error, model, node, outputs, random, samples, spread

SECTION = {"algorithm": "awq", "mode": "int4_sym", "group_size": 16}


def gated(dtype: str = "float32", **constants: np.ndarray) -> onnx.ModelProto:
    """Normalization, a gated network whose sigmoid is written out, and a last layer; the size is asked for twice."""
    nodes = [
        node("LayerNormalization", ["x", "gamma", "beta"], ["n"], "norm"),
        node("Shape", ["n"], ["shape"], "shape"),
        node("MatMul", ["n", "gate"], ["g"], "gate"),
        node("Sigmoid", ["g"], ["s"], "sigmoid"),
        node("Mul", ["g", "s"], ["a"], "silu"),
        node("MatMul", ["n", "up"], ["u"], "up"),
        node("Shape", ["u"], ["shape2"], "shape2"),
        node("Mul", ["a", "u"], ["p"], "product"),
        node("MatMul", ["p", "down"], ["d"], "down"),
        node("MatMul", ["d", "head"], ["h"], "head"),
        node("Reshape", ["h", "shape"], ["y"], "as_before"),
    ]
    made = {
        "gamma": spread(32), "beta": random(32, seed=1), "gate": random(32, 48, seed=2) / spread(32)[:, None] ** 0.7,
        "up": random(32, 48, seed=3) / spread(32)[:, None] ** 0.7 * spread(48, 1),
        "down": random(48, 32, seed=4) / spread(48, 1)[:, None] ** 0.7, "head": random(32, 32, seed=5),
    }  # fmt: skip
    return model(nodes, {**made, **constants}, ["n", 32], dtype)


def changed(proto: onnx.ModelProto, data: bool = True, **more: Any) -> tuple[Result, set[str]]:
    """The result of AWQ alone, and the names of the constants that changed."""
    dataset = nncf.Dataset(samples(proto, 20)) if data else None
    result = run({"compression": {**SECTION, **more}}, proto, dataset=dataset)
    return result, {entry.target for entry in result.plan.entries if entry.action == "replace"}


@pytest.mark.parametrize("data", [True, False])
def test_the_projection_without_an_activation_is_divided(data: bool) -> None:
    proto = gated()
    result, names = changed(proto, data)
    assert names == {"gamma", "beta", "gate", "up", "down"}
    test = samples(proto, 5, seed=1)
    assert error(outputs(result.model, test), outputs(proto, test)) < 2e-6


def test_the_last_layer_and_what_is_ignored_stay() -> None:
    proto = gated()
    assert "head" not in changed(proto)[1]
    _, names = changed(proto, ignored_scope={"names": ["gate"]})
    assert names == {"up", "down"}


def notes(result: Result) -> str:
    return str(result.report)


def test_a_weight_of_two_layers_stays_and_is_named() -> None:
    nodes = [
        node("Mul", ["x", "gamma"], ["n"], "scale"),
        node("MatMul", ["n", "w"], ["a"], "first"),
        node("Relu", ["a"], ["r"], "relu"),
        node("MatMul", ["r", "w"], ["b"], "again"),
        node("MatMul", ["b", "head"], ["y"], "head"),
    ]
    constants = {"gamma": spread(32), "w": random(32, 32), "head": random(32, 8)}
    result, names = changed(model(nodes, constants, ["n", 32]))
    assert not names
    assert "more than one operator uses them: w" in notes(result)


def test_batches_of_matrices_stay_and_are_named() -> None:
    nodes = [
        node("Mul", ["x", "gamma"], ["n"], "scale"),
        node("MatMul", ["n", "experts"], ["a"], "experts"),
        node("MatMul", ["a", "head"], ["y"], "head"),
    ]
    constants = {"gamma": spread(32), "experts": random(4, 32, 32), "head": random(32, 8)}
    result, names = changed(model(nodes, constants, [4, "n", 32]))
    assert not names
    assert "batches of matrices: experts" in notes(result)


def test_a_head_that_is_the_embedding_stays() -> None:
    nodes = [
        node("Gather", ["table", "tokens"], ["e"], "embedding"),
        node("Mul", ["e", "gamma"], ["n"], "norm"),
        node("MatMul", ["n", "w"], ["a"], "layer"),
        node("Mul", ["a", "gain"], ["m"], "last_norm"),
        node("Gemm", ["m", "table"], ["y"], "head", transB=1),
    ]
    constants: Mapping[str, np.ndarray] = {
        "table": random(16, 32), "gamma": spread(32), "w": random(32, 32) / spread(32)[:, None] ** 0.7,
        "gain": spread(32),
    }  # fmt: skip
    proto = model(nodes, constants, ["n", 32])
    proto.graph.input[0].CopyFrom(helper.make_tensor_value_info("tokens", onnx.TensorProto.INT64, ["n"]))
    dataset = nncf.Dataset([{"tokens": np.arange(16)}])
    result = run({"compression": {**SECTION, "all_layers": True}}, proto, dataset=dataset)
    assert {entry.target for entry in result.plan.entries} == {"gamma", "w"}
    assert "more than one operator uses them: table" in notes(result)


def test_few_digits_lose_nothing() -> None:
    proto = gated("float16")
    before = {t.name: onnx.numpy_helper.to_array(t).astype(np.float64) for t in proto.graph.initializer}
    result, names = changed(proto)
    assert names >= {"gate", "up", "down"}
    for tensor in result.model.graph.initializer:
        if tensor.name in names:
            ratio = onnx.numpy_helper.to_array(tensor).astype(np.float64) / before[tensor.name]
            normal = np.abs(before[tensor.name]) > 1e-2
            assert set(np.log2(ratio[normal]) % 1) == {0.0}


def test_the_same_bytes_whatever_the_threads() -> None:
    proto = gated()
    config, dataset = {"compression": SECTION}, nncf.Dataset(samples(proto, 20))
    with ThreadPoolExecutor(1) as one, ThreadPoolExecutor(4) as four:
        found = [run(config, proto, dataset=dataset, executor=e).model.SerializeToString() for e in (one, four)]
    assert found[0] == found[1]


def test_activations_that_are_not_finite() -> None:
    nodes = [
        node("Mul", ["x", "gamma"], ["n"], "scale"),
        node("MatMul", ["n", "w"], ["a"], "layer"),
        node("MatMul", ["a", "head"], ["y"], "head"),
    ]
    proto = model(nodes, {"gamma": spread(32), "w": random(32, 32), "head": random(32, 8)}, ["n", 32])
    data = [np.full((2, 32), 3e38, np.float32)]
    with pytest.raises(nncf.ValidationError, match=r"'n' holds NaN or infinite values"):
        run({"compression": SECTION}, proto, dataset=nncf.Dataset(data))


def test_the_section_knows_the_main_one() -> None:
    advanced = nncf.AdvancedCompressionParameters(awq_params=nncf.AdvancedAWQParameters(steps=10, alpha_max=0.8))
    sections = compress_weights_config(
        mode=nncf.CompressWeightsMode.INT4_SYM,
        group_size=16,
        awq=True,
        subset_size=8,
        ignored_scope=nncf.IgnoredScope(names=["gate"]),
        advanced_parameters=advanced,
    )["compression"]
    assert [section["algorithm"] for section in sections] == ["awq", "weight_compression"]
    awq, main = sections
    assert all(awq[name] == main[name] for name in ("mode", "group_size", "ignored_scope"))
    assert (awq["steps"], awq["alpha_max"], awq["subset_size"]) == (10, 0.8, 8)
    plain = compress_weights_config(mode=nncf.CompressWeightsMode.INT4_SYM, awq=True)["compression"][0]
    assert plain == {"algorithm": "awq", "mode": "int4_sym", "subset_size": 32}


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"mode": "int8_asym"}, "at most 4 bits"),
        ({"alpha_min": 2.0}, "the lowest exponent comes first"),
        ({"group_size": 0}, "group_size is 0"),
    ],
)
def test_values_that_have_no_meaning(section: Mapping[str, Any], message: str) -> None:
    with pytest.raises((nncf.ValidationError, nncf.ParameterNotSupportedError), match=message):
        changed(gated(), **section)


def test_formats_of_eight_bits_need_nothing() -> None:
    result, names = changed(gated(), data=False, mode="fp8_e4m3")
    assert not names
    assert "at most 4 bits" in notes(result)
