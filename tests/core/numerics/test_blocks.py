"""Functions of blocks and one number a row: the same bits, and numpy's settings as before, however long rows are."""

import numpy as np
import pytest

from nncf_core.numerics.blocks import by_row
from nncf_core.numerics.formats import SCHEMES
from nncf_core.numerics.kernels import compress
from tests.core.numerics import slow_twin

SHAPES = [(5, 64, 1), (3, 511, 1), (3, 512, 1), (2, 1537, 1), (2, 7, 3), (2, 3, 700), (1, 600, 600)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("function", [np.divide, np.add, np.subtract, np.multiply])
def test_one_number_a_row(function: np.ufunc, shape: tuple[int, int, int]) -> None:
    rng = np.random.default_rng(3)
    units, length, inner = shape
    block = rng.standard_normal(shape, np.float32)
    numbers = rng.standard_normal((units, inner), np.float32)
    written_out = np.repeat(numbers[:, None, :], length, axis=1)
    expected = function(block.reshape(-1), written_out.reshape(-1)).reshape(shape)
    out = np.empty(shape, np.float32)
    by_row(function, block, numbers, out)
    np.testing.assert_array_equal(out, expected)
    by_row(function, block, numbers, block)
    np.testing.assert_array_equal(block, expected)


def test_the_buffer_is_as_before_also_after_an_error() -> None:
    before = np.getbufsize()
    block, numbers = np.ones((2, 600, 1), np.float32), np.zeros((2, 1), np.float32)
    by_row(np.add, block, numbers, block)
    assert np.getbufsize() == before
    with pytest.raises(FloatingPointError), np.errstate(divide="raise"):
        by_row(np.divide, block, numbers, block)
    assert np.getbufsize() == before


@pytest.mark.parametrize("name", ["int8_asym", "int8_sym", "int4_sym", "nf4"])
def test_long_rows_are_read_in_place_and_stay_as_they_are(name: str) -> None:
    weight = np.random.default_rng(4).standard_normal((6, 1040), np.float32)
    kept = weight.copy()
    in_place = compress(weight, SCHEMES[name], reduction_axes=1)
    np.testing.assert_array_equal(weight, kept)
    slow = slow_twin.compress(kept[:2], name, (1,))
    np.testing.assert_array_equal(
        in_place.scale[:2].astype(np.float32).reshape(-1), slow.scale.astype(np.float32).reshape(-1)
    )
    np.testing.assert_array_equal(
        in_place.codes[: slow.codes.size * in_place.format.bits // 8], slow_twin.pack(slow.codes, in_place.format.bits)
    )
    # columns of a wider array are no rows in a row, and so are copied
    wide = np.zeros((6, 1041), np.float32)
    wide[:, :1040] = weight
    copied = compress(wide[:, :1040], SCHEMES[name], reduction_axes=1)
    np.testing.assert_array_equal(in_place.codes, copied.codes)
    np.testing.assert_array_equal(in_place.scale, copied.scale)
