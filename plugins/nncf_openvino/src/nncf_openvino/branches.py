"""Low-rank branches beside products: ``Add(y, MatMul(MatMul(x, A), B))``, both matrices transposed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import openvino as ov
from openvino import opset1

from nncf_core.graph import Graph
from nncf_core.low_rank import branched_layers
from nncf_core.numerics.tensor import CompressedTensor
from nncf_core.transformations import Adapter
from nncf_openvino.element_types import type_name
from nncf_openvino.forms.emission import Emitter


def takes_low_rank(graph: Graph, constant: str) -> bool:
    """Whether all layers that take a weight are products."""
    layers = branched_layers(graph, constant)
    return bool(layers) and all(node.op_type == "MatMul" for node, _ in layers)


def operand(emitter: Emitter, name: str, adapter: Adapter, kind: Any, number: Callable[..., Any]) -> Any:
    """A matrix of a branch as second operand of a MatMul.

    :param kind: element type of the layer.
    :param number: makes a constant of an array, an element type and a name.
    """
    if isinstance(adapter, CompressedTensor):
        return emitter.emit(emitter.unique(name), adapter.on_host(), type_name(kind), 1)
    return number(adapter, kind, name)


def branch(unique: Callable[[str], str], name: str, source: Any, matrices: Sequence[Any], behind: Any) -> ov.Node:
    """The sum of what a layer gives and its branch; all but the sum have their names.

    :param source: activations.
    :param matrices: both operands.
    :param behind: what the layer gives.
    """
    down, up = matrices
    first = opset1.matmul(source, down, False, True)
    first.set_friendly_name(unique(f"{name}/down"))
    second = opset1.matmul(first, up, False, True)
    second.set_friendly_name(unique(f"{name}/up"))
    result: ov.Node = opset1.add(behind, second)
    return result
