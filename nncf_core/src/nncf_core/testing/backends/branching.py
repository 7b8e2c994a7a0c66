"""Low-rank branches beside layers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from unittest import SkipTest

import numpy as np

from nncf_core.contracts import CompressionRequest, LowRankInserter
from nncf_core.errors import NNCFError
from nncf_core.graph import Graph
from nncf_core.low_rank import layers_of, outputs_and_inputs, product_of, values_of
from nncf_core.numerics.formats import SCHEMES
from nncf_core.numerics.kernels import compress, decompress
from nncf_core.testing.backends.base import BackendSuite, compressed, layout_of
from nncf_core.testing.cases import ModelCase
from nncf_core.testing.suite import expect
from nncf_core.transformations import CompressConstant, InsertLowRank, Transformation

_RANK = 3
_OTHER_STEPS = 1e-5
"""Tolerance, since products are summed in another order."""


class BranchingTests(BackendSuite):
    """``InsertLowRank``, where the backend has it."""

    def test_branches_are_added(self, case: ModelCase) -> None:
        """Layers compute as if the product of the matrices were a part of the weight, and keep their names."""
        for graph, name, edit in self._branches(case):
            model = self.apply(self.opened(case), [edit])
            wanted = self.expected(case, {name: case.weights[name] + _addition(graph, edit)})
            self.same_outputs(self.outputs(model, case), wanted, f"after {_title(edit)}", _OTHER_STEPS)
            after = self.backend.builder.build(model)
            lost = [node.name for node in graph if node.name not in after]
            expect(not lost, f"after {_title(edit)} the graph has no nodes of the names {lost} any more")

    def test_branches_beside_compressed_weights(self, case: ModelCase) -> None:
        """A weight can be compressed in the same round, before or after."""
        for graph, name, edit in self._branches(case):
            scheme = SCHEMES["int8_asym"]
            request = CompressionRequest(scheme.name, scheme.format.name)
            if self.backend.inserter.refusal(graph, graph.constants[name], request, self.options):
                continue
            tensor = compressed(case.weights[name], scheme, layout_of(graph, name), -1)
            values = decompress(tensor, np.float32) + _addition(graph, edit)
            wanted = self.expected(case, {name: values.astype(case.weights[name].dtype)})
            compression = CompressConstant(name, tensor)
            orders: list[list[Transformation]] = [[compression, edit], [edit, compression]]
            for edits in orders:
                found = self.outputs(self.apply(self.opened(case), edits), case)
                titles = " and ".join(type(each).__name__ for each in edits)
                self.same_outputs(found, wanted, f"after {titles} of {name!r}", _OTHER_STEPS)

    def test_branches_that_do_not_fit_are_errors(self, case: ModelCase) -> None:
        """Names that the model lacks, and matrices of other shapes, give one of the framework's errors."""
        for _, name, edit in self._branches(case):
            down, up = values_of(edit.down), values_of(edit.up)
            for wrong in (
                InsertLowRank("no such constant", down, up),
                InsertLowRank(name, down[:-1], up),
                InsertLowRank(name, np.hstack([down, down]), up),
            ):
                try:
                    self.apply(self.opened(case), [wrong])
                except NNCFError:
                    continue
                except Exception as error:
                    expect(False, f"apply must raise an nncf error for {wrong}, not {error!r}")
                expect(False, f"apply must raise an nncf error for {wrong}; it raised nothing")

    def _branches(self, case: ModelCase) -> Iterator[tuple[Graph, str, InsertLowRank]]:
        """Edits of all weights that can have a branch, with matrices of floating-point numbers and compressed ones."""
        inserter = self.backend.inserter
        if not isinstance(inserter, LowRankInserter):
            raise SkipTest("the backend has no low-rank branches")
        opened: Any = self.opened(case)
        graph = self.backend.builder.build(opened)
        for name in case.weights:
            if not graph.constants[name].is_float or not inserter.takes_low_rank(opened, graph, name):
                continue
            for integers in (False, True):
                edit = _edit(graph, name, integers=integers)
                expect(layers_of(graph, edit), f"takes_low_rank() of {name!r} is true, but it is no matrix of layers")
                yield graph, name, edit


def _edit(graph: Graph, name: str, *, integers: bool) -> InsertLowRank:
    outputs, inputs = outputs_and_inputs(graph, name)
    random = np.random.default_rng(0)
    down, up = (random.normal(0, 0.2, shape).astype(np.float32) for shape in ((_RANK, inputs), (outputs, _RANK)))
    if not integers:
        return InsertLowRank(name, down, up)
    dtype, scheme = np.dtype(graph.constants[name].dtype), SCHEMES["int8_asym"]
    return InsertLowRank(
        name,
        compress(down.astype(dtype), scheme, reduction_axes=1),
        compress(up.astype(dtype), scheme, reduction_axes=1),
    )


def _addition(graph: Graph, edit: InsertLowRank) -> np.ndarray:
    """What a branch adds to a weight, in its own type."""
    return product_of(graph, edit).astype(np.dtype(graph.constants[edit.constant].dtype))


def _title(edit: InsertLowRank) -> str:
    kind = "floating-point numbers" if isinstance(edit.down, np.ndarray) else "integers"
    return f"InsertLowRank of {edit.constant!r} with matrices of {kind}"
