"""From an ATen graph to the neutral graph."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from attrs import frozen
from torch import fx

from nncf_core.graph import Graph, Node, OpKind, Port, Trait, WeightLayout, traits_of
from nncf_torch.aten import is_padded, kind_of, kind_with, layout_of
from nncf_torch.geometry import geometry_of
from nncf_torch.graph_constants import GraphConstant, constant_of, graph_constants
from nncf_torch.graph_model import GraphModel
from nncf_torch.layouts import before_view
from nncf_torch.tensors import dtype_name

NAME = "nncf_name"
"""Key in a node's ``meta``: the name that an edit asked for."""

_VIEWS = {"mT", "numpy_T", "permute", "select", "t", "transpose"}
_COPIES = {"_to_copy", "alias", "clone", "contiguous", "detach", "lift_fresh_copy", "to"}
_IGNORED = ("_assert_tensor_metadata", "_assert_scalar", "sym_size", "sym_constrain_range_for_size", "_assert_async")


@frozen(eq=False)
class Operand:
    """A tensor among the arguments of a node.

    :param source: the node that makes it.
    :param position: index of the argument in the operator's schema; see :func:`~nncf_torch.aten.layout_of`.
    """

    source: fx.Node
    position: int


def build(model: GraphModel, names: Callable[[fx.Node, dict[str, int]], str] | None = None) -> Graph:
    """The neutral graph of a working model.

    :param names: how nodes are named; by default as in the graph.
    """
    constants = graph_constants(model)
    describe = _Describer(model, constants)
    return Graph(
        "torch",
        list(describe.nodes(named_nodes(model, constants, names))),
        {name: constant_of(model, constant) for name, constant in constants.items()},
        {"trace": "export", "model": "program"},
        describe.outputs(model),
    )


def named_nodes(
    model: GraphModel,
    constants: Mapping[str, GraphConstant],
    names: Callable[[fx.Node, dict[str, int]], str] | None = None,
) -> dict[str, fx.Node]:
    """The nodes that make tensors from tensors, by name."""
    hidden = frozenset[fx.Node]().union(*(constant.hidden for constant in constants.values()))
    counts: dict[str, int] = {}
    result: dict[str, fx.Node] = {}
    for node in model.graph.nodes:
        if node.op != "call_function" or node in hidden or _is_getitem(node) or not _is_operator(node):
            continue
        name = node.meta.get(NAME) or (node.name if names is None else names(node, counts))
        while name in result:
            name += "_"
        result[name] = node
    return result


def op_type_of(node: fx.Node) -> str:
    """The operator's name without its overload."""
    target = node.target
    if isinstance(target, torch._ops.OpOverload):
        return target._schema.name.partition("::")[2].partition(".")[0]
    return str(getattr(target, "__name__", target))


def operands_of(node: fx.Node) -> list[Operand]:
    """The tensors among the arguments, in order, also those in lists."""
    found: list[Operand] = []
    counted = kind_of(op_type_of(node)) is not OpKind.RECURRENT
    for position, argument in enumerate([*node.args, *node.kwargs.values()]):
        listed = isinstance(argument, (list, tuple))
        items: Sequence[Any] = argument if isinstance(argument, (list, tuple)) else [argument]
        for index, item in enumerate(items):
            if isinstance(item, fx.Node) and _is_tensor(item):
                found.append(Operand(item, index if listed and counted else position))
    return found


def outputs_of(node: fx.Node) -> list[tuple[fx.Node, Any]]:
    """The nodes that stand for a node's outputs, with their values: itself, or the items of its tuple."""
    value = node.meta.get("val")
    if not isinstance(value, (list, tuple)):
        return [(node, value)]
    items: dict[int, fx.Node] = {int(user.args[1]): user for user in node.users if _is_getitem(user)}  # type: ignore[arg-type]
    return [(items.get(index, node), item) for index, item in enumerate(value) if isinstance(item, torch.Tensor)]


class _Describer:
    def __init__(self, model: GraphModel, constants: Mapping[str, GraphConstant]) -> None:
        self._constants = {node: constant for constant in constants.values() for node in constant.values}
        self._tensors: dict[fx.Node, str] = {node: name for name, node in model.inputs()}

    def nodes(self, named: Mapping[str, fx.Node]) -> Iterator[Node]:
        for name, node in named.items():
            op_type = op_type_of(node)
            kind = kind_with(op_type, len(operands_of(node)))
            if op_type == "convolution" and len(node.args) > 6 and node.args[6]:
                kind = OpKind.CONV_TRANSPOSE
            inputs = tuple(self._input(node, operand, op_type, kind) for operand in operands_of(node))
            outputs = outputs_of(node)
            ports = []
            for index, (source, value) in enumerate(outputs):
                self._tensors[source] = f"{name}/output" if len(outputs) == 1 else f"{name}/output/{index}"
                ports.append(_port(self._tensors[source], value))
            attributes = _plain(node)
            if kind is OpKind.CONV:
                attributes["padded"] = is_padded(attributes.get("padding", 0))
            shape = inputs[0].shape if inputs else None
            # sizes that are not known have no number to cut or to count from
            fixed = () if shape is None else tuple(1 << 62 if size is None else size for size in shape)
            axes, moves, strides, equal = geometry_of(op_type, fixed, node.args, node.kwargs)
            attributes |= {"equal_parts": True} if equal else {}
            yield Node(name, op_type, kind, inputs, tuple(ports), (), attributes, axes, moves, strides)

    def outputs(self, model: GraphModel) -> frozenset[str]:
        """Names of the tensors that leave the model; all nodes must have been described."""
        (output,) = (node for node in model.graph.nodes if node.op == "output")
        return frozenset(self._tensors[node] for node in output.all_input_nodes if node in self._tensors)

    def _input(self, node: fx.Node, operand: Operand, op_type: str, kind: OpKind) -> Port:
        source = operand.source
        value = source.meta.get("val")
        behind, views = _behind(source, self._constants)
        if behind is None:
            return _port(self._tensors.get(source, source.name), value)
        constant = self._constants[behind]
        layout: WeightLayout | None = None
        if Trait.WEIGHTED in traits_of(kind) and isinstance(value, torch.Tensor):
            layout = layout_of(op_type, operand.position, value.dim(), node.args)
            for view in views:
                layout = layout and before_view(op_type_of(view), _rank(view.args[0]), view.args, layout)
        tensor = constant.name if behind is source else self._tensors.get(source, source.name)
        return _port(tensor, value, constant.name, layout)


def _behind(node: fx.Node, constants: Mapping[fx.Node, GraphConstant]) -> tuple[fx.Node | None, list[fx.Node]]:
    """The constant that a tensor is, but for transposes, casts and copies; and the transposes, the last one first."""
    views: list[fx.Node] = []
    while node not in constants:
        if node.op != "call_function" or not node.args or not isinstance(node.args[0], fx.Node):
            return None, []
        step = op_type_of(node)
        if step in _VIEWS:
            views.append(node)
        elif step not in _COPIES or not _is_float(node):
            return None, []
        node = node.args[0]
    return node, views


def _rank(node: Any) -> int:
    return int(node.meta["val"].dim())


def _port(tensor: str, value: Any, constant: str | None = None, layout: WeightLayout | None = None) -> Port:
    if not isinstance(value, torch.Tensor):
        return Port(tensor, constant=constant, layout=layout)
    shape = tuple(n if isinstance(n, int) else None for n in value.shape)
    return Port(tensor, dtype_name(value.dtype), shape, constant, layout)


def _plain(node: fx.Node) -> dict[str, object]:
    """Arguments that are plain values, by their names in the schema."""
    schema = getattr(node.target, "_schema", None)
    if schema is None:
        return {}
    named = {argument.name: value for argument, value in zip(schema.arguments, node.args, strict=False)}
    named |= node.kwargs
    return {name: value for name, value in named.items() if _is_plain(value)}


def _is_plain(value: object) -> bool:
    if isinstance(value, (list, tuple)):
        return all(isinstance(item, (int, float, bool)) for item in value)
    return isinstance(value, (int, float, bool, str))


def _is_operator(node: fx.Node) -> bool:
    if op_type_of(node) in _IGNORED:
        return False
    value = node.meta.get("val")
    values = value if isinstance(value, (list, tuple)) else [value]
    return value is None or any(isinstance(item, torch.Tensor) for item in values)


def _is_tensor(node: fx.Node) -> bool:
    return "val" not in node.meta or isinstance(node.meta["val"], torch.Tensor)


def _is_float(node: fx.Node) -> bool:
    value = node.meta.get("val")
    return isinstance(value, torch.Tensor) and value.dtype.is_floating_point


def _is_getitem(node: fx.Node) -> bool:
    return getattr(node.target, "__name__", "") == "getitem"
