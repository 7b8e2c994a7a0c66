"""Ignored scopes: which nodes the user excludes."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from attrs import evolve, field, frozen

from nncf_core.dataclass_like import dataclass_like
from nncf_core.errors import ValidationError
from nncf_core.graph import Graph, Node

T = TypeVar("T")


_HINTED = 5
"""Unmatched rules that get close matches: looking for them takes a second in a graph of 20,000 nodes."""


UNCHECKED = "validate=False"
"""What lets the rules of an ignored scope match nothing, as messages say it."""

UNCHECKED_LISTS = '"validate_scopes": false'
"""The same of a config's ``ignored_scopes`` and ``target_scopes``."""


def _list(values: Iterable[str]) -> list[str]:
    if isinstance(values, str):
        raise ValidationError(f"Expected a list of strings, got the string {values!r}; write [{values!r}].")
    return _items(values, str, "strings")


def _subgraphs(values: Iterable[Subgraph]) -> list[Subgraph]:
    return _items(values, Subgraph, "nncf.Subgraph")


def _items(values: Iterable[T], kind: type[T], what: str) -> list[T]:
    if not isinstance(values, Iterable):
        raise ValidationError(f"Expected a list of {what}, got {values!r}.")
    listed = list(values)
    for value in listed:
        if not isinstance(value, kind):
            raise ValidationError(f"Expected a list of {what}, got {value!r} in it.")
    return listed


@dataclass_like
@frozen
class Subgraph:
    """All nodes on paths from input to output nodes, these included.

    :param inputs: names of the input nodes.
    :param outputs: names of the output nodes.
    """

    inputs: list[str] = field(factory=list, converter=_list)
    outputs: list[str] = field(factory=list, converter=_list)


@dataclass_like
@frozen
class IgnoredScope:
    """Parts of a model that are excluded from compression.

    :param names: names of nodes, or of constants.
    :param patterns: regular expressions that a name must match from its start.
    :param types: operator types, in the framework's words.
    :param subgraphs: subgraphs.
    :param validate: whether a rule that matches nothing is an error.
    """

    names: list[str] = field(factory=list, converter=_list)
    patterns: list[str] = field(factory=list, converter=_list)
    types: list[str] = field(factory=list, converter=_list)
    subgraphs: list[Subgraph] = field(factory=list, converter=_subgraphs)
    validate: bool = True


def from_legacy(scopes: str | Sequence[str], validate: bool = True) -> IgnoredScope:
    """The ignored scope for a config's ``ignored_scopes``: names, and ``{re}`` before regular expressions."""
    listed = [scopes] if isinstance(scopes, str) else list(scopes)
    return IgnoredScope(
        names=[scope for scope in listed if not scope.startswith("{re}")],
        patterns=[scope.removeprefix("{re}") for scope in listed if scope.startswith("{re}")],
        validate=validate,
    )


def ignored_names(
    graph: Graph, scope: IgnoredScope, what: str = "The ignored scope", unchecked: str = UNCHECKED
) -> frozenset[str]:
    """Names of the nodes and constants that a scope excludes, or that another kind of scope means.

    :param what: the scope, as messages call it.
    :param unchecked: what to set so that rules may match nothing, as messages say it.
    :raises ValidationError: for a bad regular expression, and, unless ``scope.validate`` is false, when a
        rule matches nothing; the message lists every such rule with close matches.
    """
    if evolve(scope, validate=True) == IgnoredScope():
        return frozenset()
    known = {name: node.name for node in graph for name in node.names} | {name: name for name in graph.constants}
    types = {node.op_type for node in graph}
    found: set[str] = set()
    unmatched: list[str] = []

    def take(rule: str, matched: Iterable[str], wanted: Iterable[str] = (), among: Iterable[str] = ()) -> None:
        before = list(matched)
        found.update(before)
        if scope.validate and not before:
            unmatched.append(rule + (_hint(wanted, among) if len(unmatched) < _HINTED else ""))

    for name in scope.names:
        take(f"name {name!r}", {known[name]} if name in known else (), [name], known)
    for pattern in scope.patterns:
        expression = _compile(pattern)
        take(f"pattern {pattern!r}", (own for name, own in known.items() if expression.match(name)))
    for op_type in scope.types:
        take(f"type {op_type!r}", (n.name for n in graph if n.op_type == op_type), [op_type], types)
    for subgraph in scope.subgraphs:
        missing = [name for name in (*subgraph.inputs, *subgraph.outputs) if name not in graph]
        rule = f"subgraph from {subgraph.inputs} to {subgraph.outputs}"
        if missing:
            rule += f", which needs {', '.join(map(repr, missing))}"
        take(rule, _between(graph, subgraph), missing, (node.name for node in graph))
    if unmatched:
        raise ValidationError(
            f"{what} names what the model does not have: {'; '.join(unmatched)}. Correct it, or set {unchecked}."
        )
    return frozenset(found)


def ignored_after(
    graph: Graph,
    scope: IgnoredScope,
    before: Graph,
    what: str = "The ignored scope",
    unchecked: str = UNCHECKED,
) -> frozenset[str]:
    """The same for a model that was changed since the user saw it: rules may match what is no longer there.

    :param before: the graph of the model as it was.
    """
    return ignored_names(before, scope, what, unchecked) | ignored_names(graph, evolve(scope, validate=False))


def outside(graph: Graph, targets: IgnoredScope | None, before: Graph) -> frozenset[str]:
    """Names of the nodes that are not among those that alone are meant, neither by their names nor by a constant's.

    :param targets: ``None``: all are meant.
    :param before: the graph of the model as it was.
    """
    if targets is None:
        return frozenset()
    meant = ignored_after(graph, targets, before, 'The config\'s "target_scopes"', UNCHECKED_LISTS)
    return frozenset(
        node.name
        for node in graph
        if node.name not in meant and not any(port.constant in meant for port in node.inputs)
    )


def _hint(wanted: Iterable[str], among: Iterable[str]) -> str:
    candidates = sorted(among)
    close = [match for name in wanted for match in difflib.get_close_matches(name, candidates, n=3)]
    return f" (did you mean {', '.join(map(repr, dict.fromkeys(close)))}?)" if close else ""


def _compile(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as error:
        raise ValidationError(
            f"The ignored scope's pattern {pattern!r} is not a regular expression: {error}."
        ) from None


def _between(graph: Graph, subgraph: Subgraph) -> set[str]:
    """Nodes reachable from an input from which an output is reachable: the union over all simple paths of a
    graph without cycles, in linear time."""
    starts = [graph.node(name) for name in subgraph.inputs if name in graph]
    ends = [graph.node(name) for name in subgraph.outputs if name in graph]
    if len(starts) < len(subgraph.inputs) or len(ends) < len(subgraph.outputs):
        return set()
    return _reach(starts, graph.successors) & _reach(ends, graph.predecessors)


def _reach(starts: Iterable[Node], step: Callable[[Node], Iterable[Node]]) -> set[str]:
    seen: set[str] = set()
    waiting = list(starts)
    while waiting:
        node = waiting.pop()
        if node.name not in seen:
            seen.add(node.name)
            waiting.extend(step(node))
    return seen
