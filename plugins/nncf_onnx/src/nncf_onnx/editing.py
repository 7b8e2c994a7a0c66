"""Carrying out transformations one by one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property

import numpy as np
import onnx_ir as ir
from attrs import frozen

from nncf_core.errors import ParameterNotSupportedError, ValidationError
from nncf_core.graph import Graph
from nncf_core.log import nncf_logger
from nncf_core.low_rank import layers_of
from nncf_core.training.refusals import without_masks
from nncf_core.transformations import (
    CompressConstant,
    InsertBias,
    InsertLowRank,
    InsertMultiply,
    InsertQuantizer,
    InsertThreshold,
    PointKind,
    ReplaceConstant,
    TargetPoint,
    Transformation,
    is_extension,
)
from nncf_onnx import branches
from nncf_onnx.choice import Form, choose, request_for
from nncf_onnx.forms import codebook, dequantize_linear, nbits, quantize_dequantize, rows
from nncf_onnx.forms.common import Target
from nncf_onnx.forms.compressed import FLOATS
from nncf_onnx.naming import named_constants, named_nodes
from nncf_onnx.options import WriteOptions
from nncf_onnx.quantized_products import keep_integer_products
from nncf_onnx.rewriting import Rewriter


def apply(model: ir.Model, graph: Graph, transformations: Iterable[Transformation], options: WriteOptions) -> ir.Model:
    """Change a model in place, see :meth:`nncf_core.contracts.TargetPointInserter.apply`."""
    editor = _Editor(model, graph, options)
    for transformation in transformations:
        if isinstance(transformation, InsertMultiply):
            editor.multiply(transformation)
        elif isinstance(transformation, InsertThreshold):
            editor.cut_off(transformation)
        elif isinstance(transformation, InsertBias):
            editor.add_bias(transformation)
        elif isinstance(transformation, InsertLowRank):
            editor.add_branches(transformation)
        elif isinstance(transformation, InsertQuantizer):
            editor.quantize(transformation)
        elif isinstance(transformation, CompressConstant):
            editor.compress(transformation)
        elif isinstance(transformation, ReplaceConstant):
            editor.replace(transformation)
        else:
            raise without_masks("ONNX", transformation.constant)
    # before IR version 4 every constant was an input
    if editor.rewriter.former_inputs and model.ir_version >= 4:
        nncf_logger.warning(
            "These weights were inputs with a default value, which callers could replace; compressed, they are "
            "constants: %s.",
            ", ".join(editor.rewriter.former_inputs),
        )
    if any(node.op_type == "QuantizeLinear" for node in model.graph):
        keep_integer_products(model, editor.rewriter)
    return model


@frozen
class _Place:
    """A target point.

    :param value: the tensor there.
    :param dtype: its element type.
    :param port: of the input; ``None`` for an output.
    """

    node: ir.Node
    graph: ir.Graph
    value: ir.Value
    dtype: ir.DataType
    port: int | None


class _Editor:
    """Knows nodes and constants by the names that they had before the first edit."""

    def __init__(self, model: ir.Model, graph: Graph, options: WriteOptions) -> None:
        self._model, self._graph, self._options = model, graph, options
        self._nodes, self._constants = named_nodes(model), named_constants(model)
        self.rewriter = Rewriter(model)
        self._compressed: set[str] = set()

    def compress(self, command: CompressConstant) -> None:
        """Write codes in the form that the options and the format call for."""
        target, tensor = self._target(command.constant), command.tensor
        constant = self._graph.constants[target.name]
        if tensor.shape != constant.shape:
            raise ValidationError(f"The constant {target.name!r} has shape {constant.shape}, its codes {tensor.shape}.")
        form, reason = choose(self._graph, constant, request_for(tensor), self._options)
        if form in (Form.DEQUANTIZE_LINEAR, Form.ARITHMETIC):
            dequantize_linear.emit(self.rewriter, target, tensor, arithmetic=form is Form.ARITHMETIC)
        elif form is Form.CODEBOOK:
            codebook.emit(self.rewriter, target, tensor)
        elif form is Form.ROWS:
            nodes = [self._nodes[user.name] for user, _ in self._graph.users(target.name)]
            rows.emit(self.rewriter, target, tensor, nodes)
        elif form is Form.NBITS:
            users = nbits.replaceable_users(self._graph, constant) or ()
            nodes = [self._nodes[user.name] for user in users]
            nbits.emit(self.rewriter, target, tensor, nodes, self._options.accuracy_level)
        else:
            raise ParameterNotSupportedError(f"The constant {target.name!r} cannot be compressed: {reason}")
        self._compressed.add(target.name)

    def replace(self, command: ReplaceConstant) -> None:
        """New float values; what decompressed the old ones goes away."""
        target, value = self._target(command.constant), command.value
        constant, rewriter, old = self._graph.constants[target.name], self.rewriter, target.value
        if not is_extension(constant.shape, value.shape):
            raise ValidationError(
                f"The new values of {target.name!r} have shape {value.shape}; the constant has {constant.shape}."
            )
        array = value.astype(np.dtype(constant.dtype))
        users = [use.node for use in old.uses() if use.node.domain == nbits.DOMAIN]
        if users:
            self._constants[target.name] = nbits.undo(rewriter, target, array, users)
        elif constant.compressed is not None and old.is_initializer():
            self._constants[target.name] = rows.undo(rewriter, target, array)
        elif old.is_initializer():
            old.const_value, old.shape = ir.Tensor(array, name=old.name), ir.Shape(array.shape)
        else:
            graph = rewriter.graph_of(old)
            if old.name == target.name and not old.is_graph_output():
                rewriter.free(old)
            new = rewriter.constant(graph, target.name, ir.Tensor(array))
            rewriter.replace_uses(old, new)
            rewriter.drop_constant(old)
            self._constants[target.name] = new

    def multiply(self, command: InsertMultiply) -> None:
        """A Mul at an input or an output; a model's output keeps its name."""
        place = self._place(command.target)
        rewriter, value, dtype = self.rewriter, place.value, place.dtype
        name = command.name or f"{command.target.node}/multiply"
        factor = rewriter.constant(place.graph, f"{name}/factor", ir.Tensor(command.factor.astype(dtype.numpy())))
        new = rewriter.node("Mul", [value, factor], name, f"{value.name}_multiplied", value.dtype)
        new.outputs[0].shape = value.shape
        self._insert(place, [new])

    def cut_off(self, command: InsertThreshold) -> None:
        """A Where between the tensor and zero; a model's output keeps its name."""
        place = self._place(command.target)
        rewriter, value, dtype = self.rewriter, place.value, place.dtype
        name = command.name or f"{command.target.node}/threshold"
        numbers = [
            rewriter.constant(place.graph, f"{name}/{part}", ir.Tensor(np.asarray(number).astype(dtype.numpy())))
            for part, number in (("limit", command.threshold), ("zero", 0.0))
        ]
        size = rewriter.node("Abs", [value], f"{name}/abs", f"{value.name}_abs", value.dtype)
        compared = [size.outputs[0], numbers[0]]
        above = rewriter.node("Greater", compared, f"{name}/above", f"{value.name}_above", ir.DataType.BOOL)
        chosen = [above.outputs[0], value, numbers[1]]
        new = rewriter.node("Where", chosen, name, f"{value.name}_cut_off", value.dtype)
        for node in (size, above, new):
            node.outputs[0].shape = value.shape
        self._insert(place, [size, above, new])

    def add_bias(self, command: InsertBias) -> None:
        """The third operand of a convolution or a Gemm; behind a MatMul an Add."""
        place = self._place(TargetPoint(command.node))
        rewriter, node = self.rewriter, place.node
        tensor = ir.Tensor(command.value.astype(place.dtype.numpy()))
        bias = rewriter.constant(place.graph, f"{command.node}/bias", tensor)
        if node.op_type != "MatMul":
            node.resize_inputs(3)
            node.replace_input_with(2, bias)
            return
        value = place.value
        new = rewriter.node("Add", [value, bias], f"{command.node}/add", f"{value.name}_biased", value.dtype)
        new.outputs[0].shape = value.shape
        self._insert(place, [new])

    def add_branches(self, command: InsertLowRank) -> None:
        """Two products and an Add behind each layer; a model's output keeps its name."""
        rewriter, operands = self.rewriter, list[ir.Value]()
        for layer, port in layers_of(self._graph, command):
            start = self._place(TargetPoint(layer.name, PointKind.INPUT, port))
            place, label = self._place(TargetPoint(layer.name)), f"{layer.name}/low_rank"
            if not operands:
                for part, adapter in (("down", command.down), ("up", command.up)):
                    name = f"{label}/{part}/weight"
                    value, nodes = branches.operand(rewriter, place.graph, name, adapter, place.dtype)
                    place.graph.insert_before(start.node, nodes)
                    operands.append(value)
            place.value.dtype = place.dtype
            self._insert(place, branches.branch(rewriter, label, start.value, operands, place.value))

    def quantize(self, command: InsertQuantizer) -> None:
        """QuantizeLinear and DequantizeLinear at an input or an output; a model's output keeps its name."""
        place = self._place(command.target)
        name = command.name or f"{command.target.node}/quantize"
        nodes = quantize_dequantize.nodes(self.rewriter, place.graph, place.value, command.quantizer, name, place.dtype)
        self._insert(place, nodes)

    def _place(self, point: TargetPoint) -> _Place:
        rewriter, before = self.rewriter, point.kind is PointKind.INPUT
        node = rewriter.now(self._nodes[point.node], last=not before) if point.node in self._nodes else None
        ports = () if node is None else node.inputs if before else node.outputs
        value = ports[point.port] if point.port < len(ports) else None
        if node is None or value is None or not isinstance(node.graph, ir.Graph):
            raise ValidationError(f"The model has no point {point}.")
        return _Place(node, node.graph, value, self._dtype(value, point.node), point.port if before else None)

    def _insert(self, place: _Place, chain: Sequence[ir.Node]) -> None:
        """Put a chain of nodes, the first of which takes the value of a place, into the place."""
        graph, value, output = place.graph, place.value, chain[-1].outputs[0]
        if place.port is not None:
            graph.insert_before(place.node, chain)
            place.node.replace_input_with(place.port, output)
            return
        graph.insert_after(place.node, chain)
        if value.is_graph_output():
            value.name, output.name = output.name, value.name
        self.rewriter.replace_uses(value, output, keep=chain)
        outputs = graph.outputs
        for index, existing in enumerate(outputs):
            if existing is value:
                outputs[index] = output

    def _target(self, name: str) -> Target:
        if name not in self._constants or name not in self._graph.constants:
            raise ValidationError(f"The model has no constant {name!r}.")
        if name in self._compressed:
            raise ValidationError(f"The constant {name!r} has just been compressed; edit it in a round of its own.")
        return Target(name, self._constants[name])

    def _dtype(self, value: ir.Value, node: str) -> ir.DataType:
        """The element type of activations.

        :raises ValidationError: when they are no floating-point numbers, or nothing tells.
        """
        dtype = value.dtype or self._inferred.get(value)
        if dtype not in FLOATS or dtype is None:
            kind = "of an unknown element type; run onnx.shape_inference first" if dtype is None else dtype.name
            raise ValidationError(f"The tensor {value.name!r} at node {node!r} cannot be edited: it is {kind}.")
        return dtype

    @cached_property
    def _inferred(self) -> dict[ir.Value, ir.DataType]:
        # onnxruntime takes a while to import, and most edits do without
        from nncf_onnx.running import element_types

        types = element_types(self._model)
        outputs = (output for node in self._model.graph for output in node.outputs)
        return {output: types[output.name] for output in outputs if output.name in types}
