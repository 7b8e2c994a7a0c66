"""Compressed tensors as matrices, there and back."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from nncf_core.errors import ValidationError
from nncf_core.graph import WeightLayout
from nncf_core.numerics.formats import SCHEMES
from nncf_core.numerics.kernels import compress, decompress
from nncf_weight_refinement.grouped import Axes, compressed, grouped
from nncf_weight_refinement.lattice import Lattice, levels_of
from tests.algorithms.weight_refinement.weights import CODEBOOK, MODES, start, weight

LAYOUTS = [  # shape, layout, group size
    ((24, 64), WeightLayout((1,), (0,)), 32),
    ((64, 24), WeightLayout((0,), (1,)), 32),
    ((3, 8, 64), WeightLayout((2,), (1,), (0,)), 32),
    ((3, 64, 8), WeightLayout((1,), (2,), (0,)), 32),
    ((8, 3, 64), WeightLayout((2,), (0,), (1,)), 32),
    ((6, 4, 3, 3), WeightLayout((1, 2, 3), (0,)), -1),
    ((4, 6, 3, 3), WeightLayout((0, 2, 3), (1,)), -1),
    ((64,), WeightLayout((0,), ()), 32),
]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("shape", "layout", "group_size"), LAYOUTS)
def test_there_and_back(mode, shape, layout, group_size):
    scheme = SCHEMES[mode]
    if scheme.fixed_group_size is not None:
        if group_size == -1:
            pytest.skip("the format has groups")
        group_size = scheme.fixed_group_size
    values = (np.random.default_rng(0).standard_t(4, shape) * 0.05).astype(np.float32)
    tensor = compress(
        values,
        scheme,
        reduction_axes=layout.reduction_axes,
        group_size=group_size,
        codebook=CODEBOOK if mode == "codebook" else None,
    )
    axes = Axes.of(shape, layout)
    matrices = grouped(tensor, axes)
    np.testing.assert_allclose(axes.restore(matrices.values()), decompress(tensor), rtol=2e-7)
    np.testing.assert_array_equal(axes.restore(axes.matrices(values)), values)
    back = compressed(matrices, tensor, axes)
    np.testing.assert_array_equal(back.codes, tensor.codes)
    assert back.scale.dtype == tensor.scale.dtype
    np.testing.assert_array_equal(back.scale.view(np.uint8), tensor.scale.view(np.uint8))
    if tensor.zero_point is None:
        assert back.zero_point is None
    else:
        np.testing.assert_array_equal(back.zero_point, tensor.zero_point)


@pytest.mark.parametrize("mode", MODES)
def test_rounding_again_changes_nothing(mode):
    values = weight()
    _, _, matrices = start(values, mode)
    np.testing.assert_array_equal(matrices.rounded(values[None]).levels, matrices.levels)


@pytest.mark.parametrize("mode", MODES)
def test_nearest_level(mode):
    _, _, matrices = start(weight(), mode)
    lattice = matrices.lattice
    levels = levels_of(lattice.grid).astype(np.float64)
    x = np.random.default_rng(0).uniform(1.2 * levels[0], 1.2 * levels[-1], 500).astype(np.float32)
    found = lattice.nearest(x.copy())
    distance = np.abs(levels[:, None] - x)
    np.testing.assert_allclose(np.abs(found - x), distance.min(axis=0), rtol=1e-6)
    assert np.isin(found, levels).all()
    np.testing.assert_array_equal(lattice.decoded(lattice.codes(found)), found)


@pytest.mark.parametrize("mode", ["int4_asym", "nf4", "mxfp4", "nvfp4"])
def test_scales_are_storable(mode):
    tensor, _, matrices = start(weight(), mode)
    lattice = matrices.lattice
    scale = lattice.storable(matrices.scale * np.float32(0.77))
    stored = lattice.stored(scale)
    assert stored.dtype == tensor.scale.dtype
    np.testing.assert_array_equal(stored.astype(np.float32) * lattice.global_scale, scale)
    np.testing.assert_array_equal(lattice.storable(scale), scale)
    if mode == "mxfp4":
        assert stored.dtype == ml_dtypes.float8_e8m0fnu
    else:
        np.testing.assert_allclose(scale, matrices.scale * 0.77, rtol=0.07 if mode == "nvfp4" else 1e-3)


def test_scales_out_of_range_become_the_nearest_in_range():
    _, _, matrices = start(weight(), "int4_sym")
    found = matrices.lattice.storable(np.array([1e-9, -1e-9, 1e9], np.float32))
    np.testing.assert_array_equal(found, np.array([2.0**-16, -(2.0**-16), 65504], np.float32))


def test_wide_scales_stay_wide():
    tensor, _, matrices = start(weight() * np.float32(1e-4), "int4_sym")
    assert tensor.scale.dtype == np.float32
    assert Lattice.of(tensor).scale_dtype == "float32"
    np.testing.assert_array_equal(matrices.lattice.storable(matrices.scale), matrices.scale)


def test_axes_that_do_not_fit():
    tensor, _, _ = start(weight(), "int4_asym")
    with pytest.raises(ValidationError, match=r"shared along axes \[1\]"):
        grouped(tensor, Axes.of(tensor.shape, WeightLayout((0,), (1,))))
    with pytest.raises(ValidationError, match="no reduction axes"):
        Axes.of((3, 4), WeightLayout((), (0, 1)))
