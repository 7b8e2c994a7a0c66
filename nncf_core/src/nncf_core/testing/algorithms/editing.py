"""What an algorithm asks for and what it does to a model."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from nncf_core.errors import NNCFError
from nncf_core.graph import Graph
from nncf_core.low_rank import layers_of
from nncf_core.statistics import StatisticsRequest
from nncf_core.testing.algorithms.base import AlgorithmSuite, Round, SectionArgument
from nncf_core.testing.cases import ModelCase
from nncf_core.testing.numpy_backend.model import NumpyModel
from nncf_core.testing.suite import comparable, expect
from nncf_core.transformations import (
    OF_CONSTANTS,
    CompressConstant,
    FoldMask,
    InsertBias,
    InsertLowRank,
    InsertMask,
    InsertMultiply,
    InsertQuantizer,
    InsertThreshold,
    PointKind,
    TargetPoint,
    Transformation,
    masks,
)


class EditTests(AlgorithmSuite):
    """Requests and transformations."""

    def test_requests_name_existing_points(self, case: ModelCase, section: SectionArgument) -> None:
        """Requests are of tensors that the graph has."""
        for done in self._rounds(case, section):
            for request in done.requests:
                expect(isinstance(request, StatisticsRequest), f"requests() gave {request!r}, no StatisticsRequest")
                _check_point(done.graph, request.target, f"requests() asks for {request.key}")

    def test_edits_name_existing_targets(self, case: ModelCase, section: SectionArgument) -> None:
        """Edits are of constants and points that the graph has, with arrays of the right shapes."""
        for done in self._rounds(case, section):
            for edit in done.edits:
                _check_edit(done.graph, edit)

    def test_every_edit_has_a_reason(self, case: ModelCase, section: SectionArgument) -> None:
        """The report can say why something was done."""
        for done in self._rounds(case, section):
            for edit in done.edits:
                expect(edit.reason.strip(), f"{_target(edit)!r} is changed without a reason; fill in `reason`")

    def test_no_constant_is_compressed_twice(self, case: ModelCase, section: SectionArgument) -> None:
        """A constant with several users is compressed once, and not again in a second run."""
        rounds, model = self.run(case.model(), section.section, case.feeds)
        names = [e.constant for done in rounds for e in done.edits if isinstance(e, CompressConstant)]
        twice = sorted({name for name in names if names.count(name) > 1})
        expect(not twice, f"{', '.join(twice)} are compressed more than once in one run")
        again, _ = self.run(model, section.section, case.feeds)
        for done in again:
            for edit in done.edits:
                expect(
                    not isinstance(edit, CompressConstant) or edit.constant not in names,
                    f"{_target(edit)!r}, compressed in a first run, is compressed again in a second: look at "
                    "Constant.is_float",
                )

    def test_result_runs(self, case: ModelCase, section: SectionArgument) -> None:
        """The changed model computes finite outputs of the same names, shapes and types."""
        model = case.model()
        _, result = self.run(model, section.section, case.feeds)
        for feed in case.feeds:
            before, after = model.run(feed), result.run(feed)
            expect(list(before) == list(after), f"the model's outputs became {list(after)}")
            for name, array in after.items():
                expect(
                    array.shape == before[name].shape
                    and array.dtype == before[name].dtype
                    and np.isfinite(array).all(),
                    f"output {name!r} is {array.dtype.name} of shape {array.shape} or not finite; before it was "
                    f"{before[name].dtype.name} of {before[name].shape}",
                )

    def test_the_executor_changes_nothing(self, case: ModelCase, section: SectionArgument) -> None:
        """Every bit is the same without an executor, with one thread, and with four; and when run again."""
        with ThreadPoolExecutor(1) as one, ThreadPoolExecutor(4) as four:
            results = [
                comparable([done.edits for done in self._rounds(case, section, executor=executor)])
                for executor in (None, one, four, None)
            ]
        expect(
            all(result == results[0] for result in results),
            "edits depend on the executor or on earlier runs; map independent work over Context.executor and take its "
            "results in order, and keep no state in the algorithm",
        )

    def test_the_model_is_not_changed(self, case: ModelCase, section: SectionArgument) -> None:
        """The arrays that are read from constants are not written to."""
        model = case.model()
        before = comparable(model.constants)
        self.run(model, section.section, case.feeds)
        expect(comparable(model.constants) == before, "the algorithm wrote into arrays that it read from constants")

    def test_ignored_nodes_are_left_alone(self, case: ModelCase, section: SectionArgument) -> None:
        """No edit touches an ignored node: its points, or the constants that it uses, also where others use them."""
        graph = self._rounds(case, section)[0].graph if self._rounds(case, section) else None
        for node in graph or ():
            if not node.weights:
                continue
            for done in self._rounds(case, section, ignored=frozenset({node.name})):
                for edit in done.edits:
                    users = (
                        {user.name for user, _ in done.graph.users(edit.constant)}
                        if isinstance(edit, OF_CONSTANTS)
                        else {edit.node if isinstance(edit, InsertBias) else edit.target.node}
                    )
                    expect(
                        node.name not in users,
                        f"node {node.name!r} is in the ignored scope, but {_target(edit)!r} is changed; leave out "
                        "constants of which any user is in Context.ignored (nncf_core.contracts.is_excluded)",
                    )

    def test_nothing_is_done_when_all_is_ignored(self, case: ModelCase, section: SectionArgument) -> None:
        """An ignored scope with every node leaves the model as it is."""
        first = self._rounds(case, section)
        ignored = frozenset(node.name for done in first for node in done.graph)
        edits = [edit for done in self._rounds(case, section, ignored=ignored) for edit in done.edits]
        expect(not edits, f"all nodes are ignored, but {[_target(edit) for edit in edits]} are changed")

    def test_models_without_weights_stay_as_they_are(self, case: ModelCase, section: SectionArgument) -> None:
        """A model that has nothing to compress gives no edits and no error."""
        if case.weights:
            return
        edits = [edit for done in self._rounds(case, section) for edit in done.edits]
        expect(not edits, f"the model has no weights, but {[_target(edit) for edit in edits]} are changed")

    def test_refusals_are_respected(self, case: ModelCase, section: SectionArgument) -> None:
        """What the backend refuses is not asked for: other edits, none, or one of the framework's errors."""
        try:
            rounds = self._rounds(case, section, refuse_all=True)
        except NNCFError:
            return
        for done in rounds:
            for edit in done.edits:
                expect(
                    not isinstance(edit, CompressConstant),
                    f"{_target(edit)!r} is compressed to what the backend refuses; ask Context.refusal first",
                )

    def _rounds(self, case: ModelCase, section: SectionArgument, **context: Any) -> list[Round]:
        model: NumpyModel = case.model()
        return self.run(model, section.section, case.feeds, **context)[0]


def _target(edit: Transformation) -> str:
    if isinstance(edit, InsertBias):
        return edit.node
    return str(edit.target) if isinstance(edit, (InsertMultiply, InsertQuantizer, InsertThreshold)) else edit.constant


def _check_point(graph: Graph, point: TargetPoint, what: str) -> None:
    expect(point.node in graph, f"{what}: the graph has no node {point.node!r}")
    node = graph.node(point.node)
    ports: Sequence[object] = node.inputs if point.kind is PointKind.INPUT else node.outputs
    expect(
        0 <= point.port < len(ports),
        f"{what}: node {node.name!r} has {len(ports)} {point.kind.value}s, not a number {point.port}",
    )


def _check_edit(graph: Graph, edit: Transformation) -> None:
    if isinstance(edit, InsertMultiply):
        _check_point(graph, edit.target, "InsertMultiply")
        expect(np.isfinite(edit.factor).all(), f"the factor at {edit.target} is not finite")
        return
    if isinstance(edit, InsertQuantizer):
        _check_point(graph, edit.target, "InsertQuantizer")
        return
    if isinstance(edit, InsertThreshold):
        _check_point(graph, edit.target, "InsertThreshold")
        expect(edit.threshold >= 0, f"the threshold at {edit.target} is {edit.threshold}")
        return
    if isinstance(edit, InsertBias):
        expect(edit.node in graph, f"InsertBias: the graph has no node {edit.node!r}")
        expect(edit.value.ndim == 1 and np.isfinite(edit.value).all(), f"the bias of {edit.node!r} is no finite row")
        return
    constant = graph.constants.get(edit.constant)
    expect(constant is not None, f"{type(edit).__name__}: the graph has no constant {edit.constant!r}")
    assert constant is not None
    if isinstance(edit, InsertLowRank):
        layers_of(graph, edit)  # raises where shapes do not fit
        return
    if isinstance(edit, InsertMask):
        expect(masks(constant.shape, edit.mask.shape), f"the mask of {constant.name!r} has the shape {edit.mask.shape}")
        return
    if isinstance(edit, FoldMask):
        expect(constant.masked, f"{constant.name!r} has no mask to fold")
        return
    shape = edit.tensor.shape if isinstance(edit, CompressConstant) else edit.value.shape
    expect(
        tuple(shape) == constant.shape,
        f"{type(edit).__name__}: {constant.name!r} has shape {constant.shape}, its new values {shape}",
    )
    if isinstance(edit, CompressConstant):
        expect(constant.is_float, f"{constant.name!r} is {constant.dtype} or compressed: it cannot be compressed")
        expect(
            edit.tensor.dtype == constant.dtype,
            f"CompressedTensor.dtype of {constant.name!r} is {edit.tensor.dtype}; the constant is {constant.dtype}",
        )
