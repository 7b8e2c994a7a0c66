"""Quantizers of activations, and weights that operators compute with as integers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any
from unittest import SkipTest

import numpy as np

from nncf_core.contracts import CompressionRequest, PreparingInserter, QuantizingInserter
from nncf_core.errors import ParameterNotSupportedError
from nncf_core.graph import Graph, WeightLayout
from nncf_core.numerics.formats import FORMATS
from nncf_core.numerics.kernels import decompress
from nncf_core.numerics.quantizer import Quantizer
from nncf_core.numerics.tensor import CompressedTensor
from nncf_core.strip_formats import InPlace, StoreLowBit
from nncf_core.testing.backends.base import BackendSuite, activation_of, layout_of
from nncf_core.testing.cases import ModelCase
from nncf_core.testing.suite import expect
from nncf_core.transformations import CompressConstant, InsertQuantizer, PointKind, TargetPoint


class QuantizingTests(BackendSuite):
    """``InsertQuantizer``, and ``CompressConstant`` of integer operands, where the backend is a ``QuantizingInserter``.

    Scales are powers of two, so that dividing by them rounds nothing.
    """

    def test_the_setup_of_any_device(self) -> None:
        """Some operators are computed with integers."""
        expect(self._inserter().quantization_setup("ANY").operators, "quantization_setup('ANY') has no operators")

    def test_preparing_changes_no_result(self, case: ModelCase) -> None:
        """A model that was prepared for quantizers computes what it did."""
        inserter = self.backend.inserter
        if not isinstance(inserter, PreparingInserter):
            raise SkipTest("the backend prepares no models")
        model = inserter.prepare(self.opened(case), self.options)
        self.same_outputs(self.outputs(model, case), self.expected(case, {}), "after preparing")

    def test_quantizers_round_inputs(self, case: ModelCase) -> None:
        """The node at whose input a quantizer stands gets what :meth:`Quantizer.apply` makes of the tensor."""
        for graph, point in self._points(case):
            self._check(case, graph, point, point)

    def test_quantizers_round_outputs(self, case: ModelCase) -> None:
        """All who take the tensor at whose producer a quantizer stands get it quantized."""
        for graph, point in self._points(case):
            port = graph.node(point.node).inputs[point.port]
            producer = graph.producer(port.tensor)
            if producer is None or producer.scope:
                continue
            index = next(i for i, output in enumerate(producer.outputs) if output.tensor == port.tensor)
            self._check(case, graph, TargetPoint(producer.name, PointKind.OUTPUT, index), point)

    def test_quantizers_to_8_bit_floats(self, case: ModelCase) -> None:
        """The same of the formats that the setup names, unless the model cannot hold them, which an error says."""
        formats = self._inserter().quantization_setup("ANY").float8
        for graph, point in self._points(case):
            for name in formats:
                with suppress(ParameterNotSupportedError):
                    self._check(case, graph, point, point, name)

    def test_quantizers_of_few_bits(self, case: ModelCase) -> None:
        """The same of integers of 4 and of 5 bits, beyond whose range values are cut off."""
        for graph, point in self._points(case):
            for bits in (4, 5):
                self._check(case, graph, point, point, bits=bits)

    def test_integer_operands_are_exact(self, case: ModelCase) -> None:
        """Outputs are those of the decompressed weights, also after ``strip`` to ``DQ`` and ``IN_PLACE``."""
        self._inserter()
        graph = self.backend.builder.build(self.opened(case))
        request = CompressionRequest("int8_sym", "int8")
        tensors = {
            name: _integers(array, layout_of(graph, name))
            for name, array in case.weights.items()
            if self.backend.inserter.refusal(graph, graph.constants[name], request, self.options) is None
        }
        edits = [CompressConstant(name, tensor, integer_operand=True) for name, tensor in tensors.items()]
        wanted = self.expected(case, {name: decompress(tensor) for name, tensor in tensors.items()})
        what = "after CompressConstant with integer_operand"
        model = self.apply(self.opened(case), edits)
        self.same_outputs(self.outputs(model, case), wanted, what)
        found = self.backend.builder.build(model).constants
        for name in tensors:
            expect(
                name in found and found[name].compressed is not None,
                f"{what} the constant {name!r} is not recognised as compressed",
            )
        for form in (StoreLowBit(), InPlace()):
            model = self.apply(model, tuple(form.strip(self.backend.builder.build(model))))
            self.same_outputs(self.outputs(model, case), wanted, f"{what} and strip {form.name}")
            left = self.backend.builder.build(model).constants
            wrong = [
                name
                for name in tensors
                if left[name].stored_as_float or left[name].is_float is not isinstance(form, InPlace)
            ]
            expect(not wrong, f"{what} and strip {form.name}, these weights have another form: {wrong}")

    def _inserter(self) -> QuantizingInserter:
        inserter = self.backend.inserter
        if not isinstance(inserter, QuantizingInserter):
            raise SkipTest(f"the {self.framework} backend inserts no quantizers")
        return inserter

    def _points(self, case: ModelCase) -> Iterator[tuple[Graph, TargetPoint]]:
        """Where nodes with weights take floating-point numbers."""
        self._inserter()
        graph = self.backend.builder.build(self.opened(case))
        for node in graph:
            point = activation_of(node) if node.weights else None
            if point is not None and "float" in (node.inputs[point.port].dtype or ""):
                yield graph, point

    def _check(
        self,
        case: ModelCase,
        graph: Graph,
        at: TargetPoint,
        seen: TargetPoint,
        float8: str | None = None,
        bits: int = 8,
    ) -> None:
        before = self._tensor(self.opened(case), seen, case)
        wide = before.astype(np.float32)
        step = np.exp2(np.ceil(np.log2(np.abs(wide).max() / 100)))
        if bits < 8:
            # half of the range of the values
            step = step * np.exp2(7 - bits)
        quantizer = Quantizer(step, 2**bits * 15 // 32, 0, 2**bits - 1)
        if float8 is not None:
            top = int(FORMATS[float8].max_value)
            quantizer = Quantizer(step * np.exp2(-3), 0, -top, top, float8=float8)
        edit = InsertQuantizer(at, quantizer, f"{at.node}/test")
        model = self.apply(self.opened(case), [edit])
        what = f"the tensor at {seen} after InsertQuantizer at {at}"
        found, wanted = self._tensor(model, seen, case), quantizer.apply(before)
        expect(found.shape == wanted.shape, f"{what} has shape {found.shape}, it should have {wanted.shape}")
        # half a step goes up or down; a runtime may round to float16 before it does to 8 bits
        ties = np.abs(wide / step % 1 - 0.5) < 1e-3
        if float8 is not None:
            ties = quantizer.apply(wide * np.float32(1 - 1e-3)) != quantizer.apply(wide * np.float32(1 + 1e-3))
        self.same(np.where(ties, wanted, found), wanted, what)
        names = [node.name for node in self.backend.builder.build(model) if node.name.startswith(edit.name)]
        expect(names, f"no node of the graph has a name that begins with {edit.name!r}, which was asked for")

    def _tensor(self, model: Any, point: TargetPoint, case: ModelCase) -> np.ndarray:
        part = self.backend.inserter.extract(model, (), (point,))
        return np.array(self.backend.inserter.runner(part)(dict(case.feeds[0]))[str(point)])


def _integers(array: np.ndarray, layout: WeightLayout) -> CompressedTensor:
    """A weight in integers from -127 to 127, with a scale for each channel."""
    wide, axes = array.astype(np.float32), layout.reduction_axes
    scale = np.abs(wide).max(axis=axes, keepdims=True) / np.float32(127)
    codes = np.rint(wide / scale).astype(np.int8)
    shape, dtype = array.shape, array.dtype.name
    return CompressedTensor(FORMATS["int8"], shape, codes.view(np.uint8).reshape(-1), scale, None, dtype, axes)
