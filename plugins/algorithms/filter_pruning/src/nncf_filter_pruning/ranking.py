"""Which channels go when so many are to."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

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

    def by_operations(self, importance: np.ndarray, level: float, *, compared: bool) -> Removal:
        """The fewest least important ones with which operations are less by the share ``level``.

        :param compared: whether channels of all clusters are compared; otherwise each cluster loses the same share,
            the smallest that is enough.
        :raises ValidationError: when removing all that can go is not enough.
        """
        clusters = self._coupling.clusters
        if compared:
            order = self._possible(self._sorted((c for cluster in clusters for c in cluster.channels), importance))
            return self._smallest(lambda count: self._removal(order[:count]), len(order), level)
        sizes = {len(cluster.channels) for cluster in clusters}
        shares = sorted({0.0, *(count / size for size in sizes for count in range(size))})
        return self._smallest(lambda index: self.by_cluster(importance, shares[index]), len(shares) - 1, level)

    def _smallest(self, removal: Callable[[int], Removal], most: int, level: float) -> Removal:
        """The first of some removals, each of more than the one before, with which so many operations go.

        :param most: the number of the last one.
        """
        before = self._costs.operations(self._removal([]))
        largest = 1 - self._costs.operations(removal(most)) / before if before else 0.0
        if level > largest + 1e-9:
            raise ValidationError(
                f"pruning_flops_target is {level:g}, but at most {largest:.3f} of the model's operations can go: "
                "ask for less, or exclude fewer layers."
            )
        goal = (1 - level) * before * (1 + 1e-12)
        low, high = 0, most
        while low < high:  # each one more leaves fewer operations
            middle = (low + high) // 2
            if self._costs.operations(removal(middle)) <= goal:
                high = middle
            else:
                low = middle + 1
        return removal(low)

    def largest_operations(self) -> float:
        """The largest share of operations that can go, when channels go in the order of their numbers."""
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
