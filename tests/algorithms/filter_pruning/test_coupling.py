"""A model without channels gives what it gives with zeros in their place, in every framework."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from nncf_core.graph import Graph
from nncf_core.registry import registry
from nncf_filter_pruning.coupling import Coupling, couple
from nncf_filter_pruning.effects import Costs, Removal, masking, none_of, shrinking
from nncf_filter_pruning.ranking import Ranking
from tests.algorithms.filter_pruning.networks import (
    EXAMPLE,
    NETWORKS,
    Blocked,
    Drawn,
    Literal,
    converted,
    normalized,
)
from tests.variants import variants

FRAMEWORKS = ("torch", "program", "onnx", "openvino")
KINDS = (
    "conv", "norm", "deep", "groups", "up", "slope", "residual", "gate", "place", "concat", "pool", "halves", "shuffle",
    "act",
)  # fmt: skip


def opened(model: Any) -> tuple[Any, Any, Graph]:
    backend = registry().backend_for(model)
    working = backend.builder.open(model, {"example_input": EXAMPLE} if isinstance(model, nn.Module) else {})
    return backend, working, backend.inserter.shaped(working, backend.builder.build(working))


def drawn(coupling: Coupling, level: float, seed: int = 0) -> Removal:
    importance = np.random.default_rng(seed).random(coupling.size)
    return Ranking(coupling).by_cluster(importance, level)


def same(backend: Any, working: Any, graph: Graph, removal: Removal) -> None:
    """Compare a masked and a shrunk copy."""
    masked = backend.inserter.trial(working, graph, masking(removal))
    shrunk = backend.inserter.trial(working, graph, shrinking(removal))
    for one, other in zip(masked, shrunk, strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-4, atol=1e-5 * max(np.abs(one).max(), 1))


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("kind", NETWORKS)
def test_masked_and_shrunk_networks_give_the_same(kind: type[nn.Module], framework: str) -> None:
    torch.manual_seed(0)
    model = normalized(kind())
    backend, working, graph = opened(converted(model, framework))
    coupling = couple(graph)
    # all layers but the last can lose channels
    kept = [name for name, reason in coupling.kept.items() if "leaves the model" not in reason]
    assert kept == []
    assert len(coupling.kept) == 1
    for level in (0.25, 0.7):
        removal = drawn(coupling, level)
        same(backend, working, graph, removal)
        (before, *_), (after, *_) = (backend.inserter.trial(working, graph, edits) for edits in ([], masking(removal)))
        assert np.abs(before - after).max() > 1e-4


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_frameworks_have_the_same_clusters(framework: str) -> None:
    for kind in NETWORKS:
        model = normalized(kind())
        found = couple(opened(converted(model, framework))[2])
        wanted = couple(opened(model)[2])
        assert [len(c.channels) for c in found.clusters] == [len(c.channels) for c in wanted.clusters]
        assert [len(c.layers) for c in found.clusters] == [len(c.layers) for c in wanted.clusters]


steps = st.lists(st.tuples(st.sampled_from(KINDS), st.integers(0, 7)), min_size=1, max_size=7)


@pytest.mark.parametrize("framework", variants(FRAMEWORKS, "onnx"))
@settings(max_examples=8, deadline=None)
@given(steps=steps, flat=st.booleans(), level=st.sampled_from([0.2, 0.5, 0.9]), seed=st.integers(0, 9))
def test_networks_drawn_at_random(
    framework: str, steps: list[tuple[str, int]], flat: bool, level: float, seed: int
) -> None:
    torch.manual_seed(seed)
    model = Drawn(steps, flat).eval()
    backend, working, graph = opened(converted(model, framework))
    coupling = couple(graph)
    removal = drawn(coupling, level, seed)
    same(backend, working, graph, removal)
    if framework == "torch":
        assert len(coupling.clusters) >= 1


@settings(max_examples=8, deadline=None)
@given(steps=steps, flat=st.booleans(), level=st.sampled_from([0.2, 0.5, 0.9]), seed=st.integers(0, 9))
def test_operations_and_parameters_are_those_of_the_shrunk_model(
    steps: list[tuple[str, int]], flat: bool, level: float, seed: int
) -> None:
    torch.manual_seed(seed)
    model = Drawn(steps, flat).eval()
    backend, working, graph = opened(model)
    coupling = couple(graph)
    removal, costs = drawn(coupling, level, seed), Costs(coupling)
    shrunk = backend.inserter.apply(working, graph, shrinking(removal), {}).module
    for one, chosen in ((model, none_of(coupling)), (shrunk, removal)):
        assert costs.operations(chosen) == pytest.approx(counted(one))
        tensors = [*one.parameters(), *(b for b in one.buffers() if b.is_floating_point())]
        assert costs.parameters(chosen) == sum(tensor.numel() for tensor in tensors)


def counted(model: nn.Module) -> int:
    """Operations as PyTorch counts them."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(EXAMPLE[:1])
    return int(counter.get_total_flops())


def test_attributes_of_modules_follow() -> None:
    torch.manual_seed(0)
    model = Drawn([("deep", 1), ("groups", 3), ("up", 1), ("slope", 0)], True).eval()
    backend, working, graph = opened(model)
    module = backend.inserter.apply(working, graph, shrinking(drawn(couple(graph), 0.5)), {}).module
    deep, groups, up, slope = module.layers
    norm = module.stem[1]
    assert deep.in_channels == deep.groups == norm.num_features == 4
    assert (deep.out_channels, deep.weight.shape[0]) == (8, 8)
    assert groups.groups == 2
    assert groups.in_channels == groups.weight.shape[1] * 2 == 8
    assert up.in_channels == up.weight.shape[0] == groups.out_channels
    assert up.out_channels == up.weight.shape[1] * up.groups
    assert slope.num_parameters == slope.weight.numel() == up.out_channels
    assert module.hidden.in_features == module.hidden.weight.shape[1] == up.out_channels * 64
    assert isinstance(module.hidden.weight, nn.Parameter)
    assert module.hidden.weight.requires_grad


@pytest.mark.parametrize("how", ["cumsum", "softmax", "norm", "input", "flip", "product"])
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_what_is_not_understood_keeps_its_channels(framework: str, how: str) -> None:
    torch.manual_seed(0)
    model = Blocked(how).eval()
    backend, working, graph = opened(converted(model, framework))
    coupling = couple(graph)
    assert [len(cluster.channels) for cluster in coupling.clusters] == [8]
    assert len(coupling.kept) == 2  # and the last layer
    assert all(coupling.kept.values())
    same(backend, working, graph, drawn(coupling, 0.5))


@pytest.mark.parametrize("framework", ["program", "onnx", "openvino"])
def test_sizes_that_a_reshape_states_follow(framework: str) -> None:
    model = Literal().eval()
    backend, working, graph = opened(converted(model, framework, EXAMPLE[:1]))
    coupling = couple(graph)
    assert [len(cluster.channels) for cluster in coupling.clusters] == [8, 8]
    same(backend, working, graph, drawn(coupling, 0.5))


def test_an_axis_keeps_at_least_one_index() -> None:
    for kind in NETWORKS:
        coupling = couple(opened(normalized(kind()))[2])
        for removal in (drawn(coupling, 0.999), Ranking(coupling).of_all(np.arange(coupling.size, dtype=float), 0.999)):
            assert all(stays.any() for _, _, stays in removal.axes())
            assert all(not removal.gone[list(cluster.channels)].all() for cluster in coupling.clusters)
