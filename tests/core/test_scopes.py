"""Ignored scopes."""

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import nncf
from nncf_core.graph import Constant, Graph, Node, OpKind, Port
from nncf_core.scopes import from_legacy, ignored_names


def chain(*edges: str, types: dict[str, str] | None = None) -> Graph:
    """A graph from edges such as ``a>b``; nodes in the order in which they appear."""
    names = list(dict.fromkeys(name for edge in edges for name in edge.split(">")))
    into = {name: [edge.split(">")[0] for edge in edges if edge.split(">")[1] == name] for name in names}
    return Graph(
        "by hand",
        [
            Node(n, (types or {}).get(n, "Op"), OpKind.OTHER, [Port(f"{p}.out") for p in into[n]], [Port(f"{n}.out")])
            for n in names
        ],
    )


GRAPH = chain("a>b", "b>c", "a>d", "d>c", "c>e", types={"b": "Relu", "d": "Relu"})


@pytest.mark.parametrize(
    ("scope", "expected"),
    [
        (nncf.IgnoredScope(), ""),
        (nncf.IgnoredScope(names=["a", "e"]), "ae"),
        (nncf.IgnoredScope(patterns=["[ab]"]), "ab"),
        (nncf.IgnoredScope(types=["Relu"]), "bd"),
        (nncf.IgnoredScope(subgraphs=[nncf.Subgraph(["a"], ["c"])]), "abcd"),
        (nncf.IgnoredScope(subgraphs=[nncf.Subgraph(["b", "d"], ["e"])]), "bcde"),
        (nncf.IgnoredScope(subgraphs=[nncf.Subgraph(["b"], ["b"])]), "b"),
        (nncf.IgnoredScope(names=["a"], types=["Relu"]), "abd"),
        (nncf.IgnoredScope(names=["nothing"], validate=False), ""),
    ],
)
def test_what_is_ignored(scope: nncf.IgnoredScope, expected: str) -> None:
    assert ignored_names(GRAPH, scope) == set(expected)


def test_patterns_match_from_the_start_of_a_name() -> None:
    graph = chain("first_conv>conv_second")
    assert ignored_names(graph, nncf.IgnoredScope(patterns=["conv"])) == {"conv_second"}


@pytest.mark.parametrize(
    ("scope", "part"),
    [
        (nncf.IgnoredScope(names=["x"]), "name 'x'"),
        (nncf.IgnoredScope(types=["Rellu"]), "did you mean 'Relu'"),
        (nncf.IgnoredScope(patterns=["x.*"]), "pattern 'x.*'"),
        (nncf.IgnoredScope(patterns=["("]), "not a regular expression"),
        (nncf.IgnoredScope(subgraphs=[nncf.Subgraph(["c"], ["a"])]), "subgraph"),
        (nncf.IgnoredScope(subgraphs=[nncf.Subgraph(["a"], ["x"])]), "which needs 'x'"),
    ],
)
def test_rules_that_match_nothing_are_errors(scope: nncf.IgnoredScope, part: str) -> None:
    with pytest.raises(nncf.ValidationError) as caught:
        ignored_names(GRAPH, scope)
    assert part in str(caught.value)


def test_missing_ends_of_a_subgraph_get_close_matches() -> None:
    graph = chain("first_conv>second_conv")
    with pytest.raises(nncf.ValidationError, match=r"needs 'second_cnv' \(did you mean 'second_conv'"):
        ignored_names(graph, nncf.IgnoredScope(subgraphs=[nncf.Subgraph(["first_conv"], ["second_cnv"])]))


def test_every_unmatched_rule_is_listed() -> None:
    names = [f"missing_{i}" for i in range(30)]
    with pytest.raises(nncf.ValidationError) as caught:
        ignored_names(GRAPH, nncf.IgnoredScope(names=names, types=["Missing"]))
    assert all(f"name {name!r}" in str(caught.value) for name in names)
    assert "type 'Missing'" in str(caught.value)


@pytest.mark.parametrize(
    "arguments",
    [{"names": None}, {"names": [1]}, {"types": 3}, {"subgraphs": nncf.Subgraph(["a"], ["b"])}, {"subgraphs": ["a"]}],
)
def test_what_is_not_a_list_of_the_right_things(arguments: dict) -> None:
    with pytest.raises(nncf.ValidationError, match="Expected a list of"):
        nncf.IgnoredScope(**arguments)


def test_a_string_in_place_of_a_list() -> None:
    with pytest.raises(nncf.ValidationError, match=r"\['conv'\]"):
        nncf.IgnoredScope(names="conv")


def test_a_ladder_of_diamonds_takes_no_time() -> None:
    # 2^200 simple paths
    edges = []
    for i in range(200):
        edges += [f"n{i}>l{i}", f"n{i}>r{i}", f"l{i}>n{i + 1}", f"r{i}>n{i + 1}"]
    graph = chain(*edges)
    assert len(ignored_names(graph, nncf.IgnoredScope(subgraphs=[nncf.Subgraph(["n0"], ["n200"])]))) == 601


def simple_paths(edges: set[tuple[int, int]], start: int, end: int) -> Iterator[tuple[int, ...]]:
    """All simple paths, one by one: the definition."""
    if start == end:
        yield (end,)
        return
    for first, second in edges:
        if first == start:
            yield from ((start, *rest) for rest in simple_paths(edges, second, end))


@given(
    edges=st.sets(st.tuples(st.integers(0, 7), st.integers(0, 7)).filter(lambda e: e[0] < e[1]), max_size=16),
    inputs=st.lists(st.integers(0, 7), min_size=1, max_size=3),
    outputs=st.lists(st.integers(0, 7), min_size=1, max_size=3),
)
def test_subgraphs_are_all_simple_paths(edges: set[tuple[int, int]], inputs: list[int], outputs: list[int]) -> None:
    graph = Graph(
        "by hand",
        [
            Node(str(n), "Op", OpKind.OTHER, [Port(f"{a}.out") for a, b in sorted(edges) if b == n], [Port(f"{n}.out")])
            for n in range(8)
        ],
    )
    expected = {str(n) for i in inputs for o in outputs for path in simple_paths(edges, i, o) for n in path}
    subgraph = nncf.Subgraph([str(i) for i in inputs], [str(o) for o in outputs])
    assert ignored_names(graph, nncf.IgnoredScope(subgraphs=[subgraph], validate=False)) == expected


def test_names_of_constants() -> None:
    constants = {name: Constant(name, "float32", (1,), lambda: np.zeros(1)) for name in ("layer.weight", "layer.bias")}
    node = Node("layer", "MatMul", OpKind.MATMUL, [Port("layer.weight", constant="layer.weight")], [Port("y")])
    graph = Graph("by hand", [node], constants)
    assert ignored_names(graph, nncf.IgnoredScope(names=["layer.weight"])) == {"layer.weight"}
    assert ignored_names(graph, nncf.IgnoredScope(patterns=[r"layer\."])) == {"layer.weight", "layer.bias"}
    assert ignored_names(graph, nncf.IgnoredScope(names=["layer"])) == {"layer"}


def test_the_notation_of_configs() -> None:
    assert from_legacy(["a", "{re}b.*"]) == nncf.IgnoredScope(names=["a"], patterns=["b.*"])
    assert from_legacy("a", validate=False) == nncf.IgnoredScope(names=["a"], validate=False)
