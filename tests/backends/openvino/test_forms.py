"""Compressed weights have the form that OpenVINO fuses, hold the core's codes, and run compressed."""

from __future__ import annotations

import platform
from pathlib import Path

import numpy as np
import openvino as ov
import pytest

pytest.importorskip("nncf_openvino")

from openvino import opset1, opset17
from openvino.op import Constant

import nncf
from nncf_core.numerics.formats import SCHEMES
from nncf_core.numerics.kernels import compress, decompress
from nncf_core.transformations import CompressConstant, ReplaceConstant
from nncf_openvino.element_types import openvino_type
from tests.backends.openvino import models
from tests.backends.openvino.models import (
    BUILDER,
    INSERTER,
    chain,
    constant,
    graph_of,
    model_of,
    named,
    ops,
    parameter,
    random,
    run,
)

MODE = nncf.CompressWeightsMode
CODEBOOK = np.linspace(-1, 1, 16, dtype=np.float32)

RUNS_AS = {
    # what the CPU's matrix product takes; formats that it does not know are decompressed when a model is compiled, or
    # by operators of their own
    "int8_sym": "i8",
    "int8_asym": "u8",
    "int4_sym": "i4",
    "int4_asym": "u4",
    "int3_sym": "f32",
    "int2_sym": "u2",
    "nf4": "nf4",
    "mxfp4": "f4e2m1",
    "mxfp8_e4m3": "f32",
    "fp8_e4m3": "f32",
    "fp4": "f4e2m1",
    "nvfp4": "f4e2m1",
    "cb4": "f32",
    "codebook": "f32",
}


def settings(mode, group_size=64):
    """Arguments of compress_weights that give all weights the mode."""
    if str(mode).startswith("int8"):
        return {"mode": mode}
    given = {"mode": mode, "all_layers": True}
    if SCHEMES[str(mode)].fixed_group_size is None:
        given["group_size"] = group_size
    if mode == MODE.CODEBOOK:
        given["advanced_parameters"] = nncf.AdvancedCompressionParameters(codebook=CODEBOOK)
    return given


def executed(model, *kinds):
    """Element types of the weights that operators of a compiled model take."""
    compiled = ov.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    nodes = compiled.get_runtime_model().get_ordered_ops()
    named_kinds = [(node.get_rt_info()["layerType"].astype(str), node) for node in nodes]
    position = {"Gather": 0}
    return [
        node.input(position.get(kind, 1)).get_element_type().to_string() for kind, node in named_kinds if kind in kinds
    ]


@pytest.mark.parametrize("name", RUNS_AS)
def test_every_mode_computes_what_its_codes_stand_for(name: str) -> None:
    mode = MODE(name)
    weights = [random(128, 256), random(64, 128, seed=1)]
    model = nncf.compress_weights(models.mlp(*weights), **settings(mode))
    graph = graph_of(model)
    x = y = random(5, 256, seed=2, scale=1)
    for index, weight in enumerate(weights):
        found = graph.constants[f"w{index}"].compressed()
        want = compress(
            weight,
            SCHEMES[name],
            reduction_axes=1,
            group_axis=1,
            group_size=-1 if name.startswith("int8") else settings(mode).get("group_size", constant_group(name)),
            codebook=CODEBOOK if mode == MODE.CODEBOOK else None,
        )
        np.testing.assert_array_equal(found.codes, want.codes)
        np.testing.assert_array_equal(found.scale.astype(np.float32), want.scale.astype(np.float32))
        assert found.scale.shape == want.scale.shape
        assert (found.zero_point is None) == (want.zero_point is None)
        if want.zero_point is not None:
            np.testing.assert_array_equal(found.zero_point, want.zero_point)
        assert found.global_scale == want.global_scale
        y = y @ decompress(want).T
        y = np.maximum(y, 0) if index == 0 else y
    tolerance = 2e-3 if name == "nf4" else 1e-5  # its values are rounded to float16
    np.testing.assert_allclose(run(model, x=x)[0], y, atol=tolerance * np.abs(y).max())


def constant_group(name):
    return SCHEMES[name].fixed_group_size or -1


def runs_compressed(name):
    """Whether this machine's CPU multiplies by weights of a mode as the table says."""
    if platform.machine() not in ("x86_64", "AMD64"):
        return False
    cpu = Path("/proc/cpuinfo")
    return name.startswith(("int8", "int4")) or (cpu.exists() and "avx512f" in cpu.read_text())


@pytest.mark.parametrize("name", RUNS_AS)
def test_weights_run_compressed(name: str) -> None:
    if not runs_compressed(name):
        pytest.skip("another CPU decompresses other formats")
    model = nncf.compress_weights(models.mlp(random(128, 256), random(128, 128, seed=1)), **settings(MODE(name)))
    assert executed(model, "FullyConnected", "MatMul") == [RUNS_AS[name]] * 2


@pytest.mark.parametrize(("name", "kind"), [("int8_sym", "i8"), ("int8_asym", "u8"), ("int4_sym", "i4")])
def test_a_tied_embedding_runs_compressed_in_both_places(name: str, kind: str) -> None:
    model = nncf.compress_weights(models.tied(random(512, 256)), **settings(MODE(name)))
    assert executed(model, "Gather", "FullyConnected") == [kind, kind]


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("transpose_b", [True, False])
def test_weights_behind_a_conversion_run_compressed(dtype: str, transpose_b: bool) -> None:
    weight = random(128, 256) if transpose_b else random(256, 128)
    x = parameter([-1, 256], "x")
    w = weight_of(weight, dtype)
    if dtype != "float32":
        w = named(ops.convert(w, "f32"), "decompressed")
    model = model_of([named(ops.matmul(x, w, False, transpose_b), "matmul")], [x])
    small = nncf.compress_weights(model, **settings(MODE.INT4_ASYM))
    assert executed(small, "FullyConnected", "MatMul") == ["u4"]


def weight_of(array, dtype):
    raw = np.frombuffer(array.astype(dtype).tobytes(), np.uint8).copy()
    return named(Constant(ov.Tensor(raw, list(array.shape), openvino_type(dtype)), shared_memory=False), "w")


def test_the_form_of_groups_with_zero_points() -> None:
    model = nncf.compress_weights(models.matmul(random(8, 64), transpose_b=True), **settings(MODE.INT4_ASYM, 16))
    assert chain(model, "w") == [
        ("Constant", "u4", "w"),
        ("Convert", "f16", "w/convert"),
        ("Subtract", "f16", "w/zero_point/subtract"),
        ("Multiply", "f16", "w/fq_weights_1"),
        ("Reshape", "f16", "w/reshape"),
        ("Convert", "f32", "w/fq_weights_1/convert"),
        ("MatMul", "f32", "matmul"),
    ]
    shapes = {node.get_friendly_name(): list(node.get_output_shape(0)) for node in constants(model)}
    assert shapes["w"] == [8, 4, 16]
    assert shapes["w/zero_point"] == shapes["w/scale"] == [8, 4, 1]
    assert chain(model, "w/zero_point")[:2] == [
        ("Constant", "u4", "w/zero_point"),
        ("Convert", "f16", "w/zero_point/convert"),
    ]


def test_the_form_of_signed_channels() -> None:
    model = nncf.compress_weights(models.matmul(random(64, 8)), mode=MODE.INT8_SYM)
    assert chain(model, "w") == [
        ("Constant", "i8", "w"),
        ("Convert", "f16", "w/convert"),
        ("Multiply", "f16", "w/fq_weights_1"),
        ("Convert", "f32", "w/fq_weights_1/convert"),
        ("MatMul", "f32", "matmul"),
    ]


def test_the_form_of_microscaling() -> None:
    model = nncf.compress_weights(models.matmul(random(8, 64), transpose_b=True), **settings(MODE.MXFP4))
    assert [kind for _, kind, _ in chain(model, "w/scale")[:2]] == ["f8e8m0", "f16"]
    model = nncf.compress_weights(models.matmul(random(8, 64), transpose_b=True), **settings(MODE.NVFP4))
    assert [(op, name) for op, _, name in chain(model, "w/scale")[:4]] == [
        ("Constant", "w/scale"),
        ("Convert", "w/scale/convert"),
        ("Multiply", "w/dequantized_scale"),
        ("Multiply", "w/fq_weights_1"),
    ]


@pytest.mark.parametrize(("size", "kind"), [(16, "u4"), (200, "u8"), (1000, "u16")])
def test_codebooks_of_all_sizes(size: int, kind: str) -> None:
    weight, x = random(32, 64), random(3, 64, seed=1)
    table = np.sort(np.random.default_rng(0).normal(0, 1, size)).astype(np.float32)
    tensor = compress(weight, SCHEMES["codebook"], reduction_axes=1, codebook=table)
    model = compressed(models.matmul(weight, transpose_b=True), w=tensor)
    assert chain(model, "w")[0] == ("Constant", kind, "w")
    np.testing.assert_allclose(run(model, x=x)[0], x @ decompress(tensor).T, rtol=1e-5, atol=1e-5)
    found = graph_of(model).constants["w"].compressed()
    np.testing.assert_array_equal(found.codebook, table)
    np.testing.assert_array_equal(decompress(found), decompress(tensor))


def compressed(model, **tensors):
    working = BUILDER.open(model, {})
    edits = [CompressConstant(name, tensor) for name, tensor in tensors.items()]
    return BUILDER.export(INSERTER.apply(working, BUILDER.build(working), edits, {}), model)


def test_what_float16_does_not_hold_is_decompressed_in_float32() -> None:
    for factor in (1e-3, 1e6):
        weight, x = random(8, 64) * np.float32(factor), random(3, 64, seed=1)
        model = nncf.compress_weights(models.matmul(weight, transpose_b=True), mode=MODE.INT8_SYM)
        assert [kind for _, kind, _ in chain(model, "w")] == ["i8", "f32", "f32", "f32"]
        want = x @ decompress(graph_of(model).constants["w"].compressed()).T
        np.testing.assert_allclose(run(model, x=x)[0], want, rtol=1e-4, atol=1e-6 * np.abs(want).max())


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_recurrent_weights_can_be_compressed(kind: str) -> None:
    model = models.recurrent(kind)
    graph = graph_of(model)
    tensors = {name: compress(graph.constants[name].read(), SCHEMES["int8_sym"], reduction_axes=2) for name in "WR"}
    small = compressed(model, **tensors)
    want = models.recurrent(kind)
    working = BUILDER.open(want, {})
    edits = [ReplaceConstant(name, decompress(tensor)) for name, tensor in tensors.items()]
    INSERTER.apply(working, BUILDER.build(working), edits, {})
    x = random(1, 5, 16, seed=5, scale=1)
    np.testing.assert_allclose(run(small, x=x)[0], next(iter(INSERTER.runner(working)({"x": x}).values())), atol=1e-6)


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_recurrent_weights_beside_quantizers(kind: str) -> None:
    """With a FakeQuantize anywhere the CPU plugin leaves dequantization unfolded, and takes no such weights."""
    model = models.recurrent(kind)
    output = model.output(0).get_node()
    ends = [constant(np.array(end, np.float32), f"end {end}") for end in (-1, 1)]
    quantized = opset1.fake_quantize(output.input_value(0), *ends, *ends, levels=256)
    output.input(0).replace_source_output(quantized.output(0))
    small = nncf.compress_weights(model, mode=MODE.INT8_SYM)
    found = graph_of(small).constants
    assert [found[name].compressed_format for name in "WR"] == ["int8"] * 2
    x = random(1, 5, 16, seed=5, scale=1)
    np.testing.assert_allclose(run(small, x=x)[0], run(model, x=x)[0], atol=0.02)
    assert len(nncf.compress_weights(small, mode=MODE.INT8_SYM).get_ops()) == len(small.get_ops())


def test_experts_of_a_grouped_product() -> None:
    weight, tokens = random(4, 32, 64), random(4, 3, 64, seed=1)
    x = parameter([4, 3, 64], "x")
    model = model_of([named(opset17.grouped_matmul(x, constant(weight, "w")), "experts")], [x])
    small = nncf.compress_weights(model, **settings(MODE.INT4_SYM, 32))
    values = decompress(graph_of(small).constants["w"].compressed())
    np.testing.assert_allclose(run(small, x=tokens)[0], np.einsum("gmk,gnk->gmn", tokens, values), atol=1e-4)


def test_experts_have_scales_of_their_own() -> None:
    weight = random(4, 32, 64) * np.array([1, 10, 100, 1000], np.float32)[:, None, None]
    model = nncf.compress_weights(models.matmul(weight, transpose_b=True, rank=3), **settings(MODE.INT4_SYM, 32))
    found = graph_of(model).constants["w"].compressed()
    assert found.scale.shape == (4, 32, 2)
    want = compress(weight, SCHEMES["int4_sym"], reduction_axes=2, group_axis=2, group_size=32)
    np.testing.assert_array_equal(found.codes, want.codes)


def test_unknown_options_are_refused() -> None:
    with pytest.raises(nncf.ValidationError, match="weight_format"):
        nncf.compress_weights(
            models.matmul(random(8, 8)),
            advanced_parameters=nncf.AdvancedCompressionParameters(backend_params={"weight_format": "auto"}),
        )


def constants(model):
    return [node for node in model.get_ordered_ops() if node.get_type_name() == "Constant"]
