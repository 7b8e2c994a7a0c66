"""Carrying out transformations on an ATen graph, one by one."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import torch
from attrs import evolve
from torch import fx, nn
from torch._guards import detect_fake_mode
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx

from nncf_core.errors import UnsupportedBackendError, ValidationError
from nncf_core.graph import Graph, OpKind
from nncf_core.low_rank import branched_layers, layers_of
from nncf_core.numerics.quantizer import Quantizer
from nncf_core.numerics.tensor import CompressedTensor
from nncf_core.training.refusals import without_masks
from nncf_core.transformations import (
    Adapter,
    CompressConstant,
    FoldMask,
    InsertBias,
    InsertLowRank,
    InsertMask,
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
from nncf_torch.attributes import free_suffix, part_name
from nncf_torch.fake_quantize import along, clipped, rounded_to, rounded_to_float8
from nncf_torch.graph_constants import GraphConstant, graph_constants
from nncf_torch.graph_describing import NAME, named_nodes, operands_of, outputs_of
from nncf_torch.graph_model import GraphModel
from nncf_torch.graph_shrinking import infer_again, resize, shrink_groups
from nncf_torch.rounded_weights import quantizer_of
from nncf_torch.shrinking import part_of
from nncf_torch.stored import PARTS, Stored, decompress, encode
from nncf_torch.tensors import cast_tensor, dtype_name, tensor_of, torch_dtype
from nncf_torch.ties import without_ties


def apply(model: GraphModel, graph: Graph, transformations: Iterable[Transformation]) -> GraphModel:
    """Change a model in place, see :meth:`nncf_core.contracts.TargetPointInserter.apply`."""
    editor, resized = _Editor(model, graph), False
    for transformation in transformations:
        if isinstance(transformation, CompressConstant):
            editor.compress(transformation)
        elif isinstance(transformation, ReplaceConstant):
            editor.replace(transformation)
        elif isinstance(transformation, InsertMultiply):
            editor.multiply(transformation)
        elif isinstance(transformation, InsertBias):
            editor.add_bias(transformation)
        elif isinstance(transformation, InsertLowRank):
            editor.add_branches(transformation)
        elif isinstance(transformation, ShrinkConstant):
            editor.shrink(transformation)
            resized = True
        elif isinstance(transformation, ResizeOutput):
            editor.resize(transformation)
        elif isinstance(transformation, InsertQuantizer):
            editor.quantize(transformation)
        else:
            raise _refused(transformation)
    model.graph.lint()
    model.module.recompile()
    if resized:
        infer_again(model, editor.fake)
    return model


def _refused(transformation: InsertThreshold | InsertMask | FoldMask) -> UnsupportedBackendError:
    if isinstance(transformation, InsertThreshold):
        return UnsupportedBackendError(
            f"{transformation.target} gets no threshold in a program; give the torch.nn.Module that it was made from."
        )
    return without_masks("Exported PyTorch", transformation.constant)


def takes_low_rank(graph: Graph, constant: str) -> bool:
    """Whether all layers that take a weight are products as they are, without factors of their own."""
    layers = branched_layers(graph, constant)
    return bool(layers) and all(
        node.op_type in ("linear", "addmm", "mm", "matmul") and not node.attributes.keys() & {"alpha", "beta"}
        for node, _ in layers
    )


class _Editor:
    """Knows nodes and constants by the names that they had before the first edit."""

    def __init__(self, model: GraphModel, graph: Graph) -> None:
        self._model, self._graph = model, graph
        self._constants = graph_constants(model)
        self._nodes = named_nodes(model, self._constants)
        self._order = {node: index for index, node in enumerate(model.graph.nodes)}
        self._fake = self.fake = fake_mode(model)

    def compress(self, command: CompressConstant) -> None:
        """Codes, scales and what decompresses them take the place of a weight."""
        constant, tensor = self._constant(command.constant), command.tensor
        known = self._graph.constants[constant.name]
        if tuple(tensor.shape) != known.shape:
            raise ValidationError(f"The constant {constant.name!r} has shape {known.shape}, its codes {tensor.shape}.")
        is_rounded = command.integer_operand and constant.stored is None
        quantizer = quantizer_of(tensor, command.integers) if is_rounded else None
        if quantizer is not None and quantizer.float8 is None:
            self._round(constant, quantizer)
            return
        device = self._model.tensor(constant.targets[0]).device
        stored, parts = encode(tensor, device)
        self._forget(constant)
        self._substitute(constant, self._decompressed(constant.name, stored, parts, self._first_user(constant)))

    def replace(self, command: ReplaceConstant) -> None:
        """New float values; what decompressed the old ones goes away."""
        constant, value = self._constant(command.constant), command.value
        known = self._graph.constants[constant.name]
        if not is_extension(known.shape, tuple(value.shape)):
            raise ValidationError(
                f"The new values of {constant.name!r} have shape {value.shape}; the constant has {known.shape}."
            )
        old = self._model.tensor(constant.targets[0])
        tensor = cast_tensor(value, torch_dtype(known.dtype)).to(old.device)
        if constant.stored is not None or isinstance(old, nn.Parameter):
            tensor = nn.Parameter(tensor, requires_grad=old.requires_grad)
        self._forget(constant)
        self._model.put(constant.name, tensor)
        self._substitute(constant, self._attribute(constant.name, tensor, self._first_user(constant)))

    def shrink(self, command: ShrinkConstant) -> None:
        """A part of the old values, under the old names; groups of depthwise convolutions follow."""
        constant, axis = self._constant(command.constant), command.axis
        if constant.stored is not None or constant.rounding is not None:
            raise ValidationError(f"The constant {constant.name!r} is compressed, and cannot be shrunk.")
        old = self._model.tensor(constant.targets[0])
        if not (0 <= axis < old.dim() and command.kept and command.kept[-1] < old.shape[axis]):
            raise ValidationError(f"{constant.name!r} of shape {tuple(old.shape)} has no such part: {command}.")
        new = part_of(old, axis, command.kept)
        for target in constant.targets:
            self._model.put(target, new)
        for node in constant.values:
            node.meta["val"] = self._fake.from_tensor(new.detach(), static_shapes=True)
        for user, port in self._graph.users(constant.name) if axis == 0 else ():
            if user.kind in (OpKind.CONV, OpKind.CONV_TRANSPOSE) and port == 1:
                shrink_groups(self._nodes[user.name], old.shape, new.shape)

    def resize(self, command: ResizeOutput) -> None:
        """Other sizes of a reshape, a split, or a slice."""
        if command.node not in self._nodes:
            raise ValidationError(f"The model has no node {command.node!r}.")
        resize(self._nodes[command.node], command)

    def multiply(self, command: InsertMultiply) -> None:
        """A multiplication at an input or an output."""
        name = command.name or f"{command.target.node}/multiply"
        self._combine(torch.ops.aten.mul.Tensor, command.target, command.factor, "nncf_factor", name)

    def add_bias(self, command: InsertBias) -> None:
        """An addition at the output."""
        node = self._graph.node(command.node)
        behind = 0 if node.kind is OpKind.MATMUL else len(node.outputs[0].shape or ()) - 2
        value = command.value.reshape(-1, *[1] * behind)
        self._combine(torch.ops.aten.add.Tensor, TargetPoint(command.node), value, "nncf_bias", f"{command.node}/bias")

    def add_branches(self, command: InsertLowRank) -> None:
        """Two products and an addition behind each layer; several share the matrices."""
        held: list[fx.Node] = []
        for layer, port in layers_of(self._graph, command):
            target = TargetPoint(layer.name)
            _, activations = locate(self._nodes, TargetPoint(layer.name, PointKind.INPUT, port))
            node, source = locate(self._nodes, target)
            place = self._place(target, node, source)
            held = held or [
                self._adapter(f"{command.constant}_low_rank_{part}", adapter, source.meta["val"], place)
                for part, adapter in (("down", command.down), ("up", command.up))
            ]

            def step(x: torch.Tensor, y: torch.Tensor, down: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
                return y + nn.functional.linear(nn.functional.linear(x, down), up)

            sources = [activations, source, *held]
            with self._fake:
                steps = make_fx(step, pre_dispatch=True)(*(each.meta["val"] for each in sources))
            before = set(self._model.graph.nodes)
            self._copied(steps.graph, sources, place)
            made = [each for each in self._model.graph.nodes if each not in before]
            self._insert(target, node, source, made, f"{layer.name}/low_rank")

    def _adapter(self, name: str, adapter: Adapter, like: torch.Tensor, before: fx.Node) -> fx.Node:
        """A node for a matrix of a branch, of the type and on the device of what the layer gives."""
        if not isinstance(adapter, CompressedTensor):
            return self._held(name, cast_tensor(adapter, like.dtype).to(like.device), before)
        stored, parts = encode(evolve(adapter, dtype=dtype_name(like.dtype)), like.device)
        return self._decompressed(name, stored, parts, before)

    def _decompressed(self, name: str, stored: Stored, parts: Mapping[str, torch.Tensor], before: fx.Node) -> fx.Node:
        """New tensors of the model, and what decompresses them."""
        names = [part for part in PARTS if part in parts]

        def restore(*values: torch.Tensor) -> torch.Tensor:
            return decompress(stored, **dict(zip(names, values, strict=True)), exported=True)

        suffix = free_suffix(lambda end: not any(self._model.has(part_name(name, part, end)) for part in PARTS))
        sources = [self._held(part_name(name, part, suffix), parts[part], before) for part in names]
        fakes = [source.meta["val"] for source in sources]
        with self._fake:
            steps = make_fx(restore, pre_dispatch=True)(*fakes)
        return self._copied(steps.graph, sources, before)

    def _combine(self, function: Any, target: TargetPoint, array: np.ndarray, stem: str, name: str) -> None:
        """A function of the tensor at a point and a new one."""
        node, source = locate(self._nodes, target)
        value = source.meta.get("val")
        dtype = value.dtype if isinstance(value, torch.Tensor) else torch.float32
        place = self._place(target, node, source)
        constant = tensor_of(np.asarray(array, np.float32)).to(dtype)
        operand = self._held(f"{stem}_{self._free_number(stem)}", constant, place)
        with self._model.graph.inserting_before(place):
            made = self._model.graph.create_node(
                "call_function", function, (source, operand), name=re.sub(r"\W", "_", name)
            )
        if isinstance(value, torch.Tensor):
            with self._fake:
                made.meta["val"] = function(value, operand.meta["val"])
        self._insert(target, node, source, [made], name)

    def quantize(self, command: InsertQuantizer) -> None:
        """A quantizer at an input or an output; its scale and zero point are buffers."""
        point, quantizer = command.target, command.quantizer
        node, source = locate(self._nodes, point)
        value = source.meta.get("val")
        if not isinstance(value, torch.Tensor) or not value.dtype.is_floating_point:
            raise ValidationError(f"The tensor at {point} cannot be quantized: it holds no floating-point numbers.")
        name = command.name or f"{point.node}/quantize"
        number = self._free_number("nncf_quantizer_scale")
        place = self._place(point, node, source)
        parts = self._quantizer_parts(quantizer, value.device, "nncf_quantizer_{}_" + str(number), place)
        with self._fake:
            steps = make_fx(_rounding(quantizer), pre_dispatch=True)(value, *(part.meta["val"] for part in parts))
        before = set(self._model.graph.nodes)
        self._copied(steps.graph, [source, *parts], place)
        made = [node for node in self._model.graph.nodes if node not in before]
        self._insert(point, node, source, made, name)

    def _round(self, constant: GraphConstant, quantizer: Quantizer) -> None:
        """A weight that stays as it is, but for ties, and is rounded whenever it is read."""
        weight = constant.values[0]
        place = self._first_user(constant)
        device = self._model.tensor(constant.targets[0]).device
        parts = self._quantizer_parts(quantizer, device, f"{constant.name}_{{}}{self._suffix_beside(constant)}", place)
        if quantizer.bits < 8:
            self._clip(constant, quantizer)
        settled = without_ties(self._model.tensor(constant.targets[0]), quantizer.in_8_bits())
        if settled is not None:
            self._change(constant, settled)
        source = self._attribute(constant.name, self._model.tensor(constant.targets[0]), parts[0])
        with self._fake:
            values = (node.meta["val"] for node in (weight, *parts))
            steps = make_fx(_rounding(quantizer), pre_dispatch=True)(*values)
        self._substitute(constant, self._copied(steps.graph, [source, *parts], place))

    def _suffix_beside(self, constant: GraphConstant) -> str:
        """The end of names for scale and zero point, which may be those that the constant has already."""

        def is_free(suffix: str) -> bool:
            names = {part_name(constant.name, part, suffix) for part in ("scale", "zero_point")}
            return not any(self._model.has(name) for name in names - set(constant.parts.values()))

        return free_suffix(is_free)

    def _clip(self, constant: GraphConstant, quantizer: Quantizer) -> None:
        """Bring a weight into the range of its quantizer: what rounds it knows no fewer than 8 bits."""
        old = self._model.tensor(constant.targets[0])
        scale, zero_point = (tensor_of(np.array(part, np.float32)) for part in (quantizer.scale, quantizer.zero_point))
        with torch.no_grad():
            parts = (scale.to(old.device), zero_point.to(old.device), quantizer.lo, quantizer.hi, quantizer.axis)
            self._change(constant, clipped(old.to(torch.float32), *parts).to(old.dtype))

    def _change(self, constant: GraphConstant, new: torch.Tensor) -> None:
        """Let a weight have other values, in memory of its own."""
        old = self._model.tensor(constant.targets[0])
        new = nn.Parameter(new, requires_grad=old.requires_grad) if isinstance(old, nn.Parameter) else new
        for target in constant.targets:
            self._model.put(target, new)

    def _quantizer_parts(
        self, quantizer: Quantizer, device: torch.device, name: str, before: fx.Node
    ) -> tuple[fx.Node, fx.Node]:
        scale = tensor_of(quantizer.scale.reshape(-1).copy()).to(device)
        zero_point = tensor_of(quantizer.zero_point.reshape(-1).copy()).to(device)
        return self._held(name.format("scale"), scale, before), self._held(
            name.format("zero_point"), zero_point, before
        )

    def _free_number(self, stem: str) -> int:
        number = 0
        while hasattr(self._model.module, f"{stem}_{number}"):
            number += 1
        return number

    def _place(self, point: TargetPoint, node: fx.Node, source: fx.Node) -> fx.Node:
        """The node that a new one at a point stands before."""
        place = node if point.kind is PointKind.INPUT else source.next
        while place.op in ("placeholder", "get_attr"):
            place = place.next
        return place

    def _held(self, target: str, tensor: torch.Tensor, before: fx.Node) -> fx.Node:
        """A node for a new tensor of the model."""
        self._model.put(target, tensor)
        return self._attribute(target, tensor, before)

    def _insert(self, point: TargetPoint, node: fx.Node, source: fx.Node, made: list[fx.Node], name: str) -> None:
        """Let those who take the tensor of a point take what new nodes make of it."""
        last = made[-1]
        for new in made:
            new.meta["nn_module_stack"] = node.meta.get("nn_module_stack", {})
        last.meta[NAME] = name
        if point.kind is PointKind.INPUT:
            replace_operand(node, point.port, last)
        else:
            source.replace_all_uses_with(last, delete_user_cb=lambda user: user not in made)

    def _constant(self, name: str) -> GraphConstant:
        if name not in self._constants or name not in self._graph.constants:
            raise ValidationError(f"The model has no constant {name!r}.")
        return self._constants[name]

    def _first_user(self, constant: GraphConstant) -> fx.Node:
        users = [user for node in constant.values for user in node.users if user not in constant.hidden]
        known = [user for user in users if user in self._order]
        if known:
            return min(known, key=lambda user: self._order[user])
        return users[0] if users else next(node for node in reversed(self._model.graph.nodes) if node.op == "output")

    def _attribute(self, target: str, tensor: torch.Tensor, before: fx.Node) -> fx.Node:
        graph = self._model.graph
        prefix = "p" if isinstance(tensor, nn.Parameter) else "b"
        with graph.inserting_before(before):
            node = graph.create_node("get_attr", target, name=f"{prefix}_{re.sub(r'[^0-9a-zA-Z]', '_', target)}")
        node.meta["val"] = self._fake.from_tensor(tensor.detach(), static_shapes=True)
        return node

    def _copied(self, steps: fx.Graph, sources: list[fx.Node], before: fx.Node) -> fx.Node:
        """The nodes of another graph, put before a node of this one; the node of its output."""
        graph, env = self._model.graph, dict[fx.Node, fx.Node]()
        waiting = iter(sources)
        with graph.inserting_before(before):
            for node in steps.nodes:
                if node.op == "placeholder":
                    env[node] = next(waiting)
                elif node.op == "output":
                    return env[node.args[0]]
                else:
                    env[node] = graph.node_copy(node, lambda n: env[n])
                    env[node].meta = {"val": node.meta["val"]}
        raise AssertionError("a graph has an output")

    def _substitute(self, constant: GraphConstant, new: fx.Node) -> None:
        """Let all users of a constant take another node, and the old nodes go."""
        for node in constant.values:
            node.replace_all_uses_with(new, delete_user_cb=lambda user: user not in constant.hidden)
        for node in reversed(list(self._model.graph.nodes)):
            if (node in constant.values or node in constant.hidden) and not node.users:
                self._model.graph.erase_node(node)
        self._constants[constant.name] = GraphConstant(constant.name, self._targets(new), (new,))

    def _targets(self, new: fx.Node) -> tuple[str, ...]:
        found, waiting = [], [new]
        while waiting:
            node = waiting.pop()
            waiting += node.all_input_nodes
            if node.op == "get_attr":
                found.append(str(node.target))
        return tuple(dict.fromkeys(found))

    def _forget(self, constant: GraphConstant) -> None:
        for target in constant.targets:
            self._model.drop(target)


def locate(nodes: Mapping[str, fx.Node], point: TargetPoint) -> tuple[fx.Node, fx.Node]:
    """The node of a point, and the node that makes the point's tensor.

    :raises ValidationError: when there is none.
    """
    node = nodes.get(point.node)
    if node is not None and point.kind is PointKind.INPUT:
        sources = [operand.source for operand in operands_of(node)]
    else:
        sources = [] if node is None else [source for source, _ in outputs_of(node)]
    if node is None or not 0 <= point.port < len(sources):
        raise ValidationError(f"The model has no point {point}.")
    return node, sources[point.port]


def replace_operand(node: fx.Node, port: int, new: fx.Node) -> None:
    """Let one input of a node, and no other of the same tensor, be another node."""
    seen = -1
    wanted = {id(operand): index for index, operand in enumerate(operands_of(node))}
    total = len(wanted)

    def change(value: Any) -> Any:
        nonlocal seen
        if isinstance(value, (list, tuple)):
            return type(value)(change(item) for item in value)
        if isinstance(value, fx.Node) and isinstance(value.meta.get("val", torch.Tensor()), torch.Tensor):
            seen += 1
            return new if seen == port else value
        return value

    node.args = tuple(change(argument) for argument in node.args)
    node.kwargs = {name: change(argument) for name, argument in node.kwargs.items()}
    assert seen + 1 == total


def _rounding(quantizer: Quantizer) -> Callable[..., torch.Tensor]:
    """What is done to a tensor, with integers that converters know.

    A weight, whose range lacks the smallest integer, or half of them, does not reach what is added.
    """
    lo, hi = (-128, 127) if quantizer.lo < 0 else (0, 255)
    few = quantizer.float8 is None and quantizer.bits < 8 and quantizer.axis is None
    low, high = float(quantizer.low.min()), float(quantizer.high.max())

    def step(x: torch.Tensor, scale: torch.Tensor, zero_point: torch.Tensor) -> torch.Tensor:
        wide = x if x.dtype is torch.float32 else x.to(torch.float32)
        if quantizer.float8 is not None:
            scale = along(scale, x.dim(), quantizer.axis)
            rounded = rounded_to_float8(wide, scale, quantizer.lo, quantizer.hi, quantizer.float8)
        else:
            # some of the integers of 8 bits, where there are fewer
            cut = wide.clamp(low, high) if few else wide
            rounded = rounded_to(cut, scale, zero_point, lo, hi, quantizer.axis)
        return rounded if x.dtype is torch.float32 else rounded.to(x.dtype)

    return step


def fake_mode(model: GraphModel) -> FakeTensorMode:
    """The mode that the values of a graph's nodes belong to."""
    values = [node.meta["val"] for node in model.graph.nodes if isinstance(node.meta.get("val"), torch.Tensor)]
    found: FakeTensorMode | None = detect_fake_mode(values) if values else None
    return found or FakeTensorMode(allow_non_fake_inputs=True)
