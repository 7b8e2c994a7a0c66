"""Channels that go together: a union-find forest, some of whose trees must stay."""

from __future__ import annotations

import numpy as np

FREE = 0
"""Stands for elements that are of no channel of a layer, and stay."""


class Channels:
    """Numbers for channels; those that are joined are removed together or not at all.

    Arrays of numbers say of each index of an axis which channel it belongs to, :data:`FREE` for none.

    :ivar blocked: why channels must stay, by their roots.
    """

    def __init__(self) -> None:
        self._parents = [FREE]
        self.blocked: dict[int, str] = {}

    def new(self, count: int) -> np.ndarray:
        """Channels that are of one layer, none of them joined yet."""
        first = len(self._parents)
        self._parents.extend(range(first, first + count))
        return np.arange(first, first + count)

    def root(self, channel: int) -> int:
        """One number for all channels that are joined."""
        parents = self._parents
        while parents[channel] != channel:
            parents[channel] = parents[parents[channel]]
            channel = parents[channel]
        return channel

    def roots(self, channels: np.ndarray) -> np.ndarray:
        """The root of each."""
        different, inverse = np.unique(channels, return_inverse=True)
        return np.array([self.root(int(channel)) for channel in different], np.int64)[inverse].reshape(channels.shape)

    def join(self, one: np.ndarray, other: np.ndarray, reason: str) -> None:
        """Join channels element by element; one that meets :data:`FREE` must stay.

        :param one: broadcasts against ``other``.
        :param reason: why what meets :data:`FREE` must stay.
        """
        one, other = np.broadcast_arrays(one, other)
        if one.size == 0:
            return
        pairs = np.unique(np.stack([one.reshape(-1), other.reshape(-1)]), axis=1)
        for first, second in pairs.T.tolist():
            if first == FREE or second == FREE:
                self._block(first or second, reason)
            else:
                self._join(self.root(first), self.root(second))

    def block(self, channels: np.ndarray, reason: str) -> None:
        """Let channels stay.

        :param reason: why, for people; the first one of joined channels is kept.
        """
        for channel in np.unique(channels).tolist():
            self._block(channel, reason)

    def _block(self, channel: int, reason: str) -> None:
        if channel != FREE:
            self.blocked.setdefault(self.root(channel), reason)

    def _join(self, one: int, other: int) -> None:
        if one == other:
            return
        low, high = min(one, other), max(one, other)
        self._parents[high] = low
        reason = self.blocked.pop(high, None)
        if reason is not None:
            self.blocked.setdefault(low, reason)
