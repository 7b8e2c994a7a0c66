"""Blocks of a tensor that stay in cache: brought to float32, and their smallest and largest values."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import ml_dtypes
import numpy as np

from nncf_core.errors import ValidationError

BLOCK = 1 << 19
"""Elements of a block: 2 MiB in float32. With smaller ones threads wait more for their turn to run Python than they
gain by the nearer caches."""

LARGEST = np.float32(2.0**126)
"""Larger magnitudes are refused: differences and rounding up would leave float32."""

_LONG = 512  # elements of a row that are worth a call of numpy's inner loop
_SMALLEST_BUFFER = 16  # that numpy takes

_QUAD = 4
_SHORT = 64  # longest rows that are turned before their extremes are looked for

_KEPT = 1 << 22  # elements; more are not kept for later

_HALF_LARGEST = np.float32(65504.0)


def largest_value(dtype: np.dtype) -> float:
    """The largest finite value of a floating-point type, also of those of ml_dtypes.

    :raises ValueError: for other types.
    """
    if dtype.kind == "c":
        raise ValueError(dtype)
    return float(ml_dtypes.finfo(dtype).max)  # type: ignore[no-untyped-call]


def check_dtype(dtype: np.dtype, name: str) -> None:
    """Refuse tensors that are not of a floating-point type.

    :raises ValidationError: naming the tensor.
    """
    try:
        largest_value(dtype)
    except ValueError:
        title = f"Tensor {name!r}" if name else "The tensor"
        raise ValidationError(f"{title} is of type {dtype}, which is not a floating-point type.") from None


def blocks_of(shape: tuple[int, int, int]) -> Iterator[tuple[slice, slice, slice]]:
    """Slices that cut ``(units, length, inner)`` into blocks; no ``[u, :, i]`` is cut."""
    units, length, inner = shape
    everything = slice(None)
    if length * inner <= BLOCK:
        step = BLOCK // (length * inner)
        for unit in range(0, units, step):
            yield slice(unit, unit + step), everything, everything
        return
    step = max(BLOCK // length, 16)  # a cache line of float32: narrower columns would read lines twice
    for unit in range(units):
        for column in range(0, inner, step):
            yield slice(unit, unit + 1), everything, slice(column, column + step)


class Scratch(threading.local):
    """Memory that is used again and again: fresh memory costs more than the arithmetic on it."""

    def __init__(self) -> None:
        self._memory: dict[str, np.ndarray] = {}

    def array(self, use: str, shape: tuple[int, ...], dtype: type[np.generic] = np.float32) -> np.ndarray:
        """An array whose content is undefined; it is valid until the next call for the same use."""
        size = math.prod(shape)
        if size > _KEPT:
            return np.empty(shape, dtype)
        memory = self._memory.get(use)
        if memory is None or memory.size < size:
            memory = self._memory[use] = np.empty(size, dtype)
        return memory[:size].reshape(shape)


SCRATCH = Scratch()
"""Each thread has one of its own, of a few MiB."""


def to_float32(block: np.ndarray, out: np.ndarray) -> None:
    """Copy a block into float32 memory.

    Infinities and NaNs of float16 become numbers above 65504, which :func:`check_range` knows.
    """
    if block.dtype == np.float16:
        _from_half(block, out)
        return
    with np.errstate(over="ignore", invalid="ignore"):  # check_range looks at the result
        np.copyto(out, block, casting="unsafe")


def _from_half(block: np.ndarray, out: np.ndarray) -> None:
    # numpy converts float16 one by one. Here sign and the other bits move to their places in a float32, whose
    # exponent bias is larger by 112: a multiplication, exact for subnormal numbers too, makes up for that.
    bits = out.view(np.int32)
    np.copyto(bits, block.view(np.int16))
    np.left_shift(bits, 13, out=bits)
    np.bitwise_and(bits, np.int32(-0x7000_0001), out=bits)
    np.multiply(out, np.float32(2.0**112), out=out)


@contextmanager
def unbuffered() -> Iterator[None]:
    """Let numpy apply functions to rows and one number for each column, or row, as they lie in memory.

    Where rows are shorter than its buffer, numpy (2.3 and later) writes the numbers out for each element, and goes
    through many rows at once. That pays for short rows alone; others take half the time without a buffer.
    """
    usual = np.setbufsize(_SMALLEST_BUFFER)
    try:
        yield
    finally:
        np.setbufsize(usual)


def by_row(function: np.ufunc, block: np.ndarray, numbers: np.ndarray, out: np.ndarray) -> None:
    """Apply a function to a block and one number for each ``[u, :, i]``.

    :param block: float32, ``(units, length, inner)``.
    :param numbers: float32, ``(units, inner)``.
    :param out: of the block's shape, may be the block itself.
    """
    _, length, inner = block.shape
    if (length if inner == 1 else inner) < _LONG:
        function(block, numbers[:, None, :], out=out)
        return
    with unbuffered():
        function(block, numbers[:, None, :], out=out)


def extremes(block: np.ndarray, magnitude: bool) -> tuple[np.ndarray, np.ndarray]:
    """Smallest and largest value of each ``[u, :, i]``, shape ``(units, inner)``; NaN where there is one.

    :param block: float32, ``(units, length, inner)``.
    :param magnitude: give ``-m, m`` for the largest magnitude ``m`` instead.
    """
    if magnitude:
        block = np.abs(block, out=SCRATCH.array("values", block.shape))
    units, length, inner = block.shape
    if inner > 1:
        hi = np.maximum.reduce(block, axis=1)
        lo = -hi if magnitude else np.minimum.reduce(block, axis=1)
    elif length <= _SHORT and length % _QUAD == 0 and block.flags.c_contiguous:
        turned = _turned(block)
        hi = _across(np.maximum, turned)
        lo = -hi if magnitude else _across(np.minimum, turned)
    else:
        # reduceat costs less for each row than reduce does
        flat, rows = block.reshape(-1), np.arange(0, units * length, length)
        hi = np.maximum.reduceat(flat, rows).reshape(units, 1)
        lo = -hi if magnitude else np.minimum.reduceat(flat, rows).reshape(units, 1)
    return lo, hi


def _turned(block: np.ndarray) -> np.ndarray:
    """Short rows as columns, ``(length / 4, units · 4)``: numpy goes along long rows several times as fast.

    Numbers move by four at a time, as if they were complex ones, which costs a quarter of moving each.
    """
    units, length, _ = block.shape
    turned = SCRATCH.array("turned", (length // _QUAD, units), np.complex128)
    np.copyto(turned, block.reshape(units, length).view(np.complex128).T)
    return turned.view(np.float32)


def _across(extreme: np.ufunc, turned: np.ndarray) -> np.ndarray:
    """The extreme of each column that :func:`_turned` made, ``(units, 1)``."""
    parts: np.ndarray = extreme.reduce(turned, axis=0)
    pairs = extreme(parts[:-1], parts[1:])  # those across two units are not used
    result: np.ndarray = extreme(pairs[::_QUAD], pairs[2::_QUAD])
    return result[:, None]


def check_range(lo: np.ndarray, hi: np.ndarray, dtype: np.dtype) -> None:
    """See from the extremes whether all elements are finite and not too large.

    :param dtype: type of the elements before they became float32.
    :raises FloatingPointError: otherwise; :func:`bad_element` tells which.
    """
    limit = _HALF_LARGEST if dtype == np.float16 else LARGEST
    if not (lo.min() >= -limit and hi.max() <= limit):  # false for NaN, which both extremes carry on
        raise FloatingPointError


def bad_element(tensor: np.ndarray, name: str) -> ValidationError:
    """The error that names the first element, in C order, because of which a FloatingPointError was raised."""
    position = bad_position(tensor)
    return bad_value(name) if position is None else bad_value(name, tensor[tuple(position)], position)


def bad_position(tensor: np.ndarray) -> list[int] | None:
    """Where the first element is, in C order, that is not finite or too large; ``None``: nowhere."""
    flat = np.ascontiguousarray(tensor).reshape(-1)
    for start in range(0, flat.size, BLOCK):
        block = flat[start : start + BLOCK]
        with np.errstate(over="ignore", invalid="ignore"):
            bad = ~(np.abs(block.astype(np.float32)) <= LARGEST)
        if bad.any():
            return [int(i) for i in np.unravel_index(start + int(np.argmax(bad)), tensor.shape)]
    return None


def bad_value(name: str, value: object = None, position: list[int] | None = None) -> ValidationError:
    """The error for an element that is not finite or too large; without one, for scales that are too large."""
    title = f"Tensor {name!r}" if name else "The tensor"
    if position is None:
        return ValidationError(f"{title} holds values that are too large for those of the codebook.")
    return ValidationError(
        f"{title} has the value {value} at {position}; finite values up to 2^126 are needed. Repair the "
        "model, or exclude the nodes that take it with ignored_scope."
    )
