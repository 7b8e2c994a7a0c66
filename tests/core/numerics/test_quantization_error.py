"""``quantization_error`` against its slow twin."""

from __future__ import annotations

import numpy as np
import pytest
import slow_twin

from nncf_core.errors import ValidationError
from nncf_core.numerics.kernels import quantization_error, quantization_noise


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize(
    ("shape", "axes"),
    [
        ((6, 50), (1,)),
        ((50, 6), (0,)),
        ((2, 20, 3), (1,)),
        ((4, 3, 2, 2), (1, 2, 3)),
        ((3, 4, 5), (0, 2)),
        ((9,), (0,)),
    ],
)
def test_same_as_slow_twin(dtype, shape, axes):
    weight = np.random.default_rng(5).standard_normal(shape).astype(np.dtype(dtype))
    assert quantization_error(weight, axes) == pytest.approx(slow_twin.quantization_error(weight, axes), rel=1e-5)


@pytest.mark.parametrize(("shape", "axes"), [((6, 50), (1,)), ((2, 20, 3), (1,)), ((3, 4, 5), (0, 2))])
def test_the_norm_of_all_errors(shape, axes):
    weight = np.random.default_rng(5).standard_normal(shape).astype(np.float32)
    lo, hi = weight.min(axis=axes, keepdims=True).clip(max=0), weight.max(axis=axes, keepdims=True).clip(min=0)
    scale = (hi - lo) / 255
    zero = np.rint(-lo / scale)
    error = (np.rint(weight / scale + zero).clip(0, 255) - zero) * scale - weight
    wanted = np.linalg.norm(error.astype(np.float64))
    assert quantization_noise(weight, axes) == pytest.approx(wanted, rel=1e-4)
    strict = pytest.importorskip("array_api_strict")
    assert quantization_noise(strict.asarray(weight), axes) == pytest.approx(wanted, rel=1e-4)


def test_huge_errors_are_infinite():
    assert quantization_error(np.array([0.0, 1e30, 1.7e36], np.float32), 0) == np.inf


def test_zeros_and_constants_lose_nothing():
    assert quantization_error(np.zeros((3, 4), np.float32), 1) == 0.0
    assert quantization_error(np.full((3, 4), 255.0, np.float32), 1) == 0.0


@pytest.mark.parametrize("magnitude", [1e-15, 1e-6, 1e12])
def test_magnitudes(magnitude):
    weight = (np.random.default_rng(5).standard_normal((4, 30)) * magnitude).astype(np.float32)
    assert quantization_error(weight, 1) == pytest.approx(slow_twin.quantization_error(weight, (1,)), rel=1e-4)


def test_many_rows_are_added_exactly():
    weight = np.random.default_rng(5).standard_normal((70_000, 3), dtype=np.float32)
    assert quantization_error(weight, 0) == pytest.approx(quantization_error(weight.T, 1), rel=1e-6)


def test_errors_name_the_tensor():
    with pytest.raises(ValidationError, match=r"'w'.*nan at \[1\]"):
        quantization_error(np.array([0.0, np.nan], np.float32), 0, name="w")
    with pytest.raises(ValidationError, match="'w' is of type int64"):
        quantization_error(np.array([1]), 0, name="w")
