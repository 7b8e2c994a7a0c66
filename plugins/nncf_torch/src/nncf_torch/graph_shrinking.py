"""What operators of a program state of sizes, when the constants around them have become smaller."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import fx
from torch.fx.passes.fake_tensor_prop import FakeTensorProp

from nncf_core.errors import UnsupportedModelError
from nncf_core.transformations import ResizeOutput
from nncf_torch.graph_describing import op_type_of
from nncf_torch.graph_model import GraphModel

_SIZES = {"reshape": 1, "view": 1, "_unsafe_view": 1, "expand": 1, "unflatten": 2}
_GROUPS = {"convolution": 8}
_OF_GROUPS = 6


def shrink_groups(node: fx.Node, before: Sequence[int], after: Sequence[int]) -> None:
    """Let a depthwise convolution have as many groups as its weight has channels along axis 0."""
    op_type = op_type_of(node)
    position = _GROUPS.get(op_type, _OF_GROUPS)
    groups = _argument(node, position, "groups", 1)
    transposed = op_type.startswith("conv_transpose") or (op_type == "convolution" and bool(node.args[6]))
    depthwise = before[0] == groups if transposed else before[1] == 1
    if groups > 1 and depthwise:
        _put(node, position, "groups", groups * after[0] // before[0])


def resize(node: fx.Node, command: ResizeOutput) -> None:
    """State other sizes, where a node states any."""
    op_type = op_type_of(node)
    (before, *_), (after, *_) = command.before, command.after
    if op_type in _SIZES:
        position = _SIZES[op_type]
        stated = list(node.args[position])  # type: ignore[arg-type]
        first = len(before) - len(stated) if op_type != "unflatten" else int(node.args[1]) % len(before)  # type: ignore[arg-type]
        for index, size in enumerate(stated):
            old, new = before[first + index], after[first + index]
            if isinstance(size, int) and size == old and old != new:
                stated[index] = new
        _put(node, position, "size", stated)
    elif op_type in ("split", "split_with_sizes"):
        axis = command.axis
        node.target = torch.ops.aten.split_with_sizes.default
        node.args = (node.args[0], [shape[axis] for shape in command.after], axis)
        node.kwargs = {}
    elif op_type == "slice" and command.slices:
        axis, start, stop, step = command.slices[0]
        node.args, node.kwargs = (node.args[0], axis, start, stop, step), {}
    elif op_type == "narrow" and command.slices:
        axis, start, stop, _ = command.slices[0]
        node.args, node.kwargs = (node.args[0], axis, start, stop - start), {}
    elif op_type == "select" and command.slices:
        axis, start, _, _ = command.slices[0]
        node.args, node.kwargs = (node.args[0], axis, start), {}


def infer_again(model: GraphModel, mode: Any) -> None:
    """Give each node of a graph the shape that it has now.

    :raises UnsupportedModelError: when an operator does not fit its operands.
    """
    inputs = [node.meta.get("val") for node in model.graph.nodes if node.op == "placeholder"]
    try:
        FakeTensorProp(model.module, mode).propagate_dont_convert_inputs(*inputs)
    except Exception as error:  # whatever an operator raises
        raise UnsupportedModelError(f"The program does not run with smaller constants: {error}") from None


def _argument(node: fx.Node, position: int, name: str, default: Any) -> Any:
    return node.args[position] if position < len(node.args) else node.kwargs.get(name, default)


def _put(node: fx.Node, position: int, name: str, value: Any) -> None:
    if position < len(node.args):
        node.args = (*node.args[:position], value, *node.args[position + 1 :])
    else:
        node.kwargs = {**node.kwargs, name: value}
