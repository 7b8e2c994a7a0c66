"""Bit-for-bit agreement of ``compress`` with its slow twin, and what both promise."""

from __future__ import annotations

import itertools

import ml_dtypes
import numpy as np
import pytest
import slow_twin
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from nncf_core.errors import InvalidGroupSizeError, ValidationError
from nncf_core.numerics.formats import SCHEMES
from nncf_core.numerics.kernels import compress, decompress
from nncf_core.numerics.packing import unpack

CODEBOOK = np.array([-2.0, -0.7, -0.1, 0.0, 0.3, 1.0, 5.0], np.float32)
DTYPES = ["float16", "bfloat16", "float32", "float64"]


def assert_same_as_twin(weight, mode, axes, group_size=-1, codebook=None):
    if mode == "codebook" and codebook is None:
        codebook = CODEBOOK
    before = weight.copy()
    tensor = compress(weight, SCHEMES[mode], reduction_axes=axes, group_size=group_size, codebook=codebook, name="w")
    np.testing.assert_array_equal(weight, before)
    axes = [axis % weight.ndim for axis in axes]
    slow = slow_twin.compress(weight, mode, axes, group_size, codebook)
    scale = tensor.scale.view(np.uint8) if tensor.scale.dtype.itemsize == 1 else tensor.scale
    assert scale.dtype == slow.scale.dtype
    np.testing.assert_array_equal(scale, slow.scale)
    if slow.zero_point is None:
        assert tensor.zero_point is None
    else:
        assert tensor.zero_point.dtype == np.uint8
        np.testing.assert_array_equal(tensor.zero_point, slow.zero_point)
    bits = tensor.format.bits
    codes = unpack(tensor.codes, bits, tensor.size, signed=False).reshape(weight.shape)
    np.testing.assert_array_equal(codes, slow.codes)
    np.testing.assert_array_equal(tensor.codes, slow_twin.pack(slow.codes, bits))
    assert tensor.global_scale == slow.global_scale
    assert tensor.shape == weight.shape
    assert tensor.dtype == weight.dtype.name
    np.testing.assert_array_equal(decompress(tensor, np.float32), slow.values)
    return tensor


def normal(shape, dtype="float32", seed=0, size=0.05):
    return (np.random.default_rng(seed).standard_normal(shape) * size).astype(np.dtype(dtype))


@pytest.mark.parametrize("mode", slow_twin.MODES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("shape", "axes", "group_size"),
    [
        ((5, 48), (1,), -1),
        ((5, 48), (-1,), 16),
        ((48, 5), (0,), -1),
        ((48, 5), (-2,), 16),
        ((2, 32, 3), (1,), 8),
        ((2, 3, 32), (2,), 32),
        ((3, 2, 3, 5), (1, 2, 3), -1),
        ((3, 4, 3, 2), (0, 2, 3), -1),
        ((7,), (0,), -1),
        ((1, 9, 1), (1,), 3),
    ],
)
def test_same_as_slow_twin(mode, dtype, shape, axes, group_size):
    assert_same_as_twin(normal(shape, dtype), mode, axes, group_size)


@pytest.mark.parametrize("mode", slow_twin.MODES)
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_special_groups(mode, dtype):
    tiny = np.finfo(dtype).smallest_subnormal
    rows = [
        np.zeros(16),
        -np.zeros(16),
        np.full(16, 0.25),
        np.full(16, -0.25),
        np.linspace(0.1, 3, 16),
        np.linspace(-0.1, -3, 16),
        np.linspace(-1, 1, 16),
        np.linspace(-2, 1, 16),
        [1e-3] * 15 + [-7.0],
        [tiny, -tiny] * 8,
        [tiny] * 16,
        np.arange(16) - 8.0,
    ]
    weight = np.array(rows).astype(dtype)
    assert_same_as_twin(weight, mode, (1,))
    assert_same_as_twin(np.ascontiguousarray(weight.T), mode, (0,), 8)
    for row in weight:  # alone, so that each decides by itself how its scale is stored
        assert_same_as_twin(row[None], mode, (1,))


@pytest.mark.parametrize("mode", slow_twin.MODES)
@pytest.mark.parametrize("magnitude", [1e-42, 1e-30, 1e-7, 2e-5, 1e-3, 3e4, 1e7, 1e20, 2.0**125])
def test_magnitudes(mode, magnitude):
    weight = normal((3, 32), "float64", size=1)
    weight *= magnitude / np.abs(weight).max()
    assert_same_as_twin(weight.astype(np.float32), mode, (1,), 16)
    assert np.all(np.isfinite(decompress(compress(
        weight, SCHEMES[mode], reduction_axes=1, codebook=CODEBOOK if mode == "codebook" else None
    ))))  # fmt: skip


@pytest.mark.parametrize("mode", [m for m in slow_twin.MODES if m in slow_twin.MAGNITUDES or m in ("nf4", "cb4")])
def test_ties_and_neighbours_of_ties(mode):
    table = slow_twin.MAGNITUDES.get(mode) or {"nf4": slow_twin.NF4, "cb4": slow_twin.CB4}[mode]
    exact = np.array(table, np.float64)
    middles = ((exact[:-1] + exact[1:]) / 2).astype(np.float32)
    points = np.concatenate([middles, np.nextafter(middles, F32_INF), np.nextafter(middles, -F32_INF), exact])
    weight = np.concatenate([points, -points]).astype(np.float32)[None]  # holds its own peak: the scale is ±1
    assert_same_as_twin(weight, mode, (1,))


F32_INF = np.float32(np.inf)


@given(
    weight=hnp.arrays(
        np.float32,
        hnp.array_shapes(min_dims=1, max_dims=4, max_side=6),
        elements=st.floats(-(2.0**126), 2.0**126, width=32) | st.sampled_from([0.0, -0.0, 0.5, -0.5, 1.0, -1.0]),
    ),
    mode=st.sampled_from(slow_twin.MODES),
    data=st.data(),
)
@settings(max_examples=400, deadline=None, derandomize=True)
def test_same_as_slow_twin_for_anything(weight, mode, data):
    axes = data.draw(st.sets(st.integers(0, weight.ndim - 1), min_size=1))
    group_size = -1
    if len(axes) == 1:
        channels = weight.shape[min(axes)]
        group_size = data.draw(st.sampled_from([-1, *(d for d in range(1, channels + 1) if channels % d == 0)]))
    assert_same_as_twin(weight, mode, sorted(axes), group_size)


@pytest.mark.parametrize("dtype", ["float8_e4m3fn", "float8_e5m2", ">f4", ">f2"])
def test_other_types(dtype):
    weight = normal((4, 32), "float32").astype(np.dtype(dtype))
    assert_same_as_twin(weight, "int4_asym", (1,), 8)


@pytest.mark.parametrize("entries", [2, 16, 17, 256, 257])
def test_codebook_sizes(entries):
    codebook = np.sort(np.random.default_rng(1).standard_normal(entries)).astype(np.float32)
    tensor = assert_same_as_twin(normal((3, 20)), "codebook", (1,), codebook=codebook)
    assert tensor.format.bits == (4 if entries <= 16 else 8 if entries <= 256 else 16)
    np.testing.assert_array_equal(tensor.codebook, codebook)


@pytest.mark.parametrize("bad", [None, [1.0], [[0.0, 1.0]], [0.0, 0.0], [1.0, 0.0], [0.0, np.inf], [0.0, np.nan],
                                 np.arange(65537.0)])  # fmt: skip
def test_bad_codebooks(bad):
    with pytest.raises(ValidationError, match="'w', scheme codebook"):
        compress(normal((2, 4)), SCHEMES["codebook"], reduction_axes=1, codebook=bad, name="w")


@pytest.mark.parametrize("mode", ["int8_sym", "cb4"])
def test_unwanted_codebook(mode):
    with pytest.raises(ValidationError, match="leave"):
        compress(normal((2, 4)), SCHEMES[mode], reduction_axes=1, codebook=CODEBOOK)


@pytest.mark.parametrize("mode", ["int8_sym", "int4_asym", "int3_sym", "fp8_e4m3", "nvfp4", "codebook"])
def test_every_way_through_the_kernel(mode, monkeypatch):
    """Pieces and blocks of a few elements make small tensors take the ways of large ones."""
    from nncf_core.numerics import blocks, kernels, pieces

    monkeypatch.setattr(kernels, "_PIECE", 64)
    monkeypatch.setattr(kernels, "_LARGEST_UNIT", 96)
    monkeypatch.setattr(kernels, "BLOCK", 24)
    monkeypatch.setattr(blocks, "BLOCK", 24)
    monkeypatch.setattr(pieces, "_SUM_ROWS", 3)
    for shape, axes, group_size in [
        ((3, 200), (1,), -1),
        ((3, 201), (1,), -1),
        ((40, 9), (0,), 4),
        ((40, 90), (0,), 20),
        ((33, 7), (0,), -1),
        ((2, 16, 5), (1,), 4),
        ((2, 75, 5), (1,), -1),
        ((4, 5, 6), (0, 2), -1),
        ((9, 7), (1,), 7),
        ((9, 77), (1,), 11),
        ((1, 1000), (1,), 10),
    ]:
        weight = normal(shape)
        assert_same_as_twin(weight, mode, axes, group_size)
        weight.ravel()[-1] = 1e6 if mode.startswith("int") else -1e-9  # the last piece: not for float16
        assert_same_as_twin(weight, mode, axes, group_size)
        error = kernels.quantization_error(weight, axes)
        assert error == pytest.approx(slow_twin.quantization_error(weight, axes), rel=1e-5)


def test_large_unit_agrees_with_its_transpose():
    """4 M elements share nothing but their columns; the two orientations go different ways."""
    weight = normal((2**12, 2**10))
    for mode, group_size in itertools.product(["int8_asym", "int4_sym"], [-1, 128]):
        down = compress(weight, SCHEMES[mode], reduction_axes=0, group_size=group_size)
        across = compress(weight.T, SCHEMES[mode], reduction_axes=1, group_size=group_size)
        np.testing.assert_array_equal(down.scale, across.scale.T)
        np.testing.assert_array_equal(decompress(down), decompress(across).T)


def test_any_memory_layout(tmp_path):
    weight = normal((32, 24))
    expected = compress(weight, SCHEMES["int4_asym"], reduction_axes=1, group_size=8)
    np.save(tmp_path / "w.npy", weight)
    read_only = weight.copy()
    read_only.flags.writeable = False
    padded = np.zeros((32, 48), np.float32)
    padded[:, ::2] = weight
    unaligned = np.frombuffer(b"x" + weight.tobytes(), np.uint8)[1:].view(np.float32).reshape(32, 24)
    mapped = np.load(tmp_path / "w.npy", mmap_mode="r")
    for other in (read_only, padded[:, ::2], np.asfortranarray(weight), unaligned, mapped):
        tensor = compress(other, SCHEMES["int4_asym"], reduction_axes=1, group_size=8)
        np.testing.assert_array_equal(tensor.codes, expected.codes)
        np.testing.assert_array_equal(tensor.scale, expected.scale)


@pytest.mark.parametrize("dtype", [*DTYPES, "float8_e4m3fn"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("mode", ["int8_asym", "nf4", "mxfp8_e4m3", "nvfp4"])
def test_values_that_are_not_finite(dtype, bad, mode):
    if dtype == "float8_e4m3fn":
        bad = np.nan  # it has no infinity
    for axes in ((0,), (1,), (0, 1)):
        weight = normal((6, 8))
        weight[4, 3] = weight[5, 0] = bad
        with pytest.raises(ValidationError, match=r"Tensor 'layer\.weight' has the value .*(nan|inf) at \[4, 3\]"):
            compress(weight.astype(np.dtype(dtype)), SCHEMES[mode], reduction_axes=axes, name="layer.weight")


def test_values_that_are_too_large():
    for weight in (np.array([[1.0, 3e38]], np.float32), np.array([[1.0, -1e300]])):
        with pytest.raises(ValidationError, match=r"at \[0, 1\]; finite values up to 2\^126"):
            compress(weight, SCHEMES["int8_asym"], reduction_axes=1)


def test_codebook_of_tiny_values():
    with pytest.raises(ValidationError, match="'w' holds values that are too large for those of the codebook"):
        compress(np.full((2, 2), 1e30), SCHEMES["codebook"], reduction_axes=1, codebook=[-1e-30, 1e-30], name="w")


def test_half_extremes_are_finite():
    weight = np.array([[65504.0, -65504.0, 6e-8, 0.0]], np.float16)
    assert_same_as_twin(weight, "int8_asym", (1,))
    assert np.all(np.isfinite(decompress(compress(weight, SCHEMES["int8_asym"], reduction_axes=1))))


def test_every_half_becomes_the_right_float32():
    every = np.arange(2**16, dtype=np.uint16).view(np.float16)
    every = every[np.isfinite(every)].reshape(-1, 1)  # each alone: its scale is itself
    scale = compress(every, SCHEMES["cb4"], reduction_axes=1).scale
    expected = np.where(np.abs(every.astype(np.float32)) / 3.5 < 2.0**-23, 2.0**-23, every.astype(np.float32) / -3.5)
    np.testing.assert_array_equal(np.abs(scale), np.abs(expected.astype(np.float32)))


@pytest.mark.parametrize("shape", [(0,), (3, 0), ()])
def test_tensors_without_elements(shape):
    with pytest.raises(ValidationError, match="Tensor 'empty'"):
        compress(np.zeros(shape, np.float32), SCHEMES["int8_asym"], reduction_axes=[], name="empty")


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"reduction_axes": ()}, ValidationError, "reduction_axes is empty"),
        ({"reduction_axes": 2}, ValidationError, "no axis 2"),
        ({"reduction_axes": 1, "group_axis": -3}, ValidationError, "no axis -3"),
        ({"reduction_axes": (0, 1), "group_size": 4}, ValidationError, "one reduction axis"),
        ({"reduction_axes": 0, "group_axis": 1, "group_size": 4}, ValidationError, "one reduction axis"),
        ({"reduction_axes": 1, "group_size": 5}, InvalidGroupSizeError, r"'w'.*12 channels.*2, 3, 4, 6, 12; -1"),
        ({"reduction_axes": 1, "group_size": 0}, InvalidGroupSizeError, "groups of 0"),
        ({"reduction_axes": 1, "group_size": 24}, InvalidGroupSizeError, "12 channels"),
    ],
)
def test_wrong_axes_and_groups(arguments, error, message):
    with pytest.raises(error, match=message):
        compress(normal((2, 12)), SCHEMES["int4_sym"], name="w", **arguments)


@pytest.mark.parametrize("dtype", [np.int32, bool, np.complex64, ml_dtypes.int4])
def test_types_that_are_not_floating_point(dtype):
    with pytest.raises(ValidationError, match="'w' is of type"):
        compress(np.zeros((2, 2), dtype), SCHEMES["int8_sym"], reduction_axes=1, name="w")


@pytest.mark.parametrize("scheme", ["int8_sym", "int4_sym", "int2_sym", "nf4", "cb4"])
@pytest.mark.parametrize("value", [0.75, -0.75])
def test_a_constant_group_is_exact(scheme: str, value: float) -> None:
    # the reference takes |min| for -min: a group of one positive value is then clipped, by an eighth in 4 bits
    w = np.full((2, 32), value, np.float32)
    # up to the rounding of the scale
    np.testing.assert_allclose(decompress(compress(w, SCHEMES[scheme], reduction_axes=1)), w, rtol=2**-11)
