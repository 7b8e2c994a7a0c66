"""Compressed weights that are read back, or were written by other tools."""

import numpy as np
import onnx
import pytest

pytest.importorskip("nncf_onnx")

from onnx import TensorProto, helper, numpy_helper

from nncf_core.graph import Constant
from nncf_core.numerics.formats import SCHEMES
from tests.backends.onnx.models import gather, matmul, random
from tests.backends.onnx.writing.reference import BUILDER, compressed, meaning, recognised, refusal, written

node = helper.make_node
RNG = np.random.default_rng(3)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("opset", [13, 21, 25])
@pytest.mark.parametrize("scheme", sorted(SCHEMES))
def test_what_is_written_is_read_back_bit_for_bit(scheme: str, opset: int, dtype: str) -> None:
    w = random(64, 48, dtype=dtype)
    for size in [SCHEMES[scheme].fixed_group_size] if SCHEMES[scheme].fixed_group_size else [-1, 32]:
        tensor = compressed(w, scheme, 0, size)
        if refusal(matmul(w, opset), tensor) is not None:
            continue
        (known,) = recognised(written(matmul(w, opset), tensor))
        read = known.compressed()
        assert (known.name, known.dtype, read.dtype) == ("w", dtype, dtype)
        assert known.compressed_format == read.format.name == tensor.format.name
        assert known.stored_bytes >= tensor.codes.nbytes
        turned = known.shape == (48, 64)  # MatMulNBits keeps [N, K]
        np.testing.assert_array_equal(meaning(read), meaning(tensor).T if turned else meaning(tensor))
        if turned and size == -1:
            continue  # in blocks that repeat the scale
        assert (read.group_size, read.group_axis) == (tensor.group_size, None if size == -1 else int(turned))
        for got, want in ((read.scale, tensor.scale), (read.zero_point, tensor.zero_point)):
            assert (got is None) == (want is None)
            if got is not None:
                wide = want.astype(np.float32)
                np.testing.assert_array_equal(got.astype(np.float32), wide.T if turned else wide)
        if not turned:
            np.testing.assert_array_equal(read.codes, tensor.codes)
            assert read.reduction_axes == tensor.reduction_axes


def dequantized(
    codes: np.ndarray, kind: int, scale: np.ndarray, zero_point: np.ndarray | None, opset: int = 21, **attributes: int
) -> Constant | None:
    """What is recognised of a DequantizeLinear that another tool wrote."""

    def initializer(name: str, array: np.ndarray) -> onnx.TensorProto:
        return helper.make_tensor(name, kind, array.shape, array.reshape(-1).tolist())

    inputs = ["q", "s"] if zero_point is None else ["q", "s", "z"]
    initializers = [initializer("q", codes), numpy_helper.from_array(scale, "s")]
    if zero_point is not None:
        initializers.append(initializer("z", zero_point))
    graph = helper.make_graph(
        [node("DequantizeLinear", inputs, ["d"], name="dq", **attributes), node("MatMul", ["x", "d"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", 1, [3, codes.shape[0]])],
        [helper.make_tensor_value_info("y", 1, [3, codes.shape[1]])],
        initializers,
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    found = recognised(proto)
    return found[0] if found else None


@pytest.mark.parametrize(
    ("kind", "lo", "hi"),
    [(TensorProto.INT8, -128, 127), (TensorProto.UINT8, 0, 255), (TensorProto.INT4, -8, 7), (TensorProto.UINT4, 0, 15)],
)
@pytest.mark.parametrize("granularity", ["per tensor", "per channel", "group size 16"])
@pytest.mark.parametrize("symmetric", [True, False])
def test_integers_of_other_tools(kind: int, lo: int, hi: int, granularity: str, symmetric: bool) -> None:
    codes = RNG.integers(lo, hi + 1, (32, 6))
    shapes = {"per tensor": (), "per channel": (6,), "group size 16": (2, 6)}
    attributes = {"per tensor": {}, "per channel": {"axis": 1}, "group size 16": {"axis": 0, "block_size": 16}}
    scale = RNG.uniform(0.1, 1, shapes[granularity]).astype(np.float32)
    zero_point = None if symmetric else RNG.integers(lo, hi + 1, scale.shape)
    known = dequantized(codes, kind, scale, zero_point, **attributes[granularity])
    assert known is not None
    assert known.granularity == granularity
    full_scale, full_zero = scale, np.zeros(()) if zero_point is None else zero_point
    if granularity.startswith("group"):
        full_scale, full_zero = (np.repeat(np.broadcast_to(a, (2, 6)), 16, axis=0) for a in (full_scale, full_zero))
    want = (codes - full_zero).astype(np.float32) * full_scale
    np.testing.assert_array_equal(meaning(known.compressed()), want)
    np.testing.assert_array_equal(known.read(), want)


def test_scales_that_are_no_scales_are_left_alone() -> None:
    codes, scale = RNG.integers(0, 9, (32, 6)), np.ones((2, 6), np.float32)
    assert dequantized(codes, TensorProto.UINT8, scale, None, axis=0, block_size=16) is not None
    # 32 rows in blocks of 20: the last block is shorter
    assert dequantized(codes, TensorProto.UINT8, scale, None, axis=0, block_size=20) is None


@pytest.mark.parametrize("change", ["order", "float zero points", "codes from outside"])
def test_variants_of_matmul_nbits_that_are_not_understood_are_left_alone(change: str) -> None:
    w = random(64, 8)
    proto = written(matmul(w, 17), compressed(w, "int4_asym", 0, 16))
    (op,) = proto.graph.node
    if change == "order":
        op.input.append("order")
        proto.graph.initializer.append(numpy_helper.from_array(np.arange(64, dtype=np.int32), "order"))
    elif change == "float zero points":
        zero_points = next(t for t in proto.graph.initializer if t.name == "w_zero_point")
        zero_points.CopyFrom(numpy_helper.from_array(np.zeros((8, 4), np.float32), "w_zero_point"))
    else:
        codes = next(t for t in proto.graph.initializer if t.name == "w_quantized")
        proto.graph.input.append(helper.make_tensor_value_info("w_quantized", codes.data_type, codes.dims))
        proto.graph.initializer.remove(codes)
    graph = BUILDER.build(BUILDER.open(proto, {}))
    assert not [c for c in graph.constants.values() if c.compressed is not None]


def test_the_layout_of_what_operators_decompress_themselves() -> None:
    w = random(64, 48)
    graph = BUILDER.build(BUILDER.open(written(matmul(w, 17), compressed(w, "int4_sym", 0, 16)), {}))
    (product,) = graph.nodes
    layout = product.inputs[1].layout
    assert layout is not None
    assert (layout.reduction_axes, layout.channel_axes) == ((1,), (0,))
    assert graph.constants["w"].shape == (48, 64)
    graph = BUILDER.build(BUILDER.open(written(gather(w, 17), compressed(w, "int4_sym", 1, 16)), {}))
    assert graph.nodes[0].inputs[0].layout == layout
