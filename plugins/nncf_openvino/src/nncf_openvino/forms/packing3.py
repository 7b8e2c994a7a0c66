"""OpenVINO's u3: of eight codes, the lower two bits in two bytes and the highest bits in a third, first codes in the
highest bits of each."""

from __future__ import annotations

import numpy as np

_LOW = np.array([6, 4, 2, 0], np.uint8)
_HIGH = np.array([7, 6, 5, 4, 3, 2, 1, 0], np.uint8)


def pack_u3(codes: np.ndarray) -> np.ndarray:
    """Codes of 0 to 7, one a byte, as OpenVINO stores them; missing ones of the last eight are 0."""
    padded = np.concatenate([codes.astype(np.uint8), np.zeros(-codes.size % 8, np.uint8)]).reshape(-1, 8)
    low = np.bitwise_or.reduce((padded & 3).reshape(-1, 2, 4) << _LOW, axis=2)
    high = np.bitwise_or.reduce((padded >> 2) << _HIGH, axis=1)
    return np.concatenate([low, high[:, None]], axis=1).astype(np.uint8).reshape(-1)


def unpack_u3(raw: np.ndarray, count: int) -> np.ndarray:
    """The codes that :func:`pack_u3` packed, one a byte."""
    triples = raw.reshape(-1, 3)
    low = (triples[:, :2, None] >> _LOW & 3).reshape(-1, 8)
    high = triples[:, 2:] >> _HIGH & 1
    return (low | high << 2).astype(np.uint8).reshape(-1)[:count]
