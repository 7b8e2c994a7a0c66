"""Weights that are compressed already, by whatever tool, are left alone, and read back."""

from __future__ import annotations

import numpy as np
import openvino as ov
import pytest

pytest.importorskip("nncf_openvino")

from openvino.op import Constant

import nncf
from nncf_core.graph import OpKind
from nncf_core.numerics.formats import SCHEMES
from nncf_core.numerics.kernels import compress, decompress
from nncf_openvino.forms.packing3 import pack_u3, unpack_u3
from tests.backends.openvino import models
from tests.backends.openvino.models import constant, graph_of, model_of, named, ops, parameter, random, run

MODE = nncf.CompressWeightsMode


def low_bit(raw, shape, kind, name):
    return named(Constant(ov.Tensor(raw, list(shape), getattr(ov.Type, kind)), shared_memory=False), name)


def product(decompressed, columns):
    x = parameter([-1, columns], "x")
    return model_of([named(ops.matmul(x, decompressed, False, True), "matmul", "y")], [x])


def test_compressing_twice_changes_nothing() -> None:
    once = nncf.compress_weights(models.mlp(random(32, 64), random(16, 32)), mode=MODE.INT4_ASYM, group_size=16)
    twice = nncf.compress_weights(once, mode=MODE.INT8_SYM)
    names = [[node.get_friendly_name() for node in model.get_ordered_ops()] for model in (once, twice)]
    assert names[0] == names[1]


def test_a_compressed_constant_is_a_part_of_the_graph_without_its_decompression() -> None:
    model = nncf.compress_weights(models.matmul(random(8, 64), transpose_b=True), mode=MODE.INT8_ASYM)
    graph = graph_of(model)
    assert [node.op_type for node in graph] == ["Parameter", "MatMul", "Result"]
    assert list(graph.constants) == ["w"]
    found = graph.constants["w"]
    assert (found.compressed_format, found.granularity, found.stored_bytes) == ("uint8", "per channel", 8 * 64 + 8 * 3)


def test_i8_with_zero_points_is_read_as_u8() -> None:
    random_codes = np.random.default_rng(0)
    codes = random_codes.integers(-128, 128, (8, 64)).astype(np.int8)
    points = random_codes.integers(-20, 20, (8, 1)).astype(np.int8)
    scale = random_codes.uniform(0.1, 1, (8, 1)).astype(np.float32)
    shifted = ops.subtract(ops.convert(constant(codes, "w"), "f32"), ops.convert(constant(points, "p"), "f32"))
    model = product(named(ops.multiply(shifted, constant(scale, "s")), "scaled"), 64)
    tensor = graph_of(model).constants["w"].compressed()
    assert tensor.format.name == "uint8"
    want = (codes.astype(np.float32) - points.astype(np.float32)) * scale
    np.testing.assert_allclose(decompress(tensor), want, rtol=1e-6)
    x = random(3, 64)
    np.testing.assert_allclose(run(model, x=x)[0], x @ want.T, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("point", [None, 8.0])
def test_a_scale_for_the_whole_tensor(point: float | None) -> None:
    raw = np.random.default_rng(0).integers(0, 256, 8 * 64 // 2).astype(np.uint8)
    values = ops.convert(low_bit(raw, (8, 64), "u4", "w"), "f32")
    if point is not None:
        values = ops.subtract(values, constant(np.float32(point), "p"))
    model = product(named(ops.multiply(values, constant(np.float32(0.5), "s")), "scaled"), 64)
    found = graph_of(model).constants["w"]
    codes = np.stack([raw & 15, raw >> 4], -1).reshape(8, 64)
    np.testing.assert_array_equal(found.read(), (codes - np.float32(point or 0)) * np.float32(0.5))
    assert found.granularity == "per tensor"


def test_scales_on_the_left_and_in_half_precision() -> None:
    codes = np.random.default_rng(0).integers(-128, 128, (8, 64)).astype(np.int8)
    scale = ops.convert(constant(random(8, 1, dtype="float16"), "s"), "f32")
    scaled = named(ops.multiply(scale, ops.convert(constant(codes, "w"), "f32")), "scaled")
    found = graph_of(product(scaled, 64)).constants["w"]
    np.testing.assert_allclose(found.read(), codes * random(8, 1, dtype="float16").astype(np.float32))


def test_forms_without_a_counterpart_are_left_alone_all_the_same() -> None:
    raw = np.random.default_rng(0).integers(0, 256, 8 * 64 // 4).astype(np.uint8)
    shifted = ops.subtract(ops.convert(low_bit(raw, (8, 64), "u2", "w"), "f32"), constant(random(8, 1), "p"))
    model = product(named(ops.multiply(shifted, constant(random(8, 1), "s")), "scaled"), 64)
    found = graph_of(model).constants["w"]
    assert (found.compressed_format, found.compressed) == ("int2", None)
    with pytest.raises(nncf.UnsupportedModelError, match="'w'"):
        found.read()
    before = [node.get_friendly_name() for node in model.get_ordered_ops()]
    assert [node.get_friendly_name() for node in nncf.compress_weights(model).get_ordered_ops()] == before


def test_codes_that_something_else_uses_are_not_taken_apart() -> None:
    codes = np.random.default_rng(0).integers(-128, 128, (8, 64)).astype(np.int8)
    wide = named(ops.convert(constant(codes, "w"), "f32"), "wide")
    scaled = named(ops.multiply(wide, constant(random(8, 1), "s")), "scaled")
    x = parameter([-1, 64], "x")
    model = model_of(
        [named(ops.matmul(x, scaled, False, True), "a"), named(ops.matmul(x, wide, False, True), "b")], [x]
    )
    graph = graph_of(model)
    assert graph.constants["w"].dtype == "int8"
    assert "scaled" in graph


def test_strip_gives_floats_again() -> None:
    weights = random(32, 64), random(16, 32, seed=1)
    small = nncf.compress_weights(models.mlp(*weights), mode=MODE.INT4_ASYM, group_size=16, all_layers=True)
    stripped = nncf.strip(small, strip_format=nncf.StripFormat.IN_PLACE)
    assert [n.get_type_name() for n in stripped.get_ordered_ops()].count("Multiply") == 0
    want = compress(weights[0], SCHEMES["int4_asym"], reduction_axes=1, group_axis=1, group_size=16)
    np.testing.assert_array_equal(graph_of(stripped).constants["w0"].read(), decompress(want))


class TestFakeQuantize:
    weight = random(32, 64)

    def model(self, kind):
        low, high = self.weight.min(1, keepdims=True), self.weight.max(1, keepdims=True)
        largest = np.maximum(-low, high)
        if kind == "symmetric":
            return models.fake_quantized(self.weight, -largest * 128 / 127, largest)
        if kind == "narrow":
            return models.fake_quantized(self.weight, -largest, largest, levels=255)
        if kind == "per tensor":
            return models.fake_quantized(self.weight, -largest.max(), largest.max(), levels=255)
        return models.fake_quantized(self.weight, low, high)  # 0 is between two levels

    @pytest.mark.parametrize("kind", ["symmetric", "narrow", "per tensor"])
    def test_it_is_read_as_codes(self, kind: str) -> None:
        model = self.model(kind)
        found, x = graph_of(model).constants["w"], random(3, 64, seed=1, scale=1)
        assert found.compressed_format == "uint8"
        assert "FakeQuantize" in found.granularity
        np.testing.assert_allclose(run(model, x=x)[0], x @ found.read().T, atol=1e-5)

    def test_codes_need_a_zero(self) -> None:
        found = graph_of(self.model("uneven")).constants["w"]
        assert found.compressed is None
        assert not found.is_float

    @pytest.mark.parametrize("kind", ["symmetric", "uneven"])
    def test_it_is_left_alone(self, kind: str) -> None:
        model = self.model(kind)
        before = [node.get_friendly_name() for node in model.get_ordered_ops()]
        assert [node.get_friendly_name() for node in nncf.compress_weights(model).get_ordered_ops()] == before

    def test_strip_rounds_the_weight(self) -> None:
        model, x = self.model("narrow"), random(3, 64, seed=1, scale=1)
        stripped = nncf.strip(model, strip_format=nncf.StripFormat.IN_PLACE)
        assert [n.get_type_name() for n in stripped.get_ordered_ops()] == ["Parameter", "Constant", "MatMul", "Result"]
        np.testing.assert_allclose(run(stripped, x=x)[0], run(model, x=x)[0], atol=1e-5)

    def test_activations_are_no_weights(self) -> None:
        x = parameter([-1, 64], "x")
        ranges = [constant(np.float32(value), f"r{i}") for i, value in enumerate((-1, 1, -1, 1))]
        rounded = named(ops.fake_quantize(x, *ranges, 256), "fq")
        graph = graph_of(model_of([rounded], [x]))
        assert graph.node("fq").kind is OpKind.QUANTIZE


def test_u3_packing() -> None:
    codes = np.random.default_rng(0).integers(0, 8, 37).astype(np.uint8)
    packed = pack_u3(codes)
    assert packed.size == 15
    np.testing.assert_array_equal(unpack_u3(packed, 37), codes)
    # OpenVINO reads them in the same way
    node = low_bit(pack_u3(codes[:32]), (32,), "u3", "codes")
    x = parameter([32], "x")
    found = run(model_of([named(ops.add(x, ops.convert(node, "f32")), "sum")], [x]), x=np.zeros(32, np.float32))
    np.testing.assert_array_equal(found[0], codes[:32])
