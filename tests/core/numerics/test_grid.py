"""Nearest codes against the casts of ml_dtypes and a plain search, over float32 numbers of every size."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from nncf_core.numerics.formats import FORMATS, SCHEMES
from nncf_core.numerics.grid import decode, encode, grid_for


def numbers_of_every_size():
    bits = np.arange(0, 2**32, 16411, dtype=np.uint64).astype(np.uint32)
    edges = np.arange(0x3A00_0000, 0x4400_0000, 0x8000, dtype=np.uint32)  # all ties of both formats
    patterns = np.concatenate([bits, edges, edges + 1, edges - 1, edges | 0x8000_0000])
    numbers = patterns.view(np.float32)
    return numbers[np.isfinite(numbers)].reshape(1, -1, 1)


def codes_of(mode, numbers):
    codes = np.empty(numbers.shape, np.uint8)
    encode(grid_for(SCHEMES[mode]), numbers, np.ones((1, 1), np.float32), None, codes)
    return codes


@pytest.mark.parametrize(("mode", "dtype"), [("fp4", ml_dtypes.float4_e2m1fn), ("fp8_e4m3", ml_dtypes.float8_e4m3fn)])
def test_tiny_floats_are_those_of_ml_dtypes(mode, dtype):
    numbers = numbers_of_every_size()
    largest = np.float32(SCHEMES[mode].format.max_value)
    cast = np.clip(numbers, -largest, largest).astype(dtype)
    codes = codes_of(mode, numbers)
    np.testing.assert_array_equal(codes, cast.view(np.uint8))
    values = np.empty(codes.shape, np.float32)
    decode(SCHEMES[mode].format, codes, None, values)
    np.testing.assert_array_equal(values, cast.astype(np.float32))


@pytest.mark.parametrize("mode", ["nf4", "cb4"])
def test_tables_are_searched_exactly(mode):
    numbers = np.clip(numbers_of_every_size(), np.float32(-1e3), np.float32(1e3))
    table = np.array(FORMATS["nf4"].values if mode == "nf4" else SCHEMES[mode].codebook, np.float32)
    middles = (table[:-1].astype(np.float64) + table[1:]) / 2
    np.testing.assert_array_equal(codes_of(mode, numbers), np.searchsorted(middles, numbers.astype(np.float64)))
