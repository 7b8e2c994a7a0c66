"""Every form in every place that a weight can have: onnxruntime computes what the codes stand for."""

import itertools
from collections.abc import Iterator

import numpy as np
import onnx
import pytest

pytest.importorskip("nncf_onnx")

from onnx import TensorProto, helper

from nncf_core.numerics.formats import SCHEMES
from tests.backends.onnx.models import gather, model, random, run
from tests.backends.onnx.writing.reference import (
    compressed,
    meaning,
    op_types,
    recognised,
    refusal,
    with_constant,
    written,
)
from tests.variants import variants

NEWEST = 26
"""The newest opset that onnxruntime 1.32 guarantees to run."""

EVERY_KIND = ("int8_asym", "int4_sym", "int4_asym", "fp8_e4m3", "nf4")
"""Schemes that together take every path; the others are tried in the places of :data:`COMMON`."""

COMMON = ("matmul", "gemm 01", "gather", "experts")

INDICES = {"i": TensorProto.INT64}
node = helper.make_node


def places(opset: int, dtype: str) -> Iterator[tuple[str, onnx.ModelProto, tuple[int, ...]]]:
    """Models that use ``w``, with the axes that its operator sums over."""

    def w(*shape: int) -> np.ndarray:
        return random(*shape, dtype=dtype)

    def one(op_type, weight, x, y, inputs=("x", "w"), types=None, others=None, **attributes):
        nodes = [node(op_type, list(inputs), ["y"], name="op", **attributes)]
        name = inputs[1] if inputs[0] == "w" else inputs[0]
        return model(nodes, {"w": weight, **(others or {})}, {name: x}, {"y": y}, opset, dtype, types)

    yield "matmul", one("MatMul", w(64, 24), [2, 3, 64], [2, 3, 24]), (0,)
    yield "unknown batch", one("MatMul", w(64, 24), ["n", 3, 64], ["n", 3, 24]), (0,)
    yield "vector", one("MatMul", w(64, 24), [64], [24]), (0,)
    yield "one column", one("MatMul", w(64, 1), [3, 64], [3, 1]), (0,)
    yield "one row", one("MatMul", w(1, 24), [3, 1], [3, 24]), (0,)
    yield "odd", one("MatMul", w(35, 7), [3, 35], [3, 7]), (0,)
    yield "left", one("MatMul", w(24, 64), [64, 3], [24, 3], inputs=("w", "x")), (1,)
    yield "experts", one("MatMul", w(4, 64, 24), [4, 3, 64], [4, 3, 24]), (1,)
    yield "heads", one("MatMul", w(2, 3, 32, 8), [2, 3, 5, 32], [2, 3, 5, 8]), (2,)
    for first, second in itertools.product((0, 1), (0, 1)):
        shape, axes = ((24, 64), (1,)) if second else ((64, 24), (0,))
        x = [64, 3] if first else [3, 64]
        yield f"gemm {first}{second}", one("Gemm", w(*shape), x, [3, 24], transA=first, transB=second), axes
        if first:
            continue
        for bias in ((24,), (3, 24), (1,)) if second else ((1, 24),):
            proto = one(
                "Gemm", w(*shape), x, [3, 24], ("x", "w", "b"), others={"b": w(*bias)}, transA=first, transB=second
            )
            yield f"gemm {first}{second} {bias}", proto, axes
    yield "gemm alpha", one("Gemm", w(64, 24), [3, 64], [3, 24], alpha=0.5), (0,)
    yield "gather", one("Gather", w(24, 64), [2, 3], [2, 3, 64], ("w", "i"), INDICES), (1,)
    yield "gather of matrices", one("Gather", w(24, 4, 32), [2], [2, 4, 32], ("w", "i"), INDICES), (1, 2)
    transpose = node("Transpose", ["w"], ["wt"], name="t", perm=[1, 0])
    nodes = [transpose, node("MatMul", ["x", "wt"], ["y"], name="op")]
    yield "transposed", model(nodes, {"w": w(24, 64)}, {"x": [3, 64]}, {"y": [3, 24]}, opset, dtype), (1,)
    nodes = [node("Gather", ["w", "i"], ["e"], name="g"), transpose, node("MatMul", ["e", "wt"], ["y"], name="op")]
    yield "tied", model(nodes, {"w": w(24, 64)}, {"i": [3]}, {"y": [3, 24]}, opset, dtype, INDICES), (1,)
    nodes = [node("MatMul", ["x", "w"], ["h"], name="a"), node("MatMul", ["h", "w"], ["y"], name="b")]
    yield "twice", model(nodes, {"w": w(64, 64)}, {"x": [3, 64]}, {"y": [3, 64]}, opset, dtype), (0,)
    nodes = [node("MatMul", ["x", "w"], ["h"], name="a"), transpose, node("MatMul", ["h", "wt"], ["y"], name="b")]
    yield "both ways", model(nodes, {"w": w(64, 64)}, {"x": [3, 64]}, {"y": [3, 64]}, opset, dtype), (0,)
    yield "conv", one("Conv", w(8, 16, 3, 3), [1, 16, 6, 6], [1, 8, 4, 4]), (1, 2, 3)
    yield "pointwise", one("Conv", w(8, 64, 1, 1), [1, 64, 6, 6], [1, 8, 6, 6]), (1, 2, 3)
    yield "depthwise", one("Conv", w(8, 1, 3, 3), [1, 8, 6, 6], [1, 8, 4, 4], group=8), (1, 2, 3)
    yield "one channel", one("Conv", w(1, 16, 3), [1, 16, 6], [1, 1, 4]), (1, 2)
    if dtype == "float32":
        yield "transposed conv", one("ConvTranspose", w(16, 8, 3, 3), [1, 16, 6, 6], [1, 8, 8, 8]), (0, 2, 3)
        recurrent = {"r": random(2, 32, 8)}
        yield (
            "lstm",
            one(
                "LSTM", w(2, 32, 16), [5, 3, 16], [5, 2, 3, 8], ("x", "w", "r"), others=recurrent,
                hidden_size=8, direction="bidirectional",
            ),
            (2,),
        )  # fmt: skip


def feed_of(proto: onnx.ModelProto, dtype: str) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    feed = {}
    for value in proto.graph.input:
        shape = [dim.dim_value or 2 for dim in value.type.tensor_type.shape.dim]
        indices = value.type.tensor_type.elem_type == TensorProto.INT64
        feed[value.name] = rng.integers(0, 24, shape) if indices else rng.standard_normal(shape).astype(dtype)
    return feed


@pytest.mark.parametrize("dtype", variants(["float32", "float16"], "float32"))
@pytest.mark.parametrize(
    ("opset", "weight_format"),
    [
        (13, "auto"),
        (17, "matmul_nbits"),
        (19, "dequantize_linear"),
        (21, "auto"),
        (21, "matmul_nbits"),
        (NEWEST, "auto"),
    ],
)
def test_what_is_not_refused_is_computed(opset: int, dtype: str, weight_format: str) -> None:
    done: dict[str, int] = {}
    for place, proto, axes in places(opset, dtype):
        shape = proto.graph.initializer[0].dims
        feed = feed_of(proto, dtype)
        for scheme in SCHEMES if place in COMMON else EVERY_KIND:
            sizes = [SCHEMES[scheme].fixed_group_size] if SCHEMES[scheme].fixed_group_size else [-1, 16]
            for size in sizes:
                if size != -1 and (len(axes) > 1 or shape[axes[0]] % size):
                    continue
                w = onnx.numpy_helper.to_array(proto.graph.initializer[0])
                tensor = compressed(w, scheme, axes, size)
                why = refusal(proto, tensor, weight_format=weight_format)
                if why is not None:
                    assert len(why) > 20
                    continue
                case = f"{place}, {scheme}, groups of {size}"
                result = written(proto, tensor, weight_format=weight_format)
                got, want = (run(p, **feed)[0] for p in (result, with_constant(proto, meaning(tensor))))
                assert got.dtype == want.dtype, case
                tolerance = np.abs(want).max() * (4e-3 if dtype == "float16" else 1e-5)
                np.testing.assert_allclose(got, want, rtol=0, atol=tolerance, err_msg=case)
                (known,) = recognised(result)
                read = meaning(known.compressed())
                assert any(np.array_equal(read, form) for form in (meaning(tensor), meaning(tensor).T)), case
                done[scheme] = done.get(scheme, 0) + 1
    assert done["int8_asym"] >= 25
    if opset >= 21:
        assert set(done) >= SCHEMES.keys() - {"int2_sym", "int3_sym"}
    elif weight_format != "dequantize_linear":
        assert min(done["int4_sym"], done["int4_asym"]) >= 10


@pytest.mark.parametrize("opset", [13, 21])
@pytest.mark.parametrize("shape", [(4, 6), (6,), (3, 4, 5, 6), (4, 1), (1, 4), (1, 1), (2, 1, 6)])
def test_scales_along_any_axes(shape: tuple[int, ...], opset: int) -> None:
    w, x = random(*shape), random(*shape, seed=1)
    proto = model([node("Add", ["x", "w"], ["y"], name="op")], {"w": w}, {"x": shape}, {"y": shape}, opset)
    for count in range(1, len(shape) + 1):
        for axes in itertools.combinations(range(len(shape)), count):
            for scheme in ("int8_sym", "int8_asym", "int4_asym", "fp8_e4m3", "nf4"):
                tensor = compressed(w, scheme, axes)
                if refusal(proto, tensor) is not None:
                    assert opset < 21
                    assert not scheme.startswith("int8")
                    continue
                result = written(proto, tensor)
                np.testing.assert_array_equal(run(result, x=x)[0], x + meaning(tensor))
                (known,) = recognised(result)
                np.testing.assert_array_equal(meaning(known.compressed()), meaning(tensor))


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("size", [-1, 16, 32, 48, 96, 192])
def test_blocks_hold_exactly_the_codes(bits: int, size: int) -> None:
    """The rows of the identity read the weight out of the operator."""
    schemes = [f"int{bits}_sym"] if bits == 2 else [f"int{bits}_sym", f"int{bits}_asym"]
    for scheme in schemes:
        for columns in (192, 50) if size == -1 else (192,):
            w = random(columns, 5)
            proto = model([node("MatMul", ["x", "w"], ["y"])], {"w": w}, {"x": [columns] * 2}, {"y": [columns, 5]}, 13)
            tensor = compressed(w, scheme, 0, size)
            result = written(proto, tensor, weight_format="matmul_nbits")
            assert op_types(result) == ["MatMulNBits"]
            np.testing.assert_array_equal(run(result, x=np.eye(columns, dtype=np.float32))[0], meaning(tensor))


@pytest.mark.parametrize("opset", [13, 21])
@pytest.mark.parametrize("scheme", ["int8_asym", "int4_sym", "int4_asym", "nf4", "mxfp4", "mxfp8_e4m3", "nvfp4"])
def test_scales_that_are_no_float16_numbers(scheme: str, opset: int) -> None:
    """The weight is decompressed, or the product computed, in float32."""
    w = (random(64, 24) * np.float32(2.0**-14)).astype(np.float16)
    size = SCHEMES[scheme].fixed_group_size or 32
    bias, eye = random(24, dtype="float16") / np.float16(2**10), np.eye(64, dtype=np.float16)
    shapes = {"x": [64, 64]}, {"y": [64, 24]}
    protos = {
        "product": (model([node("MatMul", ["x", "w"], ["y"])], {"w": w}, *shapes, opset, "float16"), 0),
        "bias": (model([node("Gemm", ["x", "w", "b"], ["y"])], {"w": w, "b": bias}, *shapes, opset, "float16"), 0),
        "rows": (gather(np.ascontiguousarray(w.T), opset), 1),
    }
    for place, (proto, axis) in protos.items():
        weight = onnx.numpy_helper.to_array(proto.graph.initializer[0])
        tensor = compressed(weight, scheme, axis, size)
        assert tensor.scale.dtype == np.float32 or not scheme.startswith("int")
        indices = np.arange(6).reshape(2, 3)
        feed = {"i": indices} if place == "rows" else {"x": eye}
        want = meaning(tensor)[indices] if place == "rows" else meaning(tensor) + (bias if place == "bias" else 0)
        for weight_format in ("auto", "matmul_nbits"):
            if refusal(proto, tensor, weight_format=weight_format) is not None:
                assert opset == 13
                assert not scheme.startswith("int4")
                continue
            got = run(written(proto, tensor, weight_format=weight_format), **feed)[0]
            assert got.dtype == np.float16
            np.testing.assert_allclose(got, want.astype(np.float16), rtol=1e-3, atol=2.0**-24)


@pytest.mark.parametrize("opset", [13, 21])
def test_bfloat16_and_float64(opset: int) -> None:
    import ml_dtypes

    value = helper.make_tensor_value_info
    for dtype, kind in ((ml_dtypes.bfloat16, TensorProto.BFLOAT16), (np.float64, TensorProto.DOUBLE)):
        w = random(64, 24).astype(dtype)
        graph = helper.make_graph(
            [node("MatMul", ["x", "w"], ["y"], name="op")], "g",
            [value("x", kind, [3, 64])], [value("y", kind, [3, 24])], [onnx.numpy_helper.from_array(w, "w")],
        )  # fmt: skip
        proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
        tensor = compressed(w, "int8_asym", 0)
        result = written(proto, tensor, weight_format="matmul_nbits")
        assert op_types(result) == ["DequantizeLinear", "Cast", "MatMul"]
        (known,) = recognised(result)
        assert known.dtype == known.compressed().dtype == np.dtype(dtype).name
        if dtype is np.float64:
            x = random(3, 64, dtype="float64")
            np.testing.assert_allclose(run(result, x=x)[0], x @ meaning(tensor).astype(np.float64), rtol=1e-12)
