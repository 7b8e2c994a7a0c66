"""Codes of fewer than eight bits, packed densely with the first code in the lowest bits.

A machine word takes the place of a loop: several codes, one a byte, are seen as one little-endian integer
whose fields are pulled together in log2 steps of shift, or, and mask.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from nncf_core.errors import ValidationError
from nncf_core.numerics.blocks import SCRATCH


class _Step(NamedTuple):
    """Fields of ``shift`` fewer bits in between, ``mask`` keeps the codes where they are then."""

    shift: int
    mask: int


class _Word(NamedTuple):
    """How ``codes`` codes, one in each byte of ``wide``, become the lowest ``packed_bytes`` bytes."""

    wide: np.dtype
    codes: int
    packed_bytes: int
    mask: int
    steps: tuple[_Step, ...]


_WORDS = {
    4: _Word(np.dtype("<u2"), 2, 1, 0x0F0F, (_Step(4, 0xFF),)),
    2: _Word(np.dtype("<u4"), 4, 1, 0x03030303, (_Step(6, 0x000F000F), _Step(12, 0xFF))),
    3: _Word(
        np.dtype("<u8"),
        8,
        3,
        0x0707070707070707,
        (_Step(5, 0x003F003F003F003F), _Step(10, 0x00000FFF00000FFF), _Step(20, 0xFFFFFF)),
    ),
}

CODES_PER_WORD = 8
"""Wherever a multiple of this many codes ends, a byte ends too, whatever their bits."""

_BLOCK = 1 << 20  # codes that are packed at a time, so that words stay in cache


def packed_size(count: int, bits: int) -> int:
    """Bytes that ``count`` codes take."""
    return -(-count * bits // 8)


def pack(codes: np.ndarray, bits: int, out: np.ndarray | None = None) -> np.ndarray:
    """Pack codes densely, the first one in the lowest bits; 3-bit codes cross bytes.

    :param codes: ``uint8`` or ``int8`` (two's complement) of any shape, taken in C order; ``uint16`` for 16
        bits. Only the lowest ``bits`` bits of each count.
    :param bits: 2, 3, 4, 8 or 16.
    :param out: where to put the result.
    :return: ``uint8``, one dimension, of :func:`packed_size`; an odd tail is filled with zeros.
        16-bit codes are little-endian.
    :raises ValidationError: for other bits.
    """
    flat = np.ascontiguousarray(codes).reshape(-1)
    packed = np.empty(packed_size(flat.size, bits), np.uint8) if out is None else out
    if bits in (8, 16):
        packed[:] = flat.astype(f"<u{bits // 8}", copy=False).view(np.uint8)
        return packed
    word = _word(bits)
    flat = flat.view(np.uint8)
    for start in range(0, flat.size, _BLOCK):
        block = flat[start : start + _BLOCK]
        offset = start * bits // 8
        if tail := -block.size % word.codes:
            block = np.concatenate([block, np.zeros(tail, np.uint8)])
        wide = block.view(word.wide)
        words = SCRATCH.array("words", block.shape, np.uint8).view(word.wide)
        shifted = SCRATCH.array("shifted", block.shape, np.uint8).view(word.wide)
        np.bitwise_and(wide, word.wide.type(word.mask), out=words)
        for shift, mask in word.steps:
            words |= np.right_shift(words, word.wide.type(shift), out=shifted)
            if mask != 0xFF:  # whoever takes the lowest byte masks, too
                words &= word.wide.type(mask)
        size = min(words.size * word.packed_bytes, packed.size - offset)
        if word.packed_bytes == 1:
            np.copyto(packed[offset : offset + size], words[:size], casting="unsafe")
            continue
        lowest = words.view(np.uint8).reshape(-1, word.codes)[:, : word.packed_bytes].reshape(-1)
        packed[offset : offset + size] = lowest[:size]
    return packed


def unpack(packed: np.ndarray, bits: int, count: int, signed: bool, start: int = 0) -> np.ndarray:
    """The codes that :func:`pack` packed.

    :param packed: ``uint8``, one dimension.
    :param bits: 2, 3, 4, 8 or 16.
    :param count: number of codes.
    :param signed: whether codes are in two's complement.
    :param start: index of the first code.
    :return: ``int8`` or ``uint8``, of 16 bits ``int16`` or ``uint16``, one dimension. For codes of whole
        bytes a view.
    :raises ValidationError: for other bits, or when there are fewer codes.
    """
    if packed_size(start + count, bits) > packed.size:
        raise ValidationError(
            f"{packed.size} bytes do not hold {start + count} codes of {bits} bits; "
            f"{packed_size(start + count, bits)} are needed."
        )
    if bits in (8, 16):
        dtype = np.dtype(f"<{'i' if signed else 'u'}{bits // 8}")
        return packed[start * bits // 8 : (start + count) * bits // 8].view(dtype)
    word = _word(bits)
    skip = start % CODES_PER_WORD
    count += skip
    lowest = packed[(start - skip) * bits // 8 :][: packed_size(count, bits)]
    if word.packed_bytes == 1:
        words = lowest.astype(word.wide)
    else:
        full = np.zeros((-(-count // word.codes), word.codes), np.uint8)
        whole = lowest.size // word.packed_bytes
        full[:whole, : word.packed_bytes] = lowest[: whole * word.packed_bytes].reshape(whole, word.packed_bytes)
        rest = lowest[whole * word.packed_bytes :]
        full[whole:, : rest.size] = rest
        words = full.reshape(-1).view(word.wide)
    masks = (word.mask, *(step.mask for step in word.steps))
    for step, mask in zip(reversed(word.steps), reversed(masks[:-1]), strict=True):
        words |= words << word.wide.type(step.shift)
        words &= word.wide.type(mask)
    codes = words.view(np.uint8)[skip:count]
    if not signed:
        return codes
    sign = np.uint8(1 << (bits - 1))
    codes ^= sign
    codes -= sign
    return codes.view(np.int8)


def _word(bits: int) -> _Word:
    if bits not in _WORDS:
        raise ValidationError(f"Codes of {bits} bits cannot be packed; 2, 3, 4, 8 and 16 can.")
    return _WORDS[bits]
