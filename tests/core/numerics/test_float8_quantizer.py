"""Quantizers to 8-bit floats against a slow twin, which tries every number of the format."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nncf_core.errors import ValidationError
from nncf_core.numerics.quantizer import Quantizer, asymmetric, floating

DTYPES = {"f8e4m3": ml_dtypes.float8_e4m3fn, "f8e5m2": ml_dtypes.float8_e5m2}
MANTISSA = {"f8e4m3": 3, "f8e5m2": 2}
LARGEST = {"f8e4m3": 448.0, "f8e5m2": 57344.0}


def numbers(kind: str) -> list[float]:
    """All finite numbers that are not below zero, from sign, exponent and mantissa; neighbours alternate in parity."""
    bits, bias = MANTISSA[kind], {"f8e4m3": 7, "f8e5m2": 15}[kind]
    found = []
    for code in range(128):
        exponent, mantissa = code >> bits, code & (2**bits - 1)
        value = (
            (1 + mantissa / 2**bits) * 2.0 ** (exponent - bias) if exponent else mantissa / 2**bits * 2.0 ** (1 - bias)
        )
        if value <= LARGEST[kind]:
            found.append(value)
    return found


def slow_twin(x: float, kind: str) -> float:
    """The nearest number; of two, the one with the even mantissa; at most the largest."""
    values = numbers(kind)
    code = min(range(len(values)), key=lambda code: (abs(values[code] - abs(x)), code % 2))
    return float(np.copysign(values[code], x))


@given(
    kind=st.sampled_from(sorted(DTYPES)),
    x=st.lists(
        st.floats(-1e6, 1e6, width=32) | st.floats(-1, 1, width=32) | st.integers(-64, 64).map(lambda n: n * 2.0**-18),
        min_size=1,
        max_size=8,
    ),
)
def test_values_are_the_nearest_numbers(kind: str, x: list[float]) -> None:
    top = int(LARGEST[kind])
    array = np.array(x, np.float32)
    quantizer = Quantizer(1.0, 0, -top, top, float8=kind)
    wanted = [slow_twin(float(value), kind) for value in array]
    np.testing.assert_array_equal(quantizer.apply(array), np.array(wanted, np.float32))
    np.testing.assert_array_equal(quantizer.encode(array), np.clip(array, -top, top).astype(DTYPES[kind]))


@pytest.mark.parametrize("kind", sorted(DTYPES))
def test_a_range_is_brought_to_the_largest_number(kind: str) -> None:
    low, high = np.array([-3.0, -0.5], np.float32), np.array([1.0, 2.0], np.float32)
    weights = floating(low, high, kind, axis=0, headroom=1)
    np.testing.assert_allclose(weights.scale, np.array([3.0, 2.0]) / LARGEST[kind], rtol=1e-6)
    np.testing.assert_allclose(weights.high, [3.0, 2.0], rtol=1e-6)
    activations = floating(low[0], high[0], kind)
    assert activations.high == pytest.approx(6.0, rel=1e-6)
    assert (activations.format, activations.bits) == (kind, 8)
    # what lies beyond is cut off, and nothing becomes infinite
    assert activations.apply(np.array([1e30, -1e30], np.float32)).tolist() == pytest.approx([6.0, -6.0], rel=1e-6)
    assert floating(np.float32(0), np.float32(0), kind).apply(np.zeros(2, np.float32)).tolist() == [0, 0]


def test_errors() -> None:
    with pytest.raises(ValidationError, match="8-bit floats are f8e4m3, f8e5m2"):
        Quantizer(1.0, 0, -448, 448, float8="f8e3m4")
    with pytest.raises(ValidationError, match="no zero points"):
        Quantizer(1.0, 3, -448, 448, float8="f8e4m3")


def test_signed_integers_stand_for_the_same_numbers() -> None:
    x = np.linspace(-3, 5, 101, dtype=np.float32)
    quantizer = asymmetric(np.float32(-1), np.float32(4))
    moved = quantizer.signed()
    assert (moved.lo, moved.hi, moved.format) == (-128, 127, "int8")
    np.testing.assert_array_equal(moved.apply(x), quantizer.apply(x))
    np.testing.assert_array_equal(moved.encode(x), quantizer.encode(x) - 128)
