"""The algorithm through the public API, on ONNX models."""

import logging
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

pytest.importorskip("nncf_onnx")

import onnx
from onnx import helper

import nncf
from nncf_core import pipeline
from tests.backends.onnx import models
from tests.backends.onnx.models import random, run


def layers(count: int = 4, channels: int = 64) -> onnx.ModelProto:
    nodes = [
        helper.make_node("MatMul", [f"x{i}" if i else "x", f"w{i}"], [f"x{i + 1}"], name=f"m{i}") for i in range(count)
    ]
    weights = {f"w{i}": random(channels, channels, seed=i) * 2.0**i for i in range(count)}
    weights = {name: array.astype(np.float32) for name, array in weights.items()}
    return models.model(nodes, weights, {"x": [3, channels]}, {f"x{count}": [3, channels]})  # fmt: skip


def types(proto: onnx.ModelProto) -> dict[str, int]:
    return {t.name.removesuffix("_quantized"): t.data_type for t in proto.graph.initializer if "_quantized" in t.name}


INT4, UINT8 = onnx.TensorProto.INT4, onnx.TensorProto.UINT8


@pytest.mark.parametrize(("ratio", "low"), [(0.0, 0), (0.25, 1), (0.5, 2), (0.75, 3), (1.0, 4), (None, 4)])
def test_half_of_four_equal_layers_is_two(ratio: float | None, low: int) -> None:
    mode = nncf.CompressWeightsMode.INT4_SYM
    result = nncf.compress_weights(layers(), mode=mode, group_size=32, ratio=ratio, all_layers=True)
    assert sorted(types(result).values()) == sorted([INT4] * low + [UINT8] * (4 - low))


def test_the_argument_is_not_changed() -> None:
    proto = layers()
    before = proto.SerializeToString()
    advanced = nncf.AdvancedCompressionParameters()
    copy = nncf.AdvancedCompressionParameters()
    scope = nncf.IgnoredScope(names=["m0"])
    nncf.compress_weights(proto, ignored_scope=scope, advanced_parameters=advanced)
    assert proto.SerializeToString() == before
    assert advanced == copy
    assert scope == nncf.IgnoredScope(names=["m0"])


def test_two_runs_give_the_same_bytes() -> None:
    first, second = (nncf.compress_weights(layers()).SerializeToString(deterministic=True) for _ in range(2))
    assert first == second


def test_fake_precision_modes_run_in_half_precision() -> None:
    proto = models.matmul(random(128, 64, dtype="float16"))
    x = random(3, 128, dtype="float16", seed=1)
    want = run(proto, x=x)[0].astype(np.float32)
    for mode in ("int8_asym", "int8_sym", "int4_asym", "int4_sym", "nf4", "mxfp4", "fp8_e4m3"):
        more = {} if mode.startswith("int8") else {"all_layers": True}
        got = run(nncf.compress_weights(proto, mode=nncf.CompressWeightsMode(mode), **more), x=x)[0]
        assert got.dtype == np.float16
        assert np.abs(got.astype(np.float32) - want).max() < 0.25 * np.abs(want).max()


def test_a_dataset_that_nothing_uses_is_said_so(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "nncf"):
        nncf.compress_weights(
            layers(), mode=nncf.CompressWeightsMode.INT4_SYM, group_size=32, dataset=nncf.Dataset([1])
        )
    assert "dataset was not used" in caplog.text


@pytest.mark.parametrize("mode", ["int8_asym", "int4_asym", "nf4"])
def test_bytes_do_not_depend_on_the_executor(mode: str) -> None:
    # large enough to be spread over workers
    proto = models.matmul(random(1024, 1536))
    section = {"algorithm": "weight_compression", "mode": mode}
    section |= {} if mode.startswith("int8") else {"all_layers": True}
    results = set()
    for workers in (1, 2, 5):
        with ThreadPoolExecutor(workers) as executor:
            done = pipeline.run({"compression": section}, proto, executor=executor)
            results.add(done.model.SerializeToString(deterministic=True))
    results.add(pipeline.run({"compression": section}, proto).model.SerializeToString(deterministic=True))
    assert len(results) == 1
