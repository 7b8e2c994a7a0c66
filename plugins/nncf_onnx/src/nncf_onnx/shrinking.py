"""Smaller constants, and what operators state of their sizes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir

from nncf_core.errors import UnsupportedModelError, ValidationError
from nncf_core.graph import Graph, OpKind
from nncf_core.transformations import ResizeOutput, ShrinkConstant
from nncf_onnx.geometry import has_equal_parts, integers
from nncf_onnx.rewriting import Rewriter


def shrink(
    rewriter: Rewriter, graph: Graph, nodes: Mapping[str, ir.Node], value: ir.Value, command: ShrinkConstant
) -> ir.Value:
    """Keep some indices of a constant; gives the value that holds what is left.

    :raises ValidationError: when the constant has no such indices, or is compressed.
    """
    tensor = value.const_value
    if tensor is None or graph.constants[command.constant].compressed_format is not None:
        raise ValidationError(f"The constant {command.constant!r} is compressed, and cannot be shrunk.")
    array = tensor.numpy()
    if not (0 <= command.axis < array.ndim and command.kept and command.kept[-1] < array.shape[command.axis]):
        raise ValidationError(f"The constant {command.constant!r} of shape {array.shape} has no such part: {command}.")
    if command.axis == 0:
        _shrink_groups(graph, nodes, command, array.shape)
    kept = ir.Tensor(np.ascontiguousarray(array.take(command.kept, command.axis)), name=value.name)
    if value.is_initializer():
        value.const_value, value.shape = kept, ir.Shape(kept.shape)
        return value
    name = value.name or command.constant
    if not value.is_graph_output():
        rewriter.free(value)
    new = rewriter.constant(rewriter.graph_of(value), name, kept)
    rewriter.replace_uses(value, new)
    rewriter.drop_constant(value)
    return new


def _shrink_groups(graph: Graph, nodes: Mapping[str, ir.Node], command: ShrinkConstant, shape: tuple[int, ...]) -> None:
    """A depthwise convolution has as many groups as channels."""
    for user, port in graph.users(command.constant):
        groups = user.attributes.get("group", 1)
        if port != 1 or user.kind not in (OpKind.CONV, OpKind.CONV_TRANSPOSE) or not isinstance(groups, int):
            continue
        depthwise = shape[1] == 1 if user.kind is OpKind.CONV else shape[0] == groups
        if groups > 1 and depthwise:
            left = groups * len(command.kept) // shape[0]
            nodes[user.name].attributes["group"] = ir.AttrInt64("group", left)


def resize(rewriter: Rewriter, node: ir.Node, command: ResizeOutput) -> None:
    """State other sizes, where a node states any."""
    (before, *_), (after, *_) = command.before, command.after
    if node.op_type == "Reshape":
        stated = integers(node, 1)
        sizes = _computed_sizes(node, after) if stated is None else _replaced(stated, before, after)
        _put(rewriter, node, 1, sizes, "shape")
    elif node.op_type == "Expand":
        stated = integers(node, 1)
        if stated is not None:
            # both are aligned at their ends
            tails = before[len(before) - len(stated) :], after[len(after) - len(stated) :]
            _put(rewriter, node, 1, _replaced(stated, *tails), "shape")
    elif node.op_type == "Split" and not has_equal_parts(node):
        axis = command.axis
        _put(rewriter, node, 1, [int(shape[axis] or 0) for shape in command.after], "split")
    elif node.op_type == "Slice" and command.slices:
        axes, starts, stops, steps = zip(*command.slices, strict=True)
        for port, numbers in enumerate((starts, stops, axes, steps), 1):
            _put(rewriter, node, port, numbers, ("starts", "ends", "axes", "steps")[port - 1])


def _replaced(stated: Sequence[int], before: Sequence[int | None], after: Sequence[int | None]) -> list[int]:
    """Sizes of a reshape, of which -1 and 0 follow from its input."""
    return [
        int(new or 0) if size == old and old != new else size
        for size, old, new in zip(stated, before, after, strict=True)
    ]


def _computed_sizes(node: ir.Node, after: Sequence[int | None]) -> list[int]:
    """Sizes in place of some that were computed from shapes and numbers.

    :raises UnsupportedModelError: when they are not known.
    """
    shape = node.inputs[0].shape if node.inputs[0] is not None else None
    given = [dim if isinstance(dim, int) else None for dim in shape] if shape is not None else []
    sizes: list[int] = []
    for index, size in enumerate(after):
        copied = size is None and index < len(given) and given[index] is None
        sizes.append(0 if copied else -1 if size is None else size)
    if sizes.count(-1) > 1:
        raise UnsupportedModelError(f"The sizes that {node.name!r} gives are not known, and cannot be changed.")
    return sizes


def _put(rewriter: Rewriter, node: ir.Node, port: int, numbers: Sequence[int], what: str) -> None:
    """A constant of a node's own, in place of one that others may take, too."""
    if integers(node, port) == tuple(numbers) or node.graph is None:
        return
    old = node.inputs[port] if port < len(node.inputs) else None
    graph = node.graph
    if not isinstance(graph, ir.Graph):
        raise UnsupportedModelError(f"The node {node.name!r} belongs to no graph.")
    new = rewriter.constant(graph, f"{node.name}/{what}", ir.Tensor(np.asarray(numbers, np.int64)))
    if port >= len(node.inputs):
        node.resize_inputs(port + 1)
    node.replace_input_with(port, new)
    if old is not None:
        rewriter.drop_constant(old)
