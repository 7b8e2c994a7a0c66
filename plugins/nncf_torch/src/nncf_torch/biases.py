"""Biases for layers that have none."""

from __future__ import annotations

import numpy as np
from torch import nn
from torch.nn.modules.conv import _ConvNd

from nncf_core.errors import ParameterNotSupportedError
from nncf_core.graph import Graph, Node, OpKind
from nncf_core.transformations import InsertBias
from nncf_torch.boundaries import path_of
from nncf_torch.graph_model import GraphModel
from nncf_torch.module_model import ModuleModel
from nncf_torch.tensors import tensor_of, torch_dtype


def takes_bias(model: ModuleModel | GraphModel, graph: Graph, node: Node) -> bool:
    """Whether a layer can be given a bias: any of a program, and modules that have a place for one and run once."""
    if isinstance(model, GraphModel):
        return node.kind in (OpKind.CONV, OpKind.CONV_TRANSPOSE, OpKind.MATMUL)
    return _module(model.module, graph, node) is not None


def add_bias(model: ModuleModel, graph: Graph, command: InsertBias) -> None:
    """Give a module a bias.

    :raises ValidationError: when the graph has no such node.
    :raises ParameterNotSupportedError: when it has no place for a bias.
    """
    node = graph.node(command.node)
    module = _module(model.module, graph, node)
    if module is None:
        raise ParameterNotSupportedError(
            f"The layer {command.node!r} cannot be given a bias: it is no Linear or convolution module without one."
        )
    held = next(iter((*module.parameters(), *module.buffers())))
    dtype = torch_dtype(node.outputs[0].dtype or "float32")
    bias = tensor_of(np.asarray(command.value, np.float32)).to(dtype).to(held.device)
    module.bias = nn.Parameter(bias, requires_grad=any(parameter.requires_grad for parameter in module.parameters()))


def _module(root: nn.Module, graph: Graph, node: Node) -> nn.Linear | _ConvNd | None:
    """The module that runs a node and nothing else, when it has a place for a bias and none there."""
    modules: dict[str, nn.Module] = dict(root.named_modules(remove_duplicate=False))
    module = modules.get(path_of(node))
    if not isinstance(module, (nn.Linear, _ConvNd)) or module.bias is not None:
        return None
    inside = [other for other in graph if modules.get(path_of(other)) is module and other.kind is node.kind]
    return module if len(inside) == 1 else None
