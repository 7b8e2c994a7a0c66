"""Where a model holds tensors: initializers and attributes of nodes, in the main graph and in all bodies."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import onnx_ir as ir
from attrs import frozen

from nncf_onnx.traversal import all_graphs


@frozen
class Slot:
    """A place in a model that holds a tensor.

    :param name: name of the tensor.
    :param tensor: what the place holds.
    :param put: replaces it.
    """

    name: str
    tensor: ir.TensorProtocol
    put: Callable[[ir.TensorProtocol], None]


def slots(model: ir.Model) -> Iterator[Slot]:
    """Every place that holds a tensor, in the order of the graphs. They may be filled while they are looked at."""
    for graph in all_graphs(model):
        for name, value in graph.initializers.items():
            if value.const_value is not None:
                yield Slot(name, value.const_value, partial(setattr, value, "const_value"))
        for node in graph:
            for key, attribute in list(node.attributes.items()):
                if attribute.type == ir.AttributeType.TENSOR:
                    tensor = attribute.as_tensor()
                    yield Slot(tensor.name or "", tensor, partial(_put, node, key))
                elif attribute.type == ir.AttributeType.TENSORS:
                    for index, tensor in enumerate(attribute.as_tensors()):
                        yield Slot(tensor.name or "", tensor, partial(_put_one, node, key, index))


def _put(node: ir.Node, key: str, tensor: ir.TensorProtocol) -> None:
    node.attributes[key] = ir.AttrTensor(key, tensor)


def _put_one(node: ir.Node, key: str, index: int, tensor: ir.TensorProtocol) -> None:
    tensors = list(node.attributes[key].as_tensors())
    tensors[index] = tensor
    node.attributes[key] = ir.AttrTensors(key, tensors)
