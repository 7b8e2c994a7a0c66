"""The constants of a :class:`~nncf_torch.graph_model.GraphModel`, compressed ones seen through their decompression."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterator, Mapping
from math import prod

import numpy as np
import torch
from attrs import evolve, field, frozen
from torch import fx

from nncf_core.graph import Constant
from nncf_core.numerics.formats import FORMATS
from nncf_torch.attributes import part_name
from nncf_torch.fake_quantize import FLOAT8
from nncf_torch.graph_model import GraphModel
from nncf_torch.places import compressed_constant, float_constant, identity, rounded_constant
from nncf_torch.rounded_weights import Rounding
from nncf_torch.stored import PARTS, Stored
from nncf_torch.tensors import array_of

_STEPS_OF_CODES = {
    "_assert_tensor_metadata", "add", "bitwise_and", "bitwise_right_shift", "cat", "clamp", "clone", "div", "expand",
    "floor_divide", "getitem", "index_select", "mul", "reshape", "select", "slice", "stack", "sub", "to", "_to_copy",
    "unbind", "unsqueeze", "view",
}  # fmt: skip
_CODES = re.compile(r"(.+)_codes((?:_\d+)?)")
_STEPS_OF_ROUNDED = {"abs", "alias", "clamp", "clamp_min", "detach", "maximum", "minimum", "round", "to", "_to_copy"}
_STEPS_OF_VALUES = {"_assert_tensor_metadata", "clamp", "mul", "reshape", "to", "_to_copy", "view"}


@frozen(eq=False)
class GraphConstant:
    """A constant of a graph.

    :param name: its dotted name; of a compressed one the name that the weight had.
    :param targets: all attributes that hold it, or its parts: more than one where several names share it.
    :param values: the nodes that stand for its values.
    :param hidden: nodes that belong to the decompression, the values among them.
    :param stored: what its tensors mean when it is compressed.
    :param parts: attributes of the tensors of the compressed form.
    :param rounding: which integers the values are rounded to when they are read; ``parts`` are ``float``, ``scale``
        and ``zero_point`` then.
    """

    name: str
    targets: tuple[str, ...]
    values: tuple[fx.Node, ...]
    hidden: frozenset[fx.Node] = frozenset()
    stored: Stored | None = None
    parts: Mapping[str, str] = field(factory=dict)
    rounding: Rounding | None = None


def graph_constants(model: GraphModel) -> dict[str, GraphConstant]:
    """Every constant by name, in the order of the graph."""
    first: dict[Hashable, str] = {}
    targets: dict[str, list[str]] = {}
    attributes: dict[str, list[fx.Node]] = {}
    for node in model.graph.nodes:
        tensor = attribute_of(model, node) if node.op == "get_attr" else None
        if isinstance(tensor, torch.Tensor):
            target = str(node.target)
            # one tensor may have several names
            name = first.setdefault(identity(tensor), target)
            attributes.setdefault(name, []).append(node)
            if target not in targets.setdefault(name, []):
                targets[name].append(target)
    compressed = {
        constant.targets[0]: constant for constant in (*_compressed(model, attributes), *_rounded(attributes))
    }
    parts = {target for constant in compressed.values() for target in constant.parts.values()}
    found = []
    for name, nodes in attributes.items():
        if name in compressed:
            constant = compressed[name]
            found.append(evolve(constant, targets=tuple(t for p in constant.parts.values() for t in targets[p])))
        elif name not in parts:
            found.append(GraphConstant(name, tuple(targets[name]), tuple(nodes)))
    return {constant.name: constant for constant in found}


def attribute_of(model: GraphModel, node: fx.Node) -> object:
    """What a ``get_attr`` node gives."""
    found: object = model.module
    for part in str(node.target).split("."):
        found = getattr(found, part)
    return found


def constant_of(model: GraphModel, constant: GraphConstant) -> Constant:
    """What algorithms see of it."""
    if constant.rounding is not None:
        float_, scale, zero_point = (model.tensor(constant.parts[part]) for part in ("float", "scale", "zero_point"))
        return rounded_constant(constant.name, float_, scale, zero_point, constant.rounding)
    if constant.stored is None:
        return float_constant(constant.name, model.tensor(constant.targets[0]))
    parts = {name: model.tensor(target) for name, target in constant.parts.items()}
    return compressed_constant(constant.name, constant.stored, parts)


def _rounded(attributes: Mapping[str, list[fx.Node]]) -> Iterator[GraphConstant]:
    """Weights that an operator rounds; what leads from the attributes to it makes no other values of them."""
    by_node = {node: name for name, nodes in attributes.items() for node in nodes}
    for name, nodes in attributes.items():
        for end in _users_through(nodes, _STEPS_OF_ROUNDED):
            if _step(end) not in ("fake_quantize_per_tensor_affine", "fake_quantize_per_channel_affine"):
                continue
            ways = [way_back(argument) for argument in end.args[:3]]
            sources = [way[-1] for way in ways if way]
            if len(sources) < 3 or not all(node in by_node for node in sources) or by_node[sources[0]] != name:
                continue
            axis = end.args[3] if "channel" in _step(end) else None
            lo, hi = end.args[-2:]
            parts = dict(zip(("float", "scale", "zero_point"), (by_node[node] for node in sources), strict=True))
            # a type other than float32 is rounded in float32
            casts = [user for user in end.users if _step(user) in ("to", "_to_copy")]
            value = casts[0] if len(casts) == len(end.users) == 1 else end
            yield GraphConstant(
                name,
                (name,),
                (value,),
                frozenset({end, value}.union(*ways)),
                parts=parts,
                rounding=Rounding(int(str(lo)), int(str(hi)), None if axis is None else int(str(axis))),
            )


def _users_through(nodes: list[fx.Node], steps: set[str]) -> Iterator[fx.Node]:
    """Who takes tensors, seen through some steps."""
    for node in nodes:
        for user in node.users:
            if _step(user) in steps:
                yield from _users_through([user], steps)
            else:
                yield user


def way_back(argument: object) -> list[fx.Node]:
    """The nodes before an operand, seen through the steps that prepare it; the last one is where it comes from."""
    way: list[fx.Node] = []
    while isinstance(argument, fx.Node):
        way.append(argument)
        if _step(argument) not in _STEPS_OF_ROUNDED:
            break
        argument = argument.args[0]
    return way


def _compressed(model: GraphModel, attributes: Mapping[str, list[fx.Node]]) -> Iterator[GraphConstant]:
    """Weights whose codes and scales are attributes beside each other, as this backend names them."""
    for target, nodes in attributes.items():
        match = _CODES.fullmatch(target)
        if match is None:
            continue
        base, suffix = match.groups()
        names = {part: part_name(base, part, suffix) for part in PARTS}
        parts = {part: name for part, name in names.items() if name in attributes}
        if "scale" not in parts:
            continue
        sources = {node for part in parts.values() for node in attributes[part]}
        hidden, values = _decompression(sources, set(nodes), set(attributes[parts["scale"]]))
        shapes = {(value.meta["val"].shape, value.meta["val"].dtype) for value in values if "val" in value.meta}
        if not values or len(shapes) != 1:
            continue
        shape, dtype = shapes.pop()
        tensors = {name: model.tensor(part) for name, part in parts.items()}
        stored = _stored(tensors, tuple(int(n) for n in shape), dtype)
        if stored is not None:
            yield GraphConstant(base, (target,), values, hidden | sources, stored, parts)


def _decompression(
    sources: set[fx.Node], codes: set[fx.Node], scale: set[fx.Node]
) -> tuple[frozenset[fx.Node], tuple[fx.Node, ...]]:
    """The nodes that depend on nothing but these sources, and the last ones, which depend on codes and on the scale."""
    inside: dict[fx.Node, frozenset[str]] = {}
    for node in sources:
        inside[node] = frozenset({"codes"} if node in codes else {"scale"} if node in scale else ())
    waiting = [user for node in sources for user in node.users]
    while waiting:
        node = waiting.pop()
        if node in inside or not all(source in inside for source in node.all_input_nodes):
            continue
        scaled = any(inside[source] == {"codes", "scale"} for source in node.all_input_nodes)
        if _step(node) not in (_STEPS_OF_VALUES if scaled else _STEPS_OF_CODES):
            continue
        inside[node] = frozenset[str]().union(*(inside[source] for source in node.all_input_nodes))
        waiting += node.users
    ends = [
        node
        for node, known in inside.items()
        if known == {"codes", "scale"}
        and _step(node) != "_assert_tensor_metadata"
        and not any(user in inside and _step(user) != "_assert_tensor_metadata" for user in node.users)
    ]
    return frozenset(inside), tuple(ends)


def _step(node: fx.Node) -> str:
    name = getattr(node.target, "__name__", str(node.target))
    return name.partition(".")[0]


def _stored(parts: Mapping[str, torch.Tensor], shape: tuple[int, ...], dtype: torch.dtype) -> Stored | None:
    """What tensors mean, from their types and shapes."""
    codes, scale = parts["codes"], parts["scale"]
    size = prod(shape)
    bits = 16 if codes.dtype is torch.int16 else codes.numel() * 8 // size if codes.numel() * 8 % size == 0 else 0
    if codes.dtype is torch.uint8 and bits == 0:
        bits = next((b for b in (2, 3, 4) if codes.numel() in (-(-size * b // 8), -(-size * b // 24) * 3)), 0)
    number_format = _format(parts, bits)
    if number_format is None:
        return None
    group_axis = None
    if scale.dim() == len(shape) + 1:
        scale_shape = scale.shape
        axes = [a for a in range(len(shape)) if scale_shape[a + 1] == 1 and _fits(scale_shape, shape, a)]
        if not axes:
            return None
        group_axis = axes[-1]
        size_of_group = shape[group_axis] // scale_shape[group_axis]
        return Stored(number_format, bits, shape, dtype, (group_axis,), group_axis, size_of_group)
    if scale.dim() != len(shape):
        return None
    reduced = tuple(axis for axis, n in enumerate(scale.shape) if n == 1)
    return Stored(number_format, bits, shape, dtype, reduced or (len(shape) - 1,), None, -1)


def _fits(scale_shape: torch.Size, shape: tuple[int, ...], axis: int) -> bool:
    plain = (*scale_shape[: axis + 1], *scale_shape[axis + 2 :])
    return all(n == m or a == axis for a, (n, m) in enumerate(zip(plain, shape, strict=True)))


def _format(parts: Mapping[str, torch.Tensor], bits: int) -> str | None:
    codes = parts["codes"]
    if codes.dtype in FLOAT8.values():
        return next(name for name, dtype in FLOAT8.items() if dtype is codes.dtype)
    if "codebook" in parts:
        table = array_of(parts["codebook"])
        for name in ("nf4", "f4e2m1"):
            values = np.asarray(FORMATS[name].values, np.float32)
            if bits == 4 and table.tobytes() == values.tobytes():
                return name
        return "codebook"
    if codes.dtype is torch.int8:
        return "int8"
    if bits == 8:
        return "uint8"
    if bits == 4:
        return "uint4" if "zero_point" in parts else "int4"
    return {2: "int2", 3: "int3"}.get(bits)
