"""Packed codes against one large number, and back."""

from __future__ import annotations

import numpy as np
import pytest
import slow_twin
from hypothesis import given, settings
from hypothesis import strategies as st

from nncf_core.errors import ValidationError
from nncf_core.numerics.packing import pack, packed_size, unpack

DTYPES = {False: np.uint8, True: np.int8}


def random_codes(bits, count, signed, seed=0):
    lo, hi = (-(2 ** (bits - 1)), 2 ** (bits - 1)) if signed else (0, 2**bits)
    dtype = DTYPES[signed] if bits <= 8 else np.dtype(f"{'i' if signed else 'u'}2")
    return np.random.default_rng(seed).integers(lo, hi, count).astype(dtype)


@given(
    bits=st.sampled_from([2, 3, 4, 8, 16]),
    count=st.integers(0, 70),
    signed=st.booleans(),
    seed=st.integers(0, 99),
    data=st.data(),
)
@settings(max_examples=300, deadline=None, derandomize=True)
def test_round_trip(bits, count, signed, seed, data):
    codes = random_codes(bits, count, signed, seed)
    packed = pack(codes, bits)
    np.testing.assert_array_equal(packed, slow_twin.pack(codes, bits))
    assert packed.size == packed_size(count, bits)
    assert packed.dtype == np.uint8
    back = unpack(packed, bits, count, signed)
    assert back.dtype == codes.dtype
    np.testing.assert_array_equal(back, codes)
    start = data.draw(st.integers(0, count))
    stop = data.draw(st.integers(start, count))
    np.testing.assert_array_equal(unpack(packed, bits, stop - start, signed, start), codes[start:stop])


def test_order_of_bits():
    assert pack(np.array([1, 2, 3], np.uint8), 4).tolist() == [0x21, 0x03]
    assert pack(np.array([-1, 0, -8, 7], np.int8), 4).tolist() == [0x0F, 0x78]
    assert pack(np.array([1, 2, 3, 0, 1], np.uint8), 2).tolist() == [0b00111001, 1]
    assert pack(np.array([1, 2, 7], np.uint8), 3).tolist() == [0b11010001, 0b1]
    assert pack(np.array([0x0102], np.uint16), 16).tolist() == [2, 1]


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_more_than_a_block(bits):
    codes = random_codes(bits, (1 << 17) + 5, True)
    out = np.empty(packed_size(codes.size, bits), np.uint8)
    assert pack(codes, bits, out=out) is out
    np.testing.assert_array_equal(unpack(out, bits, codes.size, True), codes)
    np.testing.assert_array_equal(pack(codes[::2], bits), pack(codes[::2].copy(), bits))


def test_errors():
    with pytest.raises(ValidationError, match="5 bits"):
        pack(np.zeros(3, np.uint8), 5)
    with pytest.raises(ValidationError, match="5 bits"):
        unpack(np.zeros(3, np.uint8), 5, 1, False)
    with pytest.raises(ValidationError, match="4 are needed"):
        unpack(np.zeros(3, np.uint8), 4, 7, False)
