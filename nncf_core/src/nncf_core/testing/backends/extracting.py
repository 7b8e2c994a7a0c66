"""Runnable sub-models between target points."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from nncf_core.errors import NNCFError
from nncf_core.graph import Graph
from nncf_core.testing.backends.base import BackendSuite, activation_of
from nncf_core.testing.cases import ModelCase
from nncf_core.testing.suite import expect
from nncf_core.transformations import PointKind, TargetPoint


class ExtractingTests(BackendSuite):
    """``extract`` and ``runner``."""

    def test_runner_is_repeatable(self, case: ModelCase) -> None:
        """The same feed gives the same outputs, and is not changed."""
        run = self.backend.inserter.runner(self.opened(case))
        feed = {name: np.array(array) for name, array in case.feeds[0].items()}
        first, second = run(feed), run(feed)
        for name, array in case.feeds[0].items():
            expect(np.array_equal(feed[name], array), f"the runner changed its feed {name!r}")
        for name in first:
            expect(np.array_equal(first[name], second[name]), f"the runner gives two results for one feed ({name!r})")

    def test_outputs_are_named_by_their_points(self, case: ModelCase) -> None:
        """Outputs come in the order in which the points were given; one tensor may be asked for twice."""
        model = self.opened(case)
        graph = self.backend.builder.build(model)
        points = [*_outputs(graph)][::-1]
        points += [point for node in graph if (point := activation_of(node)) is not None]
        run = self.backend.inserter.runner(self.backend.inserter.extract(model, (), points))
        found = list(run(_feed_of(case)))
        wanted = [str(point) for point in points]
        expect(found == wanted, f"the outputs of extract(model, (), {wanted}) are named {found}")
        self.same_outputs(
            self.outputs(model, case), self.expected(case, {}), "after extract, which must change nothing,"
        )

    def test_an_input_is_its_producers_output(self, case: ModelCase) -> None:
        """The tensor at a node's input is that at the output of the node before it."""
        model = self.opened(case)
        graph = self.backend.builder.build(model)
        for node in graph:
            point = activation_of(node)
            if point is None:
                continue
            before = graph.producer(node.inputs[point.port].tensor)
            if before is None or before.scope:
                continue
            tensor = node.inputs[point.port].tensor
            port = next(i for i, output in enumerate(before.outputs) if output.tensor == tensor)
            other = TargetPoint(before.name, PointKind.OUTPUT, port)
            part = self.backend.inserter.extract(model, (), (point, other))
            tensors = self.backend.inserter.runner(part)(_feed_of(case))
            self.same(tensors[str(point)], tensors[str(other)], f"the tensor at {point}, compared with {other},")

    def test_a_layer_alone_computes_the_same(self, case: ModelCase) -> None:
        """A layer cut out at both ends, fed with its own input, gives its own output."""
        model = self.opened(case)
        graph = self.backend.builder.build(model)
        for node in graph:
            start = activation_of(node)
            if start is None or not node.weights:
                continue
            end = TargetPoint(node.name, PointKind.OUTPUT, 0)
            whole = self.backend.inserter.extract(model, (), (start, end))
            tensors = self.backend.inserter.runner(whole)(_feed_of(case))
            layer = self.backend.inserter.extract(model, (start,), (end,))
            found = self.backend.inserter.runner(layer)({str(start): tensors[str(start)]})
            expect(list(found) == [str(end)], f"the outputs of the layer {node.name!r} are named {list(found)}")
            self.same(found[str(end)], tensors[str(end)], f"the output of the layer {node.name!r} alone")

    def test_points_that_do_not_exist_are_errors(self, case: ModelCase) -> None:
        """An unknown node or port gives one of the framework's errors."""
        model = self.opened(case)
        some = next(iter(self.backend.builder.build(model))).name
        for point in (TargetPoint("no such node"), TargetPoint(some, PointKind.OUTPUT, 99)):
            try:
                self.backend.inserter.extract(model, (), (point,))
            except NNCFError:
                continue
            except Exception as error:
                expect(False, f"extract must raise an nncf error for the unknown point {point}, not {error!r}")
            expect(False, f"extract must raise an nncf error for the unknown point {point}; it raised nothing")


def _outputs(graph: Graph) -> Iterator[TargetPoint]:
    for node in graph:
        if not node.scope and node.outputs:
            yield TargetPoint(node.name, PointKind.OUTPUT, 0)


def _feed_of(case: ModelCase) -> dict[str, np.ndarray]:
    return {name: np.array(array) for name, array in case.feeds[0].items()}
