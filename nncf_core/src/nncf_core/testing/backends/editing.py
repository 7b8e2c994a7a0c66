"""Edits other than compression."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any
from unittest import SkipTest

import numpy as np

from nncf_core.contracts import BiasInserter
from nncf_core.errors import NNCFError
from nncf_core.graph import Constant, Graph, Node, OpKind, WeightLayout
from nncf_core.testing.backends.base import BackendSuite, activation_of, compressed, layout_of, weight_uses
from nncf_core.testing.cases import ModelCase
from nncf_core.testing.suite import comparable, expect
from nncf_core.transformations import (
    CompressConstant,
    InsertBias,
    InsertMultiply,
    PointKind,
    ReplaceConstant,
    TargetPoint,
    Transformation,
)


class EditingTests(BackendSuite):
    """``ReplaceConstant``, ``InsertMultiply`` and, where the backend has it, ``InsertBias``.

    Multiplications are by powers of two and undone in a weight, so that nothing is rounded.
    """

    def test_no_edits_change_nothing(self, case: ModelCase) -> None:
        """A model without edits computes the same."""
        self.same_outputs(
            self.outputs(self.apply(self.opened(case), []), case), self.expected(case, {}), "without edits"
        )

    def test_replace_is_exact(self, case: ModelCase) -> None:
        """New values take the old ones' place for all users, in the constant's own type."""
        random = np.random.default_rng(0)
        weights = {name: random.normal(0, 0.3, array.shape) for name, array in case.weights.items()}
        model = self.apply(self.opened(case), [ReplaceConstant(name, array) for name, array in weights.items()])
        graph = self.backend.builder.build(model)
        cast = {name: array.astype(case.weights[name].dtype) for name, array in weights.items()}
        for name, array in cast.items():
            expect(
                name in graph.constants and comparable(np.array(graph.constants[name].read())) == comparable(array),
                f"after ReplaceConstant, constant {name!r} does not read as the new values in {array.dtype.name}",
            )
        self.same_outputs(self.outputs(model, case), self.expected(case, cast), "after ReplaceConstant")

    def test_edits_are_applied_in_order(self, case: ModelCase) -> None:
        """Of two replacements the last one counts."""
        edits = [ReplaceConstant(name, array * factor) for name, array in case.weights.items() for factor in (2, 0.5)]
        wanted = {name: array * np.asarray(0.5, array.dtype) for name, array in case.weights.items()}
        model = self.apply(self.opened(case), edits)
        self.same_outputs(self.outputs(model, case), self.expected(case, wanted), "after two ReplaceConstant each")

    def test_multiply_at_an_input(self, case: ModelCase) -> None:
        """The factor reaches this input alone, and broadcasts."""
        graph = self.backend.builder.build(self.opened(case))
        for node, index, constant, layout in _linear(graph):
            point = activation_of(node)
            if point is None:
                continue
            last = node.kind is OpKind.MATMUL and index > point.port
            axis = layout.reduction_axes[0] if last and len(layout.reduction_axes) == 1 else None
            edits = _undone(InsertMultiply(point, _factor(constant, axis), f"{node.name}/test"), constant, axis)
            self._check_neutral(case, edits, f"after InsertMultiply at {point}, undone in {constant.name!r},")

    def test_multiply_at_an_output(self, case: ModelCase) -> None:
        """The factor reaches all consumers, and broadcasts."""
        graph = self.backend.builder.build(self.opened(case))
        for node, index, constant, layout in _linear(graph):
            if sum(port.constant is not None for port in node.inputs) > 1:
                continue  # a bias would be multiplied, too
            point = TargetPoint(node.name, PointKind.OUTPUT, 0)
            last = node.kind is OpKind.MATMUL and index == len(node.inputs) - 1
            axis = layout.channel_axes[0] if last and len(layout.channel_axes) == 1 else None
            edits = _undone(InsertMultiply(point, _factor(constant, axis), f"{node.name}/test"), constant, axis)
            self._check_neutral(case, edits, f"after InsertMultiply at {point}, undone in {constant.name!r},")

    def test_bias_is_added(self, case: ModelCase) -> None:
        """A new bias is added to each channel of what a layer gives, and found again as a constant."""
        inserter = self.backend.inserter
        if not isinstance(inserter, BiasInserter):
            raise SkipTest("the backend does not add biases")
        opened = self.opened(case)
        graph = self.backend.builder.build(opened)
        for node, index, constant, layout in _linear(graph):
            channels = int(np.prod([constant.shape[axis] for axis in (*layout.batch_axes, *layout.channel_axes)]))
            plain = node.kind is OpKind.MATMUL and (layout.batch_axes or index == 0)
            biased = sum(port.constant is not None for port in node.inputs) > 1
            if node.kind not in _LAYERS or plain or biased or not inserter.takes_bias(opened, graph, node):
                continue
            value = np.exp2(np.arange(channels) % 5 - 2).astype(np.float32)
            model = self.apply(self.opened(case), [InsertBias(node.name, value)])
            found = [np.array(c.read()) for c in self.backend.builder.build(model).constants.values()]
            expect(
                any(array.size == value.size and (array.reshape(-1) == value).all() for array in found),
                f"after InsertBias at {node.name!r}, no constant of the graph holds the bias",
            )
            before, after = (self._given_by(made, node.name, case) for made in (self.opened(case), model))
            shape = [1] * before.ndim
            shape[-1 if node.kind is OpKind.MATMUL else 1] = -1
            self.same(after, before + value.astype(before.dtype).reshape(shape), f"after InsertBias at {node.name!r}")

    def _given_by(self, model: Any, name: str, case: ModelCase) -> np.ndarray:
        """What a layer gives for the first feed, with an addition behind it."""
        graph = self.backend.builder.build(model)
        consumers = graph.consumers(graph.node(name).outputs[0].tensor)
        added = [node.name for node in consumers if node.kind is OpKind.ADD and node.name.startswith(f"{name}/")]
        point = TargetPoint((added or [name])[0])
        run = self.backend.inserter.runner(self.backend.inserter.extract(model, (), [point]))
        return np.asarray(run(case.feeds[0])[str(point)])

    def test_multiply_at_the_end(self, case: ModelCase) -> None:
        """A factor at the tensor that leaves the model scales the model's output, which keeps its name."""
        graph = self.backend.builder.build(self.opened(case))
        ends = [
            n for n in graph if not n.scope and n.outputs and n.kind is not OpKind.OUTPUT and not _consumed(graph, n)
        ]
        expect(ends, "the graph has no node whose output leaves the model")
        edits = [InsertMultiply(TargetPoint(n.name, PointKind.OUTPUT, 0), np.asarray(4.0)) for n in ends]
        found = self.outputs(self.apply(self.opened(case), edits), case)
        plain = self.expected(case, {})
        wanted = [{name: array * np.asarray(4, array.dtype) for name, array in each.items()} for each in plain]
        self.same_outputs(found, wanted, "after InsertMultiply by 4 at the last nodes' outputs")

    def test_several_edits_of_one_point(self, case: ModelCase) -> None:
        """Two multiplications at one point, without names, both count."""
        graph = self.backend.builder.build(self.opened(case))
        points = [point for node in graph if node.weights and (point := activation_of(node)) is not None]
        edits = [
            InsertMultiply(point, np.asarray(factor))
            for point in points
            if _is_float(graph, point)
            for factor in (4.0, 0.25)
        ]
        self._check_neutral(case, edits, "after InsertMultiply by 4 and by 1/4 at each weighted node")

    def test_edits_of_unknown_targets_are_errors(self, case: ModelCase) -> None:
        """Names that the model lacks, and values of another shape, give one of the framework's errors."""
        wrong: list[Transformation] = [
            ReplaceConstant("no such constant", np.zeros((2, 2), np.float32)),
            InsertMultiply(TargetPoint("no such node"), np.asarray(2.0)),
        ]
        for name, array in case.weights.items():
            wrong.append(ReplaceConstant(name, np.zeros((*array.shape, 2), array.dtype)))
        graph = self.backend.builder.build(self.opened(case))
        if case.weights:
            name, array = next(iter(case.weights.items()))
            from nncf_core.numerics.formats import SCHEMES

            tensor = compressed(array, SCHEMES["int8_asym"], layout_of(graph, name), -1)
            wrong.append(CompressConstant("no such constant", tensor))
            wrong.append(InsertMultiply(TargetPoint(next(iter(graph)).name, PointKind.INPUT, 99), np.asarray(2.0)))
        for edit in wrong:
            try:
                self.apply(self.opened(case), [edit])
            except NNCFError:
                continue
            except Exception as error:
                expect(False, f"apply must raise an nncf error for {edit}, not {error!r}")
            expect(False, f"apply must raise an nncf error for {edit}; it raised nothing")

    def _check_neutral(self, case: ModelCase, edits: Sequence[Transformation], what: str) -> None:
        model = self.apply(self.opened(case), edits)
        self.same_outputs(self.outputs(model, case), self.expected(case, {}), what)
        graph = self.backend.builder.build(model)
        for edit in edits:
            if isinstance(edit, InsertMultiply) and edit.name:
                expect(edit.name in graph, f"{what} no node of the graph has the name {edit.name!r} that was asked for")


_LAYERS = (OpKind.CONV, OpKind.CONV_TRANSPOSE, OpKind.MATMUL)


def _linear(graph: Graph) -> Iterator[tuple[Node, int, Constant, WeightLayout]]:
    """Weighted nodes whose weight nobody else uses."""
    for node, index, _, constant, layout in weight_uses(graph):
        if len(graph.users(constant.name)) == 1 and constant.is_float and not node.scope:
            yield node, index, constant, layout


def _factor(constant: Constant, axis: int | None) -> np.ndarray:
    """Powers of two, one for each index along an axis, or a single one."""
    if axis is None:
        return np.asarray(4.0, np.float32)
    return np.exp2(np.arange(constant.shape[axis]) % 5 - 2).astype(np.float32)


def _undone(edit: InsertMultiply, constant: Constant, axis: int | None) -> tuple[Transformation, ...]:
    """The edit, and the weight divided by its factor."""
    shape = [1] * len(constant.shape)
    if axis is not None:
        shape[axis] = constant.shape[axis]
    divided = constant.read().astype(np.float32) / edit.factor.reshape(shape if axis is not None else ())
    return edit, ReplaceConstant(constant.name, divided)


def _is_float(graph: Graph, point: TargetPoint) -> bool:
    dtype = graph.node(point.node).inputs[point.port].dtype
    return dtype is not None and "float" in dtype


def _consumed(graph: Graph, node: Node) -> bool:
    others = [n for port in node.outputs for n in graph.consumers(port.tensor) if n.kind is not OpKind.OUTPUT]
    return bool(others)
