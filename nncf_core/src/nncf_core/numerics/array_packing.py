"""Codes packed as :mod:`nncf_core.numerics.packing` does, on arrays of any library."""

from __future__ import annotations

from nncf_core.numerics.arrays import Array, space_of
from nncf_core.numerics.packing import CODES_PER_WORD, packed_size

_WORDS = {2: (4, 1), 3: (8, 3), 4: (2, 1), 8: (1, 1), 16: (1, 2)}
"""How many codes make how many bytes, by the bits of a code."""


def pack(codes: Array, bits: int) -> Array:
    """Pack codes densely, the first one in the lowest bits.

    :param codes: int32, one dimension; only the lowest ``bits`` bits of each count.
    :param bits: 2, 3, 4, 8 or 16.
    :return: ``uint8``, one dimension; an odd tail is filled with zeros.
    """
    xp = space_of(codes).xp
    count, size = _WORDS[bits]
    total = codes.shape[0]
    codes = _filled(codes & (2**bits - 1), count)
    word = codes[::count]
    for index in range(1, count):
        word = word | (codes[index::count] << bits * index)
    parts = [xp.astype((word >> 8 * index) & 0xFF, xp.uint8) for index in range(size)]
    packed = parts[0] if size == 1 else xp.reshape(xp.stack(parts, axis=-1), (-1,))
    return packed[: packed_size(total, bits)]


def unpack(packed: Array, bits: int, count: int, signed: bool, start: int = 0) -> Array:
    """The codes that :func:`pack` packed.

    :param packed: ``uint8``, one dimension.
    :param bits: 2, 3, 4, 8 or 16.
    :param count: number of codes.
    :param signed: whether codes are in two's complement.
    :param start: index of the first code.
    :return: int32, one dimension.
    """
    xp = space_of(packed).xp
    per_word, size = _WORDS[bits]
    skip = start % CODES_PER_WORD
    count += skip
    taken = packed[(start - skip) * bits // 8 :][: packed_size(count, bits)]
    taken = _filled(xp.astype(taken, xp.int32), size)
    word = taken[::size]
    for index in range(1, size):
        word = word | (taken[index::size] << 8 * index)
    parts = [(word >> bits * index) & (2**bits - 1) for index in range(per_word)]
    codes = parts[0] if per_word == 1 else xp.reshape(xp.stack(parts, axis=-1), (-1,))
    codes = codes[skip:count]
    sign = 2 ** (bits - 1)
    return (codes ^ sign) - sign if signed else codes


def _filled(codes: Array, multiple: int) -> Array:
    """With zeros at the end, so that there is a multiple of so many."""
    missing = -codes.shape[0] % multiple
    if not missing:
        return codes
    space = space_of(codes)
    return space.xp.concat([codes, space.xp.zeros((missing,), dtype=codes.dtype, device=space.device)])
