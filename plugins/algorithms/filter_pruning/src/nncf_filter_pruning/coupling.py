"""Which channels of which layers go together, and which slices of which constants go with them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

import numpy as np
from attrs import evolve, field, frozen

from nncf_core.graph import Graph
from nncf_filter_pruning.channels import FREE
from nncf_filter_pruning.propagation import Layer, Propagation
from nncf_filter_pruning.rules import RULES


@frozen
class Cluster:
    """Layers whose channels are joined with one another, e.g. by residual sums.

    :param layers: names of the nodes, in graph order.
    :param channels: numbers of the channels that can go, each of which stands for all that are joined with it.
    """

    layers: tuple[str, ...]
    channels: tuple[int, ...]

    @property
    def name(self) -> str:
        """For people."""
        return ", ".join(self.layers)


@frozen
class Coupling:
    """Channels by number; :data:`~nncf_filter_pruning.channels.FREE` where they must stay.

    :param claims: of each index along an axis of a constant, by the constant's name and the axis.
    :param tensors: of tensors of activations, see :mod:`nncf_filter_pruning.propagation`.
    :param layers: in graph order.
    :param clusters: in graph order.
    :param kept: why layers lose none of their channels, by name.
    """

    graph: Graph = field(repr=False)
    claims: Mapping[tuple[str, int], np.ndarray] = field(repr=False)
    tensors: Mapping[str, np.ndarray] = field(repr=False)
    layers: tuple[Layer, ...] = field(repr=False)
    clusters: tuple[Cluster, ...]
    kept: Mapping[str, str]

    @property
    def size(self) -> int:
        """One more than the largest number of a channel."""
        return 1 + max((channel for cluster in self.clusters for channel in cluster.channels), default=0)

    def without(self, clusters: Collection[Cluster], reason: str) -> Coupling:
        """The same, with clusters that lose nothing."""
        stay = [channel for cluster in clusters for channel in cluster.channels]

        def freed(channels: np.ndarray) -> np.ndarray:
            return np.where(np.isin(channels, stay), FREE, channels)

        names = {name: reason for cluster in clusters for name in cluster.layers}
        return evolve(
            self,
            claims={key: freed(channels) for key, channels in self.claims.items()},
            tensors={name: freed(channels) for name, channels in self.tensors.items()},
            layers=tuple(evolve(layer, output=freed(layer.output)) for layer in self.layers),
            clusters=tuple(cluster for cluster in self.clusters if cluster not in clusters),
            kept={**self.kept, **names},
        )


def couple(graph: Graph) -> Coupling:
    """Find the channels that can go."""
    state = Propagation(graph)
    state.run(RULES)
    blocked = np.array([FREE, *sorted(state.channels.blocked)])

    def settled(channels: np.ndarray) -> np.ndarray:
        roots = state.channels.roots(channels)
        return np.where(np.isin(roots, blocked), FREE, roots)

    layers = tuple(evolve(layer, output=settled(layer.output)) for layer in state.layers)
    kept = dict(state.problems)
    for layer, before in zip(layers, state.layers, strict=True):
        if layer.own and before.output.size and not layer.output.any():
            kept.setdefault(layer.node.name, state.channels.blocked[state.channels.root(int(before.output[0]))])
    return Coupling(
        graph,
        {key: settled(channels) for key, channels in state.claims.items()},
        {name: settled(channels) for name, channels in state.tensors.items()},
        layers,
        _clusters(layer for layer in layers if layer.own),
        kept,
    )


def _clusters(layers: Iterable[Layer]) -> tuple[Cluster, ...]:
    """Layers that have a channel in common are of one cluster."""
    found: list[tuple[list[str], dict[int, None]]] = []
    for layer in layers:
        names, channels = [layer.node.name], dict.fromkeys(int(c) for c in layer.output if c != FREE)
        if not channels:
            continue
        joined = [cluster for cluster in found if not channels.keys().isdisjoint(cluster[1])]
        for cluster in joined:
            found.remove(cluster)
        merged_names = [name for cluster in joined for name in cluster[0]] + names
        merged = {channel: None for cluster in joined for channel in cluster[1]} | channels
        found.append((merged_names, merged))
    order = {name: index for index, (names, _) in enumerate(found) for name in names}
    found.sort(key=lambda cluster: min(order[name] for name in cluster[0]))
    return tuple(Cluster(tuple(names), tuple(channels)) for names, channels in found)
