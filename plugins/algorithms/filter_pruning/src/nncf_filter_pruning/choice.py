"""Which clusters of a model are pruned, and which of their channels at a level."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from nncf_core.contracts import Context, is_excluded
from nncf_core.errors import NNCFError, UnsupportedBackendError
from nncf_core.graph import Graph, Node, OpKind
from nncf_filter_pruning import legr
from nncf_filter_pruning.coupling import Cluster, Coupling, couple
from nncf_filter_pruning.effects import Removal, masked_constants, masking, shrinking
from nncf_filter_pruning.importance import of_channels, of_layers
from nncf_filter_pruning.parameters import PruningSettings
from nncf_filter_pruning.ranking import Ranking

_TOLERANCE = 1e-3
"""By how much outputs of the masked and the shrunk model may differ, as a share of the largest one."""


def prunable(graph: Graph, params: PruningSettings, context: Context) -> Coupling:
    """The channels that may go, by what the user says, by what the backend can do, and by a trial.

    :raises UnsupportedBackendError: when the backend cannot shrink constants.
    """
    if context.shaped is None:
        raise UnsupportedBackendError("The backend cannot shrink constants, and so not prune filters.")
    coupling = couple(context.shaped())
    firsts = _first_layers(coupling)
    for cluster in coupling.clusters:
        reason = _stays(coupling, cluster, firsts, params, context)
        if reason is not None:
            coupling = coupling.without([cluster], reason)
    coupling = _tried(coupling, context)
    for name, reason in coupling.kept.items():
        context.note(f"{name} keeps its filters: {reason}.")
    if not coupling.clusters:
        context.note("No filters can be pruned. Models that are traced need an example input, or a dataset.")
    return coupling


def chosen(
    coupling: Coupling,
    params: PruningSettings,
    read: Callable[[str], np.ndarray],
    level: float,
    coefficients: Mapping[str, tuple[float, float]] | None = None,
) -> Removal:
    """The channels that go at a level.

    :param read: gives the values of a weight.
    :param coefficients: of a learned ranking.
    """
    ranking = Ranking(coupling)
    layers = importances(coupling, params, read)
    channels = of_channels(coupling, layers, coefficients)
    if params.by_operations:
        return ranking.by_operations(channels, level, compared=params.compared)
    return ranking.of_all(channels, level) if params.compared else ranking.by_cluster(channels, level)


def importances(
    coupling: Coupling, params: PruningSettings, read: Callable[[str], np.ndarray]
) -> dict[str, np.ndarray]:
    """The importance of filters of each layer, without coefficients; of a learned ranking the square."""
    found = of_layers(coupling, read, params.filter_importance, params.compared)
    return {name: np.square(values) for name, values in found.items()} if params.learned else found


def loaded(coupling: Coupling, params: PruningSettings) -> dict[str, tuple[float, float]] | None:
    """The coefficients of a learned ranking that the settings name a file of."""
    if not params.learned or params.load_ranking_coeffs_path is None:
        return None
    names = [layer.node.name for layer in coupling.layers if layer.own and layer.output.any()]
    return legr.load(Path(params.load_ranking_coeffs_path), names)


def _stays(
    coupling: Coupling, cluster: Cluster, firsts: frozenset[str], params: PruningSettings, context: Context
) -> str | None:
    """Why a cluster is to keep its channels."""
    for (name, _), channels in coupling.claims.items():
        if np.isin(channels, cluster.channels).any():
            users = (node for node, _ in coupling.graph.users(name) if is_excluded(node, context.ignored))
            ignored = next((node.name for node in users), name if name in context.ignored else None)
            if ignored is not None:
                return f"{ignored!r} is in the ignored scope"
    for layer in coupling.layers:
        if not np.isin(layer.output, cluster.channels).any():
            continue
        node = layer.node
        if not layer.own:
            continue
        if node.name in firsts and not params.prune_first_conv:
            return f"{node.name!r} takes the model's input, and prune_first_conv is false"
        if any(stride > 1 for stride in node.strides) and not params.prune_downsample_convs:
            return f"{node.name!r} has strides, and prune_downsample_convs is false"
    if context.training:
        for name in masked_constants(coupling, cluster.channels, params.prune_batch_norms):
            reason = context.mask_refusal(name)
            if reason is not None:
                return f"{name!r} cannot have a mask, since {reason}"
    return None


def _first_layers(coupling: Coupling) -> frozenset[str]:
    """Convolutions that no other layer lies before."""
    graph = coupling.graph
    layers = {layer.node.name for layer in coupling.layers}
    behind: set[str] = set()
    firsts = set()
    for node in graph:
        before = _names_before(graph, node)
        if node.name in layers and not before & behind and node.kind in (OpKind.CONV, OpKind.CONV_TRANSPOSE):
            firsts.add(node.name)
        if node.name in layers or before & behind:
            behind.add(node.name)
    return frozenset(firsts)


def _names_before(graph: Graph, node: Node) -> set[str]:
    return {before.name for before in graph.predecessors(node)}


def _tried(coupling: Coupling, context: Context) -> Coupling:
    """The clusters of which the model, masked and shrunk, gives the same; the others are named."""
    try:
        if context.trial([]) is None:
            return coupling
    except NNCFError:
        return coupling  # it does not run as it is, e.g. for sizes that nobody knows
    if _difference(coupling, coupling.clusters, context) is None:
        return coupling
    for cluster in coupling.clusters:
        problem = _difference(coupling, (cluster,), context)
        if problem is not None:
            coupling = coupling.without([cluster], problem)
    problem = _difference(coupling, coupling.clusters, context)
    return coupling if problem is None else coupling.without(coupling.clusters, problem)


def _difference(coupling: Coupling, clusters: tuple[Cluster, ...], context: Context) -> str | None:
    """Why clusters cannot lose channels; ``None`` when they can: some are taken away at random."""
    if not clusters:
        return None
    numbers = np.random.default_rng(0)
    others = [cluster for cluster in coupling.clusters if cluster not in clusters]
    alone = coupling.without(others, "")
    removal = Ranking(alone).by_cluster(numbers.random(alone.size), 0.3)
    try:
        shrunk = context.trial(shrinking(removal))
        masked = context.trial(masking(removal))
    except NNCFError as error:
        return f"the model does not run with fewer channels ({error})"
    assert shrunk is not None
    assert masked is not None
    for one, other in zip(shrunk, masked, strict=True):
        if one.shape != other.shape:
            return "the model gives other shapes with fewer channels"
        if one.dtype.kind != "f":
            continue
        wide = one.astype(np.float64), other.astype(np.float64)
        limit = _TOLERANCE * (np.abs(wide[1]).max(initial=0) + 1e-6)
        if not np.all(np.isfinite(wide[1]) <= (np.abs(wide[0] - wide[1]) <= limit)):
            return "the model computes something else with fewer channels than with zeros"
    return None
