"""Arrays of channels moved as an operator moves the elements of a tensor."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from nncf_core.graph import Move, MoveKind

_UNKNOWN = 3
"""Size in place of those that are not known; channels must not vary on such axes in the end."""
_LARGEST = 1 << 27


def moved(
    channels: np.ndarray, moves: Sequence[Move], shape: Sequence[int | None], result: Sequence[int | None]
) -> np.ndarray | None:
    """The array of channels of the result; ``None`` when the sizes do not tell.

    :param channels: of the operator's input.
    :param shape: of its input.
    :param result: shape of its output.
    """
    sizes = [_UNKNOWN if size is None else size for size in shape]
    channels = channels.reshape((1,) * (len(sizes) - channels.ndim) + channels.shape)
    for move in moves:
        if move.kind is MoveKind.RESHAPE:
            target = [_UNKNOWN if size is None else size for size in result]
            if math.prod(target) != math.prod(sizes) or math.prod(sizes) > _LARGEST:
                return None
            channels, sizes = np.broadcast_to(channels, sizes).reshape(target), target
        elif move.kind is MoveKind.PERMUTE:
            channels, sizes = channels.transpose(move.numbers), [sizes[axis] for axis in move.numbers]
        elif move.kind is MoveKind.SLICE:
            axis, start, stop, step = move.numbers
            if channels.shape[axis] > 1:
                channels = channels[(slice(None),) * axis + (slice(start, stop, step),)]
            sizes[axis] = len(range(start, stop, step))
        elif move.kind is MoveKind.EXPAND:
            target = [_UNKNOWN if size is None else size for size in result]
            channels = channels.reshape((1,) * (len(target) - channels.ndim) + channels.shape)
            sizes = target
    for axis, size in enumerate(result):
        if size is None and (channels != channels.take([0], axis)).any():
            return None
    return channels
