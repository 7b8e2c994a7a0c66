"""Edits one after another: names, order, and what is undone."""

import numpy as np
import onnx
import pytest

pytest.importorskip("nncf_onnx")

from onnx import helper, numpy_helper

import nncf
from nncf_core.transformations import CompressConstant, InsertMultiply, PointKind, ReplaceConstant, TargetPoint
from tests.backends.onnx.models import gather, gemm, matmul, model, random, run, tied
from tests.backends.onnx.writing.reference import compressed, edited, meaning, op_types, recognised, refusal, written

node = helper.make_node
W, X = random(64, 64) / 8, random(3, 64, seed=1)


def forms() -> list[tuple[str, int, int, str, str]]:
    """Scheme, group size, opset, weight format and element type of every form."""
    return [
        ("int8_asym", -1, 13, "auto", "float32"),
        ("int8_sym", -1, 13, "auto", "float16"),
        ("int4_asym", 16, 21, "auto", "float16"),
        ("fp8_e4m3", 32, 21, "auto", "float32"),
        ("mxfp8_e4m3", 32, 21, "auto", "float16"),
        ("nf4", 32, 21, "auto", "float16"),
        ("nvfp4", 16, 21, "auto", "float32"),
        ("codebook", -1, 21, "auto", "float32"),
        ("int4_sym", 32, 17, "matmul_nbits", "float16"),
        ("int8_asym", 16, 13, "matmul_nbits", "float32"),
    ]


@pytest.mark.parametrize(("scheme", "size", "opset", "weight_format", "dtype"), forms())
@pytest.mark.parametrize("place", ["matmul", "gemm", "gather"])
def test_new_values_undo_every_form(
    place: str, scheme: str, size: int, opset: int, weight_format: str, dtype: str
) -> None:
    w = random(64, 64, dtype=dtype)
    if place == "gemm":
        proto = gemm(w, opset, bias=random(64, dtype=dtype))
    else:
        proto = {"matmul": matmul, "gather": gather}[place](w, opset)
    feed = {"i": np.arange(6).reshape(2, 3)} if place == "gather" else {"x": X.astype(dtype)}
    tensor = compressed(w, scheme, 0 if place == "matmul" else 1, size)
    result = written(proto, tensor, weight_format=weight_format)
    (known,) = recognised(result)
    assert known.name == "w"
    restored = edited(result, ReplaceConstant("w", known.read()))
    assert not recognised(restored)
    (values,) = (numpy_helper.to_array(t) for t in restored.graph.initializer if t.name == "w")
    np.testing.assert_array_equal(values, known.read().T if op_types(result) == ["MatMulNBits"] else known.read())
    assert values.dtype == dtype
    assert {t.name for t in restored.graph.initializer} <= {"w", "b"}
    got, want = (run(p, **feed)[0] for p in (restored, result))
    np.testing.assert_allclose(got, want, rtol=0, atol=np.abs(want).max() * (4e-3 if dtype == "float16" else 1e-5))


def test_a_replaced_constant_keeps_its_name() -> None:
    constant = node("Constant", [], ["w"], value=numpy_helper.from_array(W, "w"))
    for proto in (
        matmul(W),
        model([constant, node("MatMul", ["x", "w"], ["y"])], {}, {"x": [3, 64]}, {"y": [3, 64]}),
    ):
        result = edited(proto, ReplaceConstant("w", 2 * W), ReplaceConstant("w", 3 * W))
        assert [t.name for t in result.graph.initializer] == ["w"]
        np.testing.assert_allclose(run(result, x=X)[0], X @ (3 * W), atol=1e-5)


def test_names_that_are_taken_are_not_taken_twice() -> None:
    nodes = [
        node("MatMul", ["x", "w"], ["w_dequantized"], name="w_DequantizeLinear"),
        node("Add", ["w_dequantized", "w_scale"], ["y"], name="add"),
    ]
    proto = model(nodes, {"w": W, "w_scale": random(64)}, {"x": [3, 64]}, {"y": [3, 64]})
    tensor = compressed(W, "int8_asym", 0)
    result = written(proto, tensor)
    assert len({n.name for n in result.graph.node}) == 3
    np.testing.assert_allclose(run(result, x=X)[0], X @ meaning(tensor) + random(64), atol=1e-5)


def test_an_initializer_that_is_an_input_goes_from_the_inputs() -> None:
    proto = matmul(W)
    proto.graph.input.append(helper.make_tensor_value_info("w", 1, [64, 64]))
    for result in (written(proto, compressed(W, "int8_sym", 0)), written(proto, compressed(W, "nf4", 0))):
        assert [v.name for v in result.graph.input] == ["x"]


@pytest.mark.parametrize("first", ["multiply", "compress"])
@pytest.mark.parametrize("weight_format", ["auto", "matmul_nbits"])
@pytest.mark.parametrize("kind", [PointKind.INPUT, PointKind.OUTPUT])
def test_a_factor_and_codes_at_one_node(kind: PointKind, weight_format: str, first: str) -> None:
    """Also where the operator that decompresses has replaced the node, with an Add behind it for the bias."""
    bias = random(3, 64, seed=2)
    nodes = [node("Gemm", ["x", "w", "b"], ["h"], name="gemm"), node("Relu", ["h"], ["y"], name="relu")]
    proto = model(nodes, {"w": W, "b": bias}, {"x": [3, 64]}, {"y": [3, 64]})
    tensor, factor = compressed(W, "int4_asym", 0, 16), np.linspace(-1, 1, 64, dtype=np.float32)
    commands = [InsertMultiply(TargetPoint("gemm", kind, 0), factor, "scaled"), CompressConstant("w", tensor)]
    result = edited(proto, *(commands if first == "multiply" else commands[::-1]), weight_format=weight_format)
    product = (X * factor if kind is PointKind.INPUT else X) @ meaning(tensor) + bias
    want = np.maximum(product * factor if kind is PointKind.OUTPUT else product, 0)
    np.testing.assert_allclose(run(result, x=X)[0], want, rtol=0, atol=1e-5)
    assert "scaled" in {n.name for n in result.graph.node}


def test_codes_cannot_be_multiplied_or_edited_at_once() -> None:
    tensor = compressed(W, "int4_sym", 0, 16)
    factor = np.ones(1, np.float32)
    commands = [CompressConstant("w", tensor), InsertMultiply(TargetPoint("matmul", PointKind.INPUT, 1), factor)]
    with pytest.raises(nncf.ValidationError, match="cannot be edited"):
        edited(matmul(W), *commands, weight_format="matmul_nbits")
    with pytest.raises(nncf.ValidationError, match="just been compressed"):
        edited(matmul(W), CompressConstant("w", tensor), ReplaceConstant("w", W))
    with pytest.raises(nncf.ValidationError, match="shape"):
        edited(matmul(W), CompressConstant("w", compressed(W[:32], "int8_sym", 0)))


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("kind", [PointKind.INPUT, PointKind.OUTPUT])
def test_factors_have_the_type_of_the_activations(kind: PointKind, dtype: str) -> None:
    """The model does not state the type in between; the factor is float32."""
    w = W.astype(dtype)
    nodes = [
        node("MatMul", ["x", "w"], ["h"], name="a"), node("MatMul", ["h", "w"], ["g"], name="b"),
        node("Relu", ["g"], ["y"], name="c"),
    ]  # fmt: skip
    proto = model(nodes, {"w": w}, {"x": [3, 64]}, {"y": [3, 64]}, dtype=dtype)
    result = edited(proto, InsertMultiply(TargetPoint("b", kind, 0), np.array([2], np.float32)))
    x = X.astype(dtype)
    np.testing.assert_allclose(run(result, x=x)[0], 2 * run(proto, x=x)[0], rtol=1e-3 if dtype == "float16" else 1e-6)


def test_all_consumers_see_a_factor_at_an_output() -> None:
    nodes = [
        node("MatMul", ["x", "w"], ["h"], name="a"),
        node("Relu", ["h"], ["y"], name="b"),
        node("Neg", ["h"], ["z"], name="c"),
    ]
    shapes = {"y": [3, 64], "h": [3, 64], "z": [3, 64]}
    proto = model(nodes, {"w": W}, {"x": [3, 64]}, shapes)
    result = edited(proto, InsertMultiply(TargetPoint("a"), np.array([2], np.float32)))
    assert [v.name for v in result.graph.output] == ["y", "h", "z"]
    y, h, z = run(result, x=X)
    want = 2 * (X @ W)
    for got, expected in ((y, np.maximum(want, 0)), (h, want), (z, -want)):
        np.testing.assert_allclose(got, expected, atol=1e-5)
    only_b = edited(proto, InsertMultiply(TargetPoint("b", PointKind.INPUT, 0), np.array([2], np.float32)))
    y, h, z = run(only_b, x=X)
    for got, expected in ((y, np.maximum(want, 0)), (h, want / 2), (z, -want / 2)):
        np.testing.assert_allclose(got, expected, atol=1e-5)


def test_tied_weights_below_opset_21_are_refused_in_4_bits() -> None:
    """One table cannot be both MatMulNBits' and GatherBlockQuantized's; stored twice it would save nothing."""
    w = random(32, 64)
    why = refusal(tied(w, 17), compressed(w, "int4_sym", 1, 32))
    assert "opset 21" in why
    assert "convert_version" in why
    with pytest.raises(nncf.ParameterNotSupportedError, match="opset 21"):
        written(tied(w, 17), compressed(w, "int4_sym", 1, 32))


@pytest.mark.parametrize(
    ("scheme", "size", "opset", "options", "words"),
    [
        ("int3_sym", 32, 21, {}, ("int3", "Choose another format", "int4_sym")),
        ("int4_sym", 32, 17, {"weight_format": "dequantize_linear"}, ("opset 21", "'weight_format': 'auto'")),
        ("int4_sym", 8, 17, {}, ("opset 21", "multiple of 16", "convert_version")),
        ("nf4", 32, 17, {}, ("nf4", "opset 21", "convert_version")),
        ("fp8_e4m3", -1, 17, {}, ("opset 19",)),
        ("fp8_e4m3", 32, 19, {}, ("in groups", "opset 21")),
    ],
)
def test_refusals_say_what_would_work(scheme, size, opset, options, words) -> None:
    tensor = compressed(W, scheme, 0, size)
    why = refusal(matmul(W, opset), tensor, **options)
    for word in words:
        assert word in why
    with pytest.raises(nncf.ParameterNotSupportedError):
        written(matmul(W, opset), tensor, **options)


def test_the_import_of_onnxruntimes_domain_is_there_when_needed_alone() -> None:
    tensor = compressed(W, "int4_sym", 0, 32)
    assert [o.domain for o in written(matmul(W), tensor).opset_import] == [""]
    domains = {o.domain: o.version for o in written(matmul(W, 17), tensor).opset_import}
    assert domains == {"": 17, "com.microsoft": 1}
    assert op_types(written(matmul(W, 17), tensor)) == ["MatMulNBits"]


def test_onnx_models_of_the_ir_are_changed_in_place_only_when_they_are_working_models() -> None:
    import onnx_ir as ir

    source = ir.from_proto(matmul(W))
    result = nncf.compress_weights(source)
    assert [n.op_type for n in source.graph] == ["MatMul"]
    assert [n.op_type for n in result.graph] == ["DequantizeLinear", "MatMul"]
    onnx.checker.check_model(ir.to_proto(source))


def test_a_weight_that_is_an_output_stays(caplog: pytest.LogCaptureFixture) -> None:
    proto = matmul(W)
    proto.graph.output.append(helper.make_tensor_value_info("w", onnx.TensorProto.FLOAT, W.shape))
    result = nncf.compress_weights(proto)
    assert op_types(result) == ["MatMul"]
    np.testing.assert_array_equal(run(result, x=X)[1], W)
    assert "The weight w is an output of the model" in caplog.text


@pytest.mark.parametrize(("ir_version", "said"), [(3, False), (8, True)])
def test_a_weight_that_callers_could_replace(ir_version: int, said: bool, caplog: pytest.LogCaptureFixture) -> None:
    proto = matmul(W, opset=13)
    proto.ir_version = ir_version
    proto.graph.input.append(helper.make_tensor_value_info("w", onnx.TensorProto.FLOAT, W.shape))
    result = nncf.compress_weights(proto)
    assert [value.name for value in result.graph.input] == ["x"]
    assert ("callers could replace" in caplog.text) == said
