"""Compressed weights in ONNX: what onnxruntime computes is what the codes stand for."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("nncf_onnx")

import onnx
from onnx import helper

import nncf
from nncf_core.contracts import CompressionRequest
from nncf_core.graph import Graph, OpKind
from nncf_core.numerics.formats import SCHEMES
from nncf_core.numerics.kernels import compress, decompress
from nncf_core.numerics.packing import unpack
from nncf_core.numerics.tensor import CompressedTensor
from nncf_core.transformations import CompressConstant, InsertMultiply, PointKind, ReplaceConstant, TargetPoint
from nncf_onnx.builder import OnnxGraphBuilder
from nncf_onnx.inserter import OnnxTargetPointInserter
from tests.backends.onnx import models
from tests.backends.onnx.models import random, run

BUILDER, INSERTER = OnnxGraphBuilder(), OnnxTargetPointInserter()
CODEBOOK = np.array([-1, -0.5, 0, 0.25, 0.5, 1], np.float32)


def compressed_weight(graph: Graph, scheme: str, group_size: int) -> CompressedTensor:
    constant = graph.constants["w"]
    node, index = next((n, i) for n, i in graph.users("w") if n.inputs[i].layout)
    axes = node.inputs[index].layout.reduction_axes
    table = CODEBOOK if scheme == "codebook" else None
    axis = None if group_size == -1 else axes[-1]
    return compress(
        constant.read(), SCHEMES[scheme], reduction_axes=axes, group_axis=axis, group_size=group_size, codebook=table
    )


def check(proto: onnx.ModelProto, scheme: str, group_size: int = -1, **options: object) -> onnx.ModelProto | str:
    """Compress ``w``; compare with the float model that has the decompressed weight. Returns the refusal or model."""
    before = proto.SerializeToString()
    # activations as exact as the weights' codes
    options = {"accuracy_level": 0, **options}
    working = BUILDER.open(proto, {})
    graph = BUILDER.build(working)
    tensor = compressed_weight(graph, scheme, group_size)
    request = CompressionRequest(scheme, tensor.format.name, tensor.group_axis, tensor.group_size)
    refusal = INSERTER.refusal(graph, graph.constants["w"], request, options)
    if refusal is not None:
        assert len(refusal) > 20
        return refusal
    result = BUILDER.export(INSERTER.apply(working, graph, [CompressConstant("w", tensor)], options), proto)
    onnx.checker.check_model(result)
    assert proto.SerializeToString() == before

    expected = onnx.ModelProto()
    expected.CopyFrom(proto)
    for tensor_proto in expected.graph.initializer:
        if tensor_proto.name == "w":
            tensor_proto.CopyFrom(onnx.numpy_helper.from_array(decompress(tensor), "w"))
    half = tensor.dtype == "float16"
    rng = np.random.default_rng(1)
    feed = {
        v.name: rng.integers(0, tensor.shape[0], [d.dim_value for d in v.type.tensor_type.shape.dim])
        if v.type.tensor_type.elem_type == onnx.TensorProto.INT64
        else rng.standard_normal([d.dim_value for d in v.type.tensor_type.shape.dim]).astype(tensor.dtype)
        for v in proto.graph.input
    }
    for got, want in zip(run(result, **feed), run(expected, **feed), strict=True):
        assert got.dtype == want.dtype
        scale = np.abs(want).max()
        np.testing.assert_allclose(got, want, rtol=0, atol=scale * (4e-3 if half else 2e-5))

    # the weight is recognised, equal in every code and scale, and not offered for compression again
    again = BUILDER.build(BUILDER.open(result, {}))
    constant = next(c for c in again.constants.values() if c.compressed is not None)
    assert not constant.is_float
    read = constant.compressed()
    if read.shape == tensor.shape:
        np.testing.assert_array_equal(decompress(read, np.float32), decompress(tensor, np.float32))
        if read.group_size == tensor.group_size:
            np.testing.assert_array_equal(read.codes, tensor.codes)
            np.testing.assert_array_equal(read.scale.astype(np.float32), tensor.scale.astype(np.float32))
    else:
        assert read.shape == tensor.shape[::-1]
        np.testing.assert_array_equal(decompress(read, np.float32), decompress(tensor, np.float32).T)
    return result


def op_types(proto: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in proto.graph.node]


@pytest.mark.parametrize("dtype", ["float32", "float16", "float64"])
@pytest.mark.parametrize("opset", [13, 19, 21, 25])
@pytest.mark.parametrize(
    "make",
    [
        lambda opset, dtype: models.matmul(random(64, 32, dtype=dtype), opset),
        lambda opset, dtype: models.gemm(random(32, 64, dtype=dtype), opset),
        lambda opset, dtype: models.gemm(random(64, 32, dtype=dtype), opset, False, random(32, dtype=dtype)),
        lambda opset, dtype: models.gather(random(32, 64, dtype=dtype), opset),
        lambda opset, dtype: models.tied(random(32, 64, dtype=dtype), opset),
        lambda opset, dtype: models.matmul(random(4, 64, 32, dtype=dtype), opset),
        lambda opset, dtype: models.conv(random(8, 4, 3, 3, dtype=dtype), opset),
    ],
    ids=["matmul", "gemm_transposed", "gemm_bias", "gather", "tied", "experts", "conv"],
)  # fmt: skip
def test_int8_works_everywhere(make, opset: int, dtype: str) -> None:
    if make(21, "float32").graph.node[0].op_type == "Conv" and dtype == "float64":
        pytest.skip("onnxruntime has no convolution of doubles")
    for scheme in ("int8_asym", "int8_sym"):
        assert not isinstance(check(make(opset, dtype), scheme), str)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("opset", [13, 17, 19, 21, 25])
@pytest.mark.parametrize("group_size", [-1, 16, 32, 48])
@pytest.mark.parametrize("scheme", ["int4_sym", "int4_asym"])
@pytest.mark.parametrize(
    "make",
    [
        lambda opset, dtype: models.matmul(random(96, 40, dtype=dtype), opset),
        lambda opset, dtype: models.gemm(random(40, 96, dtype=dtype), opset),
        lambda opset, dtype: models.gemm(random(40, 96, dtype=dtype), opset, bias=random(40, dtype=dtype)),
        lambda opset, dtype: models.gemm(random(40, 96, dtype=dtype), opset, bias=random(1, dtype=dtype)),
        lambda opset, dtype: models.gather(random(40, 96, dtype=dtype), opset),
    ],
    ids=["matmul", "gemm", "gemm_bias", "gemm_scalar_bias", "gather"],
)
def test_int4_works_with_every_opset(make, scheme: str, group_size: int, opset: int, dtype: str) -> None:
    result = check(make(opset, dtype), scheme, group_size)
    assert not isinstance(result, str), result
    if opset < 21:
        assert any(name in op_types(result) for name in ("MatMulNBits", "GatherBlockQuantized"))
        assert "com.microsoft" in {imported.domain for imported in result.opset_import}
    else:
        assert "DequantizeLinear" in op_types(result)


@pytest.mark.parametrize("scheme", sorted(SCHEMES))
@pytest.mark.parametrize("opset", [17, 21, 25])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_every_scheme_works_or_is_refused(scheme: str, opset: int, dtype: str) -> None:
    sizes = [SCHEMES[scheme].fixed_group_size] if SCHEMES[scheme].fixed_group_size else [-1, 32]
    for size in sizes:
        result = check(models.matmul(random(64, 32, dtype=dtype), opset), scheme, size)
        works = scheme in ("int8_sym", "int8_asym", "int4_sym", "int4_asym", "int2_sym")
        works |= scheme == "fp8_e4m3" and (opset >= 21 or (opset >= 19 and size == -1))
        works |= opset >= 21 and scheme != "int3_sym"
        if scheme.startswith("int8") and size != -1:
            works = True
        assert isinstance(result, onnx.ModelProto) == works, result


@pytest.mark.parametrize("scheme", ["int8_sym", "int8_asym", "int4_sym", "int4_asym", "int2_sym"])
@pytest.mark.parametrize("columns", [64, 96, 80, 50])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_whole_channels_in_blocks_of_onnxruntime(scheme: str, columns: int, dtype: str) -> None:
    proto = models.matmul(random(columns, 24, dtype=dtype), 17)
    result = check(proto, scheme, -1, weight_format="matmul_nbits")
    assert op_types(result) == ["MatMulNBits"]


@pytest.mark.parametrize("scheme", ["int8_sym", "int8_asym", "int4_sym", "int4_asym"])
def test_embeddings_in_blocks_of_onnxruntime(scheme: str) -> None:
    result = check(models.gather(random(30, 96)), scheme, weight_format="matmul_nbits")
    assert op_types(result) == ["GatherBlockQuantized"]


def test_a_tied_table_is_stored_once() -> None:
    for options in ({}, {"weight_format": "matmul_nbits"}):
        result = check(models.tied(random(32, 64)), "int8_asym", **options)
        assert op_types(result) == ["DequantizeLinear", "Gather", "Transpose", "MatMul"]
        assert sum(np.prod(t.dims) >= 32 * 64 for t in result.graph.initializer) == 1


def test_transposed_weights_become_matmul_nbits_without_the_transpose() -> None:
    nodes = [
        helper.make_node("Transpose", ["w"], ["wt"], name="transpose", perm=[1, 0]),
        helper.make_node("MatMul", ["x", "wt"], ["y"], name="matmul"),
    ]
    proto = models.model(nodes, {"w": random(40, 64)}, {"x": [3, 64]}, {"y": [3, 40]}, 17)
    assert op_types(check(proto, "int4_sym", 32)) == ["MatMulNBits"]


def test_names_of_the_parts() -> None:
    result = check(models.matmul(random(64, 32)), "int4_asym", 32)
    assert {t.name for t in result.graph.initializer} == {"w_quantized", "w_scale", "w_zero_point"}
    node = result.graph.node[0]
    assert (node.name, node.output[0]) == ("w_DequantizeLinear", "w_dequantized")
    result = check(models.matmul(random(64, 32), 17), "int4_asym", 32)
    assert result.graph.node[0].name == "matmul_compressed_matmul"


def test_codes_are_stored_as_the_operator_defines_them() -> None:
    w = random(32, 4)
    tensor = compress(w, SCHEMES["int4_sym"], reduction_axes=0, group_size=16)
    result = check(models.matmul(w), "int4_sym", 16)
    stored = {t.name: onnx.numpy_helper.to_array(t) for t in result.graph.initializer}
    codes = unpack(tensor.codes, 4, w.size, signed=True).reshape(w.shape)
    np.testing.assert_array_equal(stored["w_quantized"].astype(np.int8), codes)
    # by hand: the largest magnitude of each group lands on -8
    groups = w.reshape(2, 16, 4)
    assert (codes.reshape(2, 16, 4).min(axis=1) == -8).all()
    largest = np.take_along_axis(groups, np.abs(groups).argmax(axis=1, keepdims=True), axis=1)[:, 0]
    np.testing.assert_array_equal(stored["w_scale"], (largest / np.float32(-8)).astype(np.float16).astype(np.float32))


def test_weights_in_bodies() -> None:
    w = random(8, 8)

    def branch(name: str, op: str) -> onnx.GraphProto:
        nodes = [helper.make_node(op, ["x", "w"], [name], name=f"{name}_node")]
        return helper.make_graph(nodes, name, [], [helper.make_tensor_value_info(name, 1, [3, 8])])

    node = helper.make_node(
        "If", ["c"], ["y"], name="choose", then_branch=branch("t", "MatMul"), else_branch=branch("e", "MatMul")
    )
    proto = models.model([node], {"w": w}, {"c": [], "x": [3, 8]}, {"y": [3, 8]}, types={"c": onnx.TensorProto.BOOL})
    result = nncf.compress_weights(proto)
    onnx.checker.check_model(result)
    assert op_types(result) == ["DequantizeLinear", "If"]
    x = random(3, 8, seed=5)
    want = x @ decompress(compress(w, SCHEMES["int8_asym"], reduction_axes=0))
    for condition in (True, False):
        np.testing.assert_allclose(run(result, c=np.array(condition), x=x)[0], want, atol=1e-5)


def test_constant_nodes_are_weights() -> None:
    w = random(64, 8)
    nodes = [
        helper.make_node("Constant", [], ["w"], value=onnx.numpy_helper.from_array(w, "w")),
        helper.make_node("MatMul", ["x", "w"], ["y"], name="matmul"),
    ]
    proto = models.model(nodes, {}, {"x": [3, 64]}, {"y": [3, 8]})
    result = nncf.compress_weights(proto)
    assert op_types(result) == ["DequantizeLinear", "MatMul"]
    x = random(3, 64, seed=2)
    want = x @ decompress(compress(w, SCHEMES["int8_asym"], reduction_axes=0))
    np.testing.assert_allclose(run(result, x=x)[0], want, atol=1e-4)


def test_initializers_that_are_inputs_too() -> None:
    proto = models.matmul(random(64, 8))
    proto.graph.input.append(helper.make_tensor_value_info("w", onnx.TensorProto.FLOAT, [64, 8]))
    result = nncf.compress_weights(proto)
    onnx.checker.check_model(result)
    assert [value.name for value in result.graph.input] == ["x"]
    run(result, x=random(3, 64))


def test_replacing_a_constant_undoes_every_form() -> None:
    for options in ({}, {"weight_format": "matmul_nbits"}):
        for make in (lambda: models.matmul(random(64, 32)), lambda: models.gather(random(32, 64))):
            proto = make()
            result = check(proto, "int4_asym", 32, **options)
            stripped = nncf.strip(result, strip_format=nncf.StripFormat.IN_PLACE)
            onnx.checker.check_model(stripped)
            assert op_types(stripped) == [proto.graph.node[0].op_type]
            assert len(stripped.graph.initializer) == 1
            feed = (
                {"x": random(3, 64)} if proto.graph.input[0].name == "x" else {"i": np.array([[1, 2, 3], [0, 5, 31]])}
            )
            np.testing.assert_allclose(run(stripped, **feed)[0], run(result, **feed)[0], atol=1e-4)
    same = nncf.strip(result, strip_format=nncf.StripFormat.DQ)
    assert op_types(same) == op_types(result)


def test_stripping_half_precision_models() -> None:
    result = check(models.matmul(random(64, 32, dtype="float16"), 17), "int8_asym")
    stripped = nncf.strip(result, strip_format=nncf.StripFormat.IN_PLACE)
    assert op_types(stripped) == ["MatMul"]
    x = random(3, 64, dtype="float16")
    np.testing.assert_allclose(run(stripped, x=x)[0], run(result, x=x)[0], rtol=1e-2, atol=1e-2)


def edited(proto: onnx.ModelProto, *commands: object) -> onnx.ModelProto:
    working = BUILDER.open(proto, {})
    return BUILDER.export(INSERTER.apply(working, BUILDER.build(working), commands, {}), proto)


@pytest.mark.parametrize("point", [TargetPoint("matmul", PointKind.INPUT, 0), TargetPoint("matmul")])
def test_inserting_a_multiplication(point: TargetPoint) -> None:
    w, x = random(8, 4), random(3, 8, seed=1)
    factor = np.arange(1, 9 if point.kind is PointKind.INPUT else 5, dtype=np.float32)
    result = edited(models.matmul(w), InsertMultiply(point, factor, "scaled"))
    onnx.checker.check_model(result)
    assert [value.name for value in result.graph.output] == ["y"]
    want = (x * factor) @ w if point.kind is PointKind.INPUT else (x @ w) * factor
    np.testing.assert_allclose(run(result, x=x)[0], want, rtol=1e-5, atol=1e-5)


def test_replacing_a_float_constant() -> None:
    w, x = random(8, 4), random(3, 8, seed=1)
    result = edited(models.matmul(w), ReplaceConstant("w", 2 * w))
    np.testing.assert_allclose(run(result, x=x)[0], 2 * (x @ w), rtol=1e-5, atol=1e-5)
    assert [t.name for t in result.graph.initializer] == ["w"] or len(result.graph.initializer) == 1


@pytest.mark.parametrize(
    "command",
    [
        ReplaceConstant("v", np.ones((8, 4), np.float32)),
        ReplaceConstant("w", np.ones((4, 8), np.float32)),
        InsertMultiply(TargetPoint("none"), np.ones(1, np.float32)),
        InsertMultiply(TargetPoint("matmul", PointKind.OUTPUT, 3), np.ones(1, np.float32)),
    ],
)
def test_edits_of_what_is_not_there_are_errors(command: object) -> None:
    with pytest.raises(nncf.ValidationError):
        edited(models.matmul(random(8, 4)), command)


def test_options_are_checked() -> None:
    advanced = nncf.AdvancedCompressionParameters
    for options in ({"weight_format": "x"}, {"wait_format": "auto"}, {"accuracy_level": 9}):
        with pytest.raises(nncf.ValidationError, match="backend_params"):
            nncf.compress_weights(models.matmul(random(8, 4)), advanced_parameters=advanced(backend_params=options))


def test_what_cannot_be_expressed_says_what_would_work() -> None:
    mode = nncf.CompressWeightsMode.INT4_SYM
    with pytest.raises(nncf.ParameterNotSupportedError, match=r"opset 21.*convert_version"):
        nncf.compress_weights(models.matmul(random(4, 64, 32), 17), mode=mode, group_size=32, all_layers=True)
    with pytest.raises(nncf.ParameterNotSupportedError, match="int3"):
        nncf.compress_weights(
            models.matmul(random(64, 32)), mode=nncf.CompressWeightsMode.INT3_SYM, group_size=32, all_layers=True
        )


def test_the_graph_of_a_model(tmp_path: Path) -> None:
    graph = nncf.build_graph(models.tied(random(32, 64)))
    assert [(node.name, node.kind) for node in graph] == [
        ("embed", OpKind.EMBEDDING), ("transpose", OpKind.SHAPE_ONLY), ("head", OpKind.MATMUL),
    ]  # fmt: skip
    embed, _, head = graph
    assert embed.inputs[0].constant == head.inputs[1].constant == "w"
    # one constant, two meanings: rows are vectors of the embedding, and output channels of the head
    assert embed.inputs[0].layout.reduction_axes == (1,)
    assert (head.inputs[1].layout.reduction_axes, head.inputs[1].layout.channel_axes) == ((1,), (0,))
    assert graph.predecessors(head) == (embed, graph.node("transpose"))
