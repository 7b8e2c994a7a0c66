"""Compressed weights: written exactly, recognised, and decompressed again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from nncf_core.contracts import CompressionRequest, SizingInserter
from nncf_core.errors import NNCFError
from nncf_core.graph import Graph, WeightLayout
from nncf_core.numerics.formats import Scheme
from nncf_core.numerics.kernels import decompress
from nncf_core.numerics.tensor import CompressedTensor
from nncf_core.report import weight_constants
from nncf_core.strip_formats import InPlace
from nncf_core.testing.backends.base import (
    BackendSuite,
    SchemeArgument,
    compressed,
    group_sizes,
    layout_of,
    request_for,
)
from nncf_core.testing.cases import ModelCase
from nncf_core.testing.suite import comparable, expect
from nncf_core.transformations import CompressConstant


class CompressingTests(BackendSuite):
    """``CompressConstant``, ``refusal``, and reading compressed constants."""

    def test_refusals_are_stable_and_explained(self, case: ModelCase, scheme: SchemeArgument) -> None:
        """``refusal`` answers the same twice, with ``None`` or a sentence."""
        graph = self.backend.builder.build(self.opened(case))
        for name, _, request in self._requests(graph, case, scheme.scheme):
            first, second = (self._refusal(graph, name, request) for _ in range(2))
            expect(first == second, f"TargetPointInserter.refusal answers {first!r}, then {second!r}, to {request}")
            expect(
                first is None or (isinstance(first, str) and len(first.split()) >= 3),
                f"refusal() must say why it refuses {request}, and what would work; it says {first!r}",
            )

    def test_refused_formats_are_not_written(self, case: ModelCase, scheme: SchemeArgument) -> None:
        """``apply`` raises one of the framework's errors for what ``refusal`` refuses."""
        graph = self.backend.builder.build(self.opened(case))
        for name, layout, request in self._requests(graph, case, scheme.scheme):
            if self._refusal(graph, name, request) is None:
                continue
            tensor = compressed(case.weights[name], scheme.scheme, layout, request.group_size)
            try:
                self.apply(self.opened(case), [CompressConstant(name, tensor)])
            except NNCFError:
                continue
            except Exception as error:
                expect(False, f"apply must raise an nncf error for the refused {request}, not {error!r}")
            expect(False, f"refusal() refuses {request} for {name!r}, but apply() does it; make the two agree")

    def test_compression_is_exact(self, case: ModelCase, scheme: SchemeArgument) -> None:
        """Outputs are those of the model whose weights are the decompressed tensors."""
        for size, model, tensors in self._compressed(case, scheme.scheme):
            weights = {name: decompress(tensor) for name, tensor in tensors.items()}
            self.same_outputs(
                self.outputs(model, case),
                self.expected(case, weights),
                f"after CompressConstant with {scheme}, group size {size}",
            )

    def test_compressed_constants_are_recognised(self, case: ModelCase, scheme: SchemeArgument) -> None:
        """A graph built afterwards has the codes, under the constant's old name."""
        before = self.backend.builder.build(self.opened(case))
        for size, model, tensors in self._compressed(case, scheme.scheme):
            what = f"after CompressConstant with {scheme}, group size {size},"
            graph = self.backend.builder.build(model)
            weights = [constant.name for constant in weight_constants(graph)]
            for name, tensor in tensors.items():
                expect(name in weights, f"{what} no weight of the graph has the name {name!r}; there are {weights}")
                constant = graph.constants[name]
                expect(
                    not constant.is_float and constant.compressed is not None and constant.compressed_format,
                    f"{what} the constant {name!r} is not recognised as compressed (compressed, compressed_format), so "
                    "it could be compressed twice",
                )
                assert constant.compressed is not None
                found, layout = constant.compressed().on_host(), layout_of(graph, name)
                _same_tensor(found, tensor, layout, f"{what} the constant {name!r}")
                expect(
                    comparable(np.array(constant.read())) == comparable(decompress(found)),
                    f"{what} Constant.read of {name!r} does not give the decompressed values",
                )
                expect(
                    (found.dtype, found.shape) == (constant.dtype, constant.shape),
                    f"{what} {name!r} is stated to be {constant.dtype} of shape {constant.shape}, but decompresses to "
                    f"{found.dtype} of {found.shape}",
                )
                stated = self._stored_bytes(before, name, tensor)
                expect(
                    constant.stored_bytes == stated,
                    f"{what} {name!r} takes {constant.stored_bytes} bytes (Constant.stored_bytes), not the {stated} of "
                    "TargetPointInserter.stored_bytes, or of the tensor itself where the backend has no such method",
                )

    def test_strip_in_place_gives_floats(self, case: ModelCase, scheme: SchemeArgument) -> None:
        """``ReplaceConstant`` of a compressed constant makes it float again, with the values given."""
        for size, model, tensors in self._compressed(case, scheme.scheme):
            what = f"after CompressConstant with {scheme}, group size {size}, and strip IN_PLACE,"
            stripped = self.apply(model, tuple(InPlace().strip(self.backend.builder.build(model))))
            graph = self.backend.builder.build(stripped)
            for name, tensor in tensors.items():
                expect(
                    name in graph.constants and graph.constants[name].is_float,
                    f"{what} the graph has no floating-point constant {name!r}",
                )
                got = _canonical(np.array(graph.constants[name].read()), layout_of(graph, name))
                expect(
                    comparable(got) == comparable(_canonical(decompress(tensor), _layout(tensor))),
                    f"{what} {name!r} does not hold the decompressed values",
                )
            weights = {name: decompress(tensor) for name, tensor in tensors.items()}
            self.same_outputs(self.outputs(stripped, case), self.expected(case, weights), what)

    def _refusal(self, graph: Graph, name: str, request: CompressionRequest) -> str | None:
        return self.backend.inserter.refusal(graph, graph.constants[name], request, self.options)

    def _stored_bytes(self, graph: Graph, name: str, tensor: CompressedTensor) -> int:
        inserter = self.backend.inserter
        if not isinstance(inserter, SizingInserter):
            return tensor.nbytes
        return inserter.stored_bytes(graph, graph.constants[name], tensor, self.options)

    def _requests(
        self, graph: Graph, case: ModelCase, scheme: Scheme
    ) -> Iterator[tuple[str, WeightLayout, CompressionRequest]]:
        for name, array in case.weights.items():
            layout = layout_of(graph, name)
            for size in group_sizes(scheme, layout, array.shape):
                yield name, layout, request_for(scheme, layout, size)

    def _compressed(self, case: ModelCase, scheme: Scheme) -> Iterator[tuple[int, Any, dict[str, CompressedTensor]]]:
        """For each group size: the model with all weights compressed that the backend does not refuse."""
        graph = self.backend.builder.build(self.opened(case))
        by_size: dict[int, dict[str, CompressedTensor]] = {}
        for name, layout, request in self._requests(graph, case, scheme):
            if self._refusal(graph, name, request) is None:
                tensor = compressed(case.weights[name], scheme, layout, request.group_size)
                by_size.setdefault(request.group_size, {})[name] = tensor
        for size, tensors in by_size.items():
            edits = [CompressConstant(name, tensor) for name, tensor in tensors.items()]
            yield size, self.apply(self.opened(case), edits), tensors


def _same_tensor(got: CompressedTensor, want: CompressedTensor, layout: WeightLayout, what: str) -> None:
    """Fail unless two tensors mean the same; the first may have another order of axes, if its layout says so."""
    expect(got.dtype == want.dtype, f"{what} decompresses to {got.dtype}; the constant was {want.dtype}")
    values = _canonical(decompress(want, np.float32), _layout(want))
    found = _canonical(decompress(got, np.float32), layout)
    expect(found.shape == values.shape, f"{what} reads with channels × reduced axes {found.shape}, not {values.shape}")
    expect(
        comparable(found) == comparable(values),
        f"{what} does not read back with the values that were given: codes, scales or zero points are lost",
    )
    if got.format == want.format and got.shape == want.shape:
        # a backend may store another format that means the same, such as unsigned codes with a zero point
        expect(np.array_equal(got.codes, want.codes), f"{what} does not read back with the codes that were given")


def _canonical(values: np.ndarray, layout: WeightLayout) -> np.ndarray:
    """Axes in the order: all that remain, then those that are summed over."""
    kept = [axis for axis in range(values.ndim) if axis not in layout.reduction_axes]
    return np.ascontiguousarray(values.transpose([*kept, *layout.reduction_axes]))


def _layout(tensor: CompressedTensor) -> WeightLayout:
    return WeightLayout(tuple(tensor.reduction_axes), ())
