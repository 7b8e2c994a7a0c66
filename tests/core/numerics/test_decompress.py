"""Decompressed tensors: error bounds, types, and the shape of everything that a compressed tensor holds."""

from __future__ import annotations

import numpy as np
import pytest

from nncf_core.errors import ValidationError
from nncf_core.numerics.formats import SCHEMES
from nncf_core.numerics.kernels import compress, decompress
from nncf_core.numerics.packing import unpack


def weights(shape, dtype="float32"):
    return (np.random.default_rng(3).standard_normal(shape) * 0.1).astype(np.dtype(dtype))


@pytest.mark.parametrize("mode", [m for m in SCHEMES if m.startswith("int")])
@pytest.mark.parametrize(("axis", "group_size"), [(1, -1), (1, 32), (0, -1), (0, 32)])
def test_error_of_integers_is_at_most_half_a_step(mode, axis, group_size):
    weight = weights((64, 96))
    tensor = compress(weight, SCHEMES[mode], reduction_axes=axis, group_size=group_size)
    step = np.abs(tensor.scale.astype(np.float32))
    step = np.repeat(step, weight.shape[axis] // step.shape[axis], axis)
    restored = decompress(tensor)
    error = np.abs(restored - weight)
    # Half a step; more where a value is clipped, as ranges have one end less (symmetric), or as both the scale
    # (to float16) and the zero point (to an integer) are rounded (asymmetric).
    steps = 2.0**tensor.format.bits
    code = unpack(tensor.codes, tensor.format.bits, tensor.size, tensor.format.signed).reshape(weight.shape)
    clipped = (code == tensor.format.lo) | (code == tensor.format.hi)
    allowed = np.where(clipped, 1.0 + steps * 2.0**-11, 0.5 + steps * 2.0**-22)
    assert np.all(error <= allowed * step)
    assert not clipped.all()


@pytest.mark.parametrize("mode", [m for m in SCHEMES if m != "codebook"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_type_is_that_of_the_weight(mode, dtype):
    weight = weights((8, 32), dtype)
    tensor = compress(weight, SCHEMES[mode], reduction_axes=1, group_size=16)
    result = decompress(tensor)
    assert result.dtype == weight.dtype
    np.testing.assert_array_equal(result, decompress(tensor, np.float32).astype(weight.dtype))
    assert np.abs(result.astype(np.float32) - weight.astype(np.float32)).max() < 0.2
    assert decompress(tensor, "bfloat16").dtype.name == "bfloat16"


def test_result_stays_finite_in_half_precision():
    weight = np.array([[0.0, 65504.0], [-65504.0, 0.0]], np.float16)
    for mode in ("int8_asym", "int8_sym", "fp8_e4m3", "mxfp4"):
        assert np.all(np.isfinite(decompress(compress(weight, SCHEMES[mode], reduction_axes=1))))


def test_type_must_be_floating_point():
    with pytest.raises(ValidationError, match="int32"):
        decompress(compress(weights((2, 2)), SCHEMES["int8_sym"], reduction_axes=1), np.int32)


def test_shapes():
    tensor = compress(weights((4, 6, 10)), SCHEMES["int4_asym"], reduction_axes=-1, group_axis=2, group_size=5)
    assert tensor.scale.shape == tensor.zero_point.shape == (4, 6, 2)
    assert (tensor.group_axis, tensor.group_size, tensor.reduction_axes) == (2, 5, (2,))
    assert tensor.codes.shape == (4 * 6 * 10 // 2,)
    tensor = compress(weights((4, 6, 10)), SCHEMES["int3_sym"], reduction_axes=(2, 0))
    assert tensor.scale.shape == (1, 6, 1)
    assert (tensor.group_axis, tensor.group_size, tensor.reduction_axes) == (None, -1, (0, 2))
    assert tensor.codes.shape == (4 * 6 * 10 * 3 // 8,)
    assert compress(weights((3, 3)), SCHEMES["int4_sym"], reduction_axes=1).codes.shape == (5,)


def test_mx_and_nvfp4_scales():
    weight = np.zeros((3, 32), np.float32)
    weight[1, :], weight[2, :] = 6.0, 6.0000005
    tensor = compress(weight, SCHEMES["mxfp4"], reduction_axes=1, group_size=32)
    assert tensor.scale.dtype.name == "float8_e8m0fnu"
    assert tensor.scale.astype(np.float32).ravel().tolist() == [2.0**-127, 1.0, 2.0]
    tensor = compress(weight, SCHEMES["nvfp4"], reduction_axes=1, group_size=16)
    assert tensor.scale.dtype.name == "float8_e4m3fn"
    assert tensor.global_scale == pytest.approx(1 / 448, rel=1e-6)
    assert decompress(tensor)[0].tolist() == [0.0] * 32


def test_reconstruction_of_exact_values():
    """Tensors that lie on the grid come back unchanged."""
    grid = np.arange(-8, 8, dtype=np.float32)[None] * 0.125
    np.testing.assert_array_equal(decompress(compress(grid, SCHEMES["int4_sym"], reduction_axes=1)), grid)
    np.testing.assert_array_equal(decompress(compress(grid, SCHEMES["int4_asym"], reduction_axes=1)), grid)
    for mode in ("cb4", "nf4"):
        table = np.array(SCHEMES[mode].codebook or SCHEMES[mode].format.values, np.float32)[None]
        np.testing.assert_array_equal(decompress(compress(table, SCHEMES[mode], reduction_axes=1)), table)
