"""Which channels go when so many are to."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from nncf_core.errors import ValidationError
from nncf_filter_pruning.channels import FREE
from nncf_filter_pruning.coupling import Coupling
from nncf_filter_pruning.effects import Costs, Removal


class Ranking:
    """Chooses channels by their importance. No axis of a constant loses all of its indices.

    :param coupling: the model's channels.
    """

    def __init__(self, coupling: Coupling) -> None:
        self._coupling = coupling
        self._costs = Costs(coupling)
        unique: dict[bytes, np.ndarray] = {}
        for channels in (*coupling.claims.values(), *(layer.output for layer in coupling.layers)):
            if not (channels == FREE).any():  # otherwise something stays anyway
                unique.setdefault(channels.tobytes(), channels)
        # how many indices of each axis are of each channel
        self._counts: dict[int, dict[int, int]] = {}
        self._sizes: list[int] = []
        for number, channels in enumerate(unique.values()):
            self._sizes.append(len(channels))
            for channel, count in zip(*np.unique(channels, return_counts=True), strict=True):
                self._counts.setdefault(int(channel), {})[number] = int(count)

    def by_cluster(self, importance: np.ndarray, level: float) -> Removal:
        """The same share of each cluster's channels: at least ``level``, where so many can go.

        :param importance: of channels, by number.
        """
        order: list[int] = []
        for cluster in self._coupling.clusters:
            count = min(math.ceil(level * len(cluster.channels) - 1e-9), len(cluster.channels) - 1)
            order += self._sorted(cluster.channels, importance)[:count]
        return self._removal(self._possible(order))

    def of_all(self, importance: np.ndarray, level: float) -> Removal:
        """The least important ones of all clusters: at least the share ``level``, where so many can go."""
        channels = [channel for cluster in self._coupling.clusters for channel in cluster.channels]
        order = self._possible(self._sorted(channels, importance))
        return self._removal(order[: math.ceil(level * len(channels) - 1e-9)])

    def by_operations(self, importance: np.ndarray, level: float) -> Removal:
        """The fewest least important ones with which operations are less by the share ``level``.

        :raises ValidationError: when removing all that can go is not enough.
        """
        channels = [channel for cluster in self._coupling.clusters for channel in cluster.channels]
        order = self._possible(self._sorted(channels, importance))
        largest = self.largest_operations(order)
        if level > largest + 1e-9:
            raise ValidationError(
                f"pruning_flops_target is {level:g}, but at most {largest:.3f} of the model's operations can go: "
                "ask for less, or exclude fewer layers."
            )
        goal = (1 - level) * self._costs.operations(self._removal([])) * (1 + 1e-12)
        low, high = 0, len(order)
        while low < high:  # each one more leaves fewer operations
            middle = (low + high) // 2
            if self._costs.operations(self._removal(order[:middle])) <= goal:
                high = middle
            else:
                low = middle + 1
        return self._removal(order[:low])

    def largest_operations(self, order: Iterable[int] | None = None) -> float:
        """The largest share of operations that can go.

        :param order: in which channels go, as far as they can; by default that of their numbers.
        """
        if order is None:
            order = self._possible(c for cluster in self._coupling.clusters for c in cluster.channels)
        all_of_them = self._costs.operations(self._removal([]))
        left = self._costs.operations(self._removal(order))
        return 1 - left / all_of_them if all_of_them else 0.0

    def _sorted(self, channels: Iterable[int], importance: np.ndarray) -> list[int]:
        return sorted(channels, key=lambda channel: (importance[channel], channel))

    def _possible(self, order: Iterable[int]) -> list[int]:
        """Those of them, in order, after which something of each axis is left, and of each cluster."""
        left = list(self._sizes)
        cluster_of = {c: number for number, cluster in enumerate(self._coupling.clusters) for c in cluster.channels}
        remaining = [len(cluster.channels) for cluster in self._coupling.clusters]
        chosen = []
        for channel in order:
            counts = self._counts.get(channel, {})
            number = cluster_of[channel]
            if remaining[number] <= 1 or any(left[axis] <= count for axis, count in counts.items()):
                continue
            remaining[number] -= 1
            for axis, count in counts.items():
                left[axis] -= count
            chosen.append(channel)
        return chosen

    def _removal(self, channels: Iterable[int]) -> Removal:
        gone = np.zeros(self._coupling.size, bool)
        gone[list(channels)] = True
        return Removal(self._coupling, gone)
