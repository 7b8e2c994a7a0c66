"""Carrying out transformations one by one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import openvino as ov
from attrs import evolve, frozen
from openvino import opset1, opset13

from nncf_core.errors import ValidationError
from nncf_core.graph import Graph, OpKind
from nncf_core.low_rank import layers_of
from nncf_core.numerics.quantizer import Quantizer
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
    ResizeOutput,
    ShrinkConstant,
    TargetPoint,
    Transformation,
    is_extension,
)
from nncf_openvino import branches
from nncf_openvino.constants import constant
from nncf_openvino.element_types import FLOATS, as_array, numpy_name, openvino_type, raw_bytes, type_name
from nncf_openvino.forms.emission import Emitter
from nncf_openvino.lost_scales import give_biases
from nncf_openvino.naming import Names
from nncf_openvino.resizing import resize
from nncf_openvino.unfusing import Separator, is_joined_wrongly, rejoin
from nncf_openvino.working import WorkingModel

_LEVELS = (4, 8, 16)
"""Bits of FakeQuantize that the plugins compute with as integers; fewer than 8 are some of 8 otherwise."""


def apply(working: WorkingModel, graph: Graph, transformations: Iterable[Transformation]) -> WorkingModel:
    """Change a model in place, see :meth:`nncf_core.contracts.TargetPointInserter.apply`."""
    editor = _Editor(working, graph)
    quantized = resized = False
    for transformation in transformations:
        resized |= isinstance(transformation, (ShrinkConstant, ResizeOutput))
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
            quantized = True
        elif isinstance(transformation, CompressConstant):
            editor.compress(transformation)
        elif isinstance(transformation, ShrinkConstant):
            editor.shrink(transformation)
        elif isinstance(transformation, ResizeOutput):
            editor.resize(transformation)
        elif isinstance(transformation, ReplaceConstant):
            editor.replace(transformation)
        else:
            raise without_masks("OpenVINO", transformation.constant)
    if resized:
        working.model.validate_nodes_and_infer_types()
    if quantized:
        give_biases(working.model)
    return working


@frozen
class _Place:
    """A target point.

    :param source: the output that gives its tensor.
    :param users: the inputs that take it there.
    :param before: the output whose name is that of the tensor, where this is not ``source``.
    """

    source: Any
    users: tuple[Any, ...]
    is_output: bool
    before: Any = None


class _Editor:
    """Knows nodes and constants by the names that they had before the first edit."""

    def __init__(self, working: WorkingModel, graph: Graph) -> None:
        self._working, self._graph = working, graph
        names = working.names or Names.of(working.model)
        working.names = None
        self._nodes, self._constants, self._taken = names.nodes, dict(names.constants), set(names.taken)
        self._emitter = Emitter(self._constant, self._unique)
        self._compressed: set[str] = set()

    def compress(self, command: CompressConstant) -> None:
        """Write codes in the form that OpenVINO fuses."""
        name, old, tensor = command.constant, self._output(command.constant), command.tensor
        known = self._graph.constants[name]
        if tensor.shape != known.shape:
            raise ValidationError(f"The constant {name!r} has shape {known.shape}, its codes {tensor.shape}.")
        users = self._graph.users(name)
        recurrent = any(node.kind is OpKind.RECURRENT for node, _ in users)
        new = self._emitter.emit(name, tensor, _wanted(old), users[0][1] if users else 0, constant=recurrent)
        self._take_place(old, new)
        separator = Separator(name, self._number, self._unique)
        for node, port in users:
            if is_joined_wrongly(node, port, tensor):
                separator.part(self._nodes[node.name].node.input(port))
        self._compressed.add(name)

    def replace(self, command: ReplaceConstant) -> None:
        """New float values; what decompressed the old ones goes away."""
        name, old, value = command.constant, self._output(command.constant), command.value
        known = self._graph.constants[name]
        if not is_extension(known.shape, value.shape):
            raise ValidationError(f"The new values of {name!r} have shape {value.shape}; it has {known.shape}.")
        array = np.asarray(value.astype(np.dtype(known.dtype)), order="C")
        new = self._constant(_bytes(array), value.shape, openvino_type(known.dtype), name).output(0)
        if known.compressed_format is not None:
            for node, port in self._graph.users(name):
                rejoin(name, self._nodes[node.name].node.input(port))
        self._take_place(old, new)
        self._constants[name] = new

    def shrink(self, command: ShrinkConstant) -> None:
        """A part of the old values; shapes of operators follow when all edits are made."""
        name, old = command.constant, self._output(command.constant)
        if self._graph.constants[name].compressed_format is not None:
            raise ValidationError(f"The constant {name!r} is compressed, and cannot be shrunk.")
        node, kind = old.get_node(), old.get_element_type()
        array = as_array(raw_bytes(node), type_name(kind), tuple(node.shape), name)
        if not (0 <= command.axis < array.ndim and command.kept and command.kept[-1] < array.shape[command.axis]):
            raise ValidationError(f"The constant {name!r} of shape {array.shape} has no such part: {command}.")
        kept = np.ascontiguousarray(array.take(command.kept, command.axis))
        new = self._constant(_bytes(kept), kept.shape, kind, name).output(0)
        self._take_place(old, new)
        self._constants[name] = new

    def resize(self, command: ResizeOutput) -> None:
        """Other sizes of a reshape, a split, or a slice."""
        if command.node not in self._nodes:
            raise ValidationError(f"The model has no node {command.node!r}.")
        resize(self._nodes[command.node].node, command, self._number)

    def multiply(self, command: InsertMultiply) -> None:
        """A Multiply at an input or an output; a model's output keeps its name."""
        place = self._place(command.target)
        name = self._unique(command.name or f"{command.target.node}/multiply")
        factor = self._number(command.factor, place.source.get_element_type(), f"{name}/factor")
        self._insert(opset1.multiply(place.source, factor), name, place)

    def cut_off(self, command: InsertThreshold) -> None:
        """A Select between the tensor and zero; a model's output keeps its name."""
        place = self._place(command.target)
        name, kind = self._unique(command.name or f"{command.target.node}/threshold"), place.source.get_element_type()
        limit = self._number(np.asarray(command.threshold), kind, f"{name}/limit")
        zero = self._number(np.asarray(0.0), kind, f"{name}/zero")
        above = opset1.greater(opset1.absolute(place.source), limit)
        self._insert(opset1.select(above, place.source, zero), name, place)

    def add_bias(self, command: InsertBias) -> None:
        """An Add behind the layer; a model's output keeps its name."""
        place = self._place(TargetPoint(command.node))
        name = self._unique(f"{command.node}/bias")
        rank = place.source.get_partial_shape().rank.get_length()
        channels = rank - 1 if self._graph.node(command.node).kind is OpKind.MATMUL else 1
        value = command.value.reshape([-1 if axis == channels else 1 for axis in range(rank)])
        number = self._number(value, place.source.get_element_type(), f"{name}/value")
        self._insert(opset1.add(place.source, number), name, place)

    def add_branches(self, command: InsertLowRank) -> None:
        """Two products and an Add behind each layer; a model's output keeps its name."""
        operands = list[Any]()
        for layer, port in layers_of(self._graph, command):
            source = self._place(TargetPoint(layer.name, PointKind.INPUT, port)).source
            place, name = self._place(TargetPoint(layer.name)), self._unique(f"{layer.name}/low_rank")
            kind = place.source.get_element_type()
            operands = operands or [
                branches.operand(self._emitter, f"{name}/{part}/weight", adapter, kind, self._number)
                for part, adapter in (("down", command.down), ("up", command.up))
            ]
            self._insert(branches.branch(self._unique, name, source, operands, place.source), name, place)

    def quantize(self, command: InsertQuantizer) -> None:
        """A FakeQuantize, or FakeConvert, at an input or an output; a model's output keeps its name."""
        place, quantizer = self._place(command.target), command.quantizer
        name = self._unique(command.name or f"{command.target.node}/quantize")
        kind = place.source.get_element_type()
        shape: tuple[int, ...] = ()
        if quantizer.axis is not None:
            rank = place.source.get_partial_shape().rank.get_length()
            shape = tuple(-1 if axis == quantizer.axis % rank else 1 for axis in range(rank))
        if quantizer.float8 is not None:
            self._insert(self._converted(place.source, quantizer, shape, name), name, place)
            return
        if quantizer.axis is None and quantizer.bits <= 8 and quantizer.bits not in _LEVELS:
            clipped = opset1.clamp(place.source, float(quantizer.low), float(quantizer.high))
            clipped.set_friendly_name(self._unique(f"{name}/clipped"))
            place = evolve(place, source=clipped.output(0), before=place.source)
            quantizer = quantizer.in_8_bits()
        ends = {"low": quantizer.low.reshape(shape), "high": quantizer.high.reshape(shape)}
        ranges = [
            self._number(ends[end], kind, f"{name}/{side}_{end}")
            for side in ("input", "output")
            for end in ("low", "high")
        ]
        self._insert(opset1.fake_quantize(place.source, *ranges, quantizer.levels), name, place)

    def _converted(self, source: Any, quantizer: Quantizer, shape: tuple[int, ...], name: str) -> ov.Node:
        """FakeConvert: ``clip(x · scale)`` in 8-bit floats, divided by the scale, which float16 may not hold."""
        kind, wide = source.get_element_type(), source
        if kind != ov.Type.f32:
            wide = opset1.convert(source, "f32")
            wide.set_friendly_name(self._unique(f"{name}/wide"))
        scale = self._number(1 / quantizer.scale.reshape(shape), ov.Type.f32, f"{name}/scale")
        result: ov.Node = opset13.fake_convert(wide, scale, destination_type=quantizer.float8)
        if kind == ov.Type.f32:
            return result
        result.set_friendly_name(self._unique(f"{name}/converted"))
        return opset1.convert(result, type_name(kind))

    def _place(self, point: TargetPoint) -> _Place:
        place = self._nodes.get(point.node)
        node = None if place is None else place.node
        before = point.kind is PointKind.INPUT
        count = 0 if node is None else node.get_input_size() if before else node.get_output_size()
        if node is None or point.port >= count or (not before and node.get_type_name() == "Result"):
            raise ValidationError(f"The model has no point {point}.")
        source = node.input(point.port).get_source_output() if before else node.output(point.port)
        kind = type_name(source.get_element_type())
        if kind not in FLOATS:
            raise ValidationError(f"The tensor at {point} cannot be edited: its elements are of type {kind}.")
        users = [node.input(point.port)] if before else list(source.get_target_inputs())
        return _Place(source, tuple(users), not before)

    def _number(self, value: np.ndarray, kind: Any, name: str) -> Any:
        array = np.ascontiguousarray(np.asarray(value).astype(np.dtype(numpy_name(type_name(kind)))))
        return self._constant(_bytes(array), array.shape, kind, self._unique(name))

    def _insert(self, new: Any, name: str, place: _Place) -> None:
        """Let those who take the tensor of a place take what a new node makes of it."""
        new.set_friendly_name(name)
        for user in place.users:
            user.replace_source_output(new.output(0))
        old = place.source if place.before is None else place.before
        if place.is_output and old.get_node().get_type_name() != "Parameter":
            _move_names(old, new.output(0))

    def _output(self, name: str) -> Any:
        if name not in self._constants or name not in self._graph.constants:
            raise ValidationError(f"The model has no constant {name!r}.")
        if name in self._compressed:
            raise ValidationError(f"The constant {name!r} has just been compressed; edit it in a round of its own.")
        return self._constants[name]

    def _take_place(self, old: Any, new: Any) -> None:
        """Let every user of a constant take its new form."""
        for user in old.get_target_inputs():
            user.replace_source_output(new)
        _move_names(old, new)

    def _constant(self, raw: np.ndarray, shape: Any, kind: ov.Type, name: str) -> Any:
        return constant(self._working, raw, shape, kind, name)

    def _unique(self, name: str) -> str:
        result, count = name, 0
        while result in self._taken:
            count += 1
            result = f"{name}_{count}"
        self._taken.add(result)
        return result


def _wanted(output: Any) -> str | None:
    """The element type that users of a constant need; ``None`` when they convert it themselves.

    Two Converts in a row would keep OpenVINO from fusing decompression. float16 is kept, since the values of such a
    constant are rounded to it.
    """
    kind, users = type_name(output.get_element_type()), output.get_target_inputs()
    converted = all(user.get_node().get_type_name() == "Convert" for user in users)
    return None if users and converted and kind != "f16" else kind


def _bytes(array: np.ndarray) -> np.ndarray:
    return array.reshape(-1).view(np.uint8)


def _move_names(old: Any, new: Any) -> None:
    """Tensor names go with what users see."""
    names = old.get_names()
    if names:
        old.get_tensor().set_names(set())
        new.get_tensor().set_names(names)
