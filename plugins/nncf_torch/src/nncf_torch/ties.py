"""Weights half-way between two integers, which torch's operators and a division round to different ones.

A division gives the codes: ``x / scale``. The operators that converters know multiply by ``1 / scale``, which is off by
a rounding: of a million weights a few go to the other neighbour.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from attrs import evolve

from nncf_core.numerics.quantizer import Quantizer
from nncf_torch.fake_quantize import rounded_to
from nncf_torch.tensors import array_of, tensor_of

_PIECE = 1 << 22
"""Elements that are looked at together."""

_SHARES = tuple(2.0**-bits for bits in range(23))
"""How far a weight may move, of the way to its level."""


def without_ties(weight: torch.Tensor, quantizer: Quantizer) -> torch.Tensor | None:
    """A weight that operators round to the integers that a division gives; ``None`` where they do so as it is.

    Only elements for which the two differ move, by a few units in the last place towards the level of the division.
    Elements of 16 bits for which no number in their type will do stay as they are.

    :param weight: of any floating-point type; it is not changed.
    :param quantizer: to integers.
    """
    result: torch.Tensor | None = None
    for rows in _pieces(weight):
        part, piece = _quantizer_at(quantizer, rows), weight.detach()[rows]
        torn = _torn(piece, part)
        if torn.any():
            result = weight.detach().clone() if result is None else result
            places = torch.from_numpy(torn).to(piece.device)
            result[rows][places] = _moved(piece[places], _of_elements(part, torn))
    return result


def _pieces(weight: torch.Tensor) -> Iterator[slice]:
    rows = weight.shape[0]
    step = max(_PIECE * rows // max(weight.numel(), 1), 1)
    return (slice(start, start + step) for start in range(0, rows, step))


def _quantizer_at(quantizer: Quantizer, rows: slice) -> Quantizer:
    """That of some rows."""
    if quantizer.axis != 0:
        return quantizer
    return evolve(quantizer, scale=quantizer.scale[rows], zero_point=quantizer.zero_point[rows])


def _of_elements(quantizer: Quantizer, chosen: np.ndarray) -> Quantizer:
    """That of some elements of a tensor, in one dimension: each is a channel."""
    shape = [-1 if axis == quantizer.axis else 1 for axis in range(chosen.ndim)]
    scale, zero_point = (
        np.broadcast_to(part.reshape(shape if part.ndim else ()), chosen.shape)[chosen]
        for part in (quantizer.scale, quantizer.zero_point)
    )
    return evolve(quantizer, scale=scale, zero_point=zero_point, axis=0)


def _torn(x: torch.Tensor, quantizer: Quantizer) -> np.ndarray:
    """Where operators round to another integer than a division."""
    scale, zero_point = (
        tensor_of(part.reshape(-1).copy()).to(x.device) for part in (quantizer.scale, quantizer.zero_point)
    )
    wide = x.to(torch.float32)
    with torch.no_grad():
        rounded = rounded_to(wide, scale, zero_point, quantizer.lo, quantizer.hi, quantizer.axis)
    return np.asarray(quantizer.encode(array_of(rounded)) != quantizer.encode(array_of(wide)))


def _moved(x: torch.Tensor, quantizer: Quantizer) -> torch.Tensor:
    """Torn elements, where both ways give the integer that the division gives them; in one dimension, as their type."""
    before = array_of(x.to(torch.float32))
    codes, levels, moved = quantizer.encode(before), quantizer.apply(before), x.clone()
    # the smallest step is tried last
    for share in _SHARES:
        there = tensor_of(before + np.float32(share) * (levels - before)).to(x.device, x.dtype)
        holds = ~_torn(there, quantizer) & (quantizer.encode(array_of(there.to(torch.float32))) == codes)
        moved = torch.where(tensor_of(holds).to(x.device), there, moved)
    return moved
