"""Batch normalization folded into the layer before it, as converters do: so that quantizers, and corrections of biases,
are those of the layer that will run.

A module's normalization becomes a :class:`FoldedBatchNorm`, which does nothing; that of a graph goes away.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from attrs import frozen
from torch import fx, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_weights, fuse_linear_bn_weights
from torch.utils import _pytree as pytree

from nncf_core.graph import Graph
from nncf_core.log import nncf_logger
from nncf_torch import hook_tracing
from nncf_torch.boundaries import path_of
from nncf_torch.graph_constants import attribute_of
from nncf_torch.graph_describing import op_type_of
from nncf_torch.graph_editing import fake_mode
from nncf_torch.graph_model import GraphModel
from nncf_torch.module_model import ModuleModel
from nncf_torch.places import places
from nncf_torch.running import run_module

_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
_OPERATORS = {"linear", "conv1d", "conv2d", "conv3d", "convolution"}
# position of the first statistic, and of epsilon, among the arguments
_NORMALIZATIONS = {"batch_norm": 7, "_native_batch_norm_legit_no_training": 6}
_TOLERANCE = 1e-3


class FoldedBatchNorm(nn.Identity):
    """What is left of a normalization.

    :param path: where it was.
    :param layer: path of the layer that does its work.
    """

    def __init__(self, path: str, layer: str) -> None:
        super().__init__()
        self.path, self.layer = path, layer


def fold(model: ModuleModel | GraphModel) -> None:
    """Fold what can be: normalizations in evaluation mode that alone take a layer's result, which runs once."""
    if isinstance(model, GraphModel):
        _fold_in_graph(model)
    elif model.example is not None and any(isinstance(module, _BatchNorm) for module in model.module.modules()):
        _fold_in_module(model)


def put_folded(root: nn.Module, path: str, layer: str) -> None:
    """Let a folded normalization take the place of one, and the layer have a bias."""
    module: Any = root.get_submodule(layer)
    if module.bias is None:
        channels = int(str(root.get_submodule(path).num_features))
        module.bias = nn.Parameter(torch.zeros(channels, dtype=module.weight.dtype, device=module.weight.device))
    _replace(root, root.get_submodule(path), FoldedBatchNorm(path, layer))


@frozen(eq=False)
class _Fold:
    """A layer, and the normalization behind it, with their paths; and what the layer was before."""

    layer: Any
    layer_path: str
    norm: Any
    norm_path: str
    weight: torch.Tensor
    bias: torch.Tensor | None


def _fold_in_module(model: ModuleModel) -> None:
    root = model.module
    assert model.example is not None
    found = list(_pairs(root, hook_tracing.build(model)))
    if not found:
        return
    wanted = run_module(root, model.example)
    folded = []
    for pair in found:
        weight, bias = _fused(pair.norm, pair.weight, pair.bias, linear=isinstance(pair.layer, nn.Linear))
        pair.layer.weight, pair.layer.bias = weight, bias
        folded.append(FoldedBatchNorm(pair.norm_path, pair.layer_path))
        _replace(root, pair.norm, folded[-1])
    model.traced = None
    if not _near(run_module(root, model.example), wanted):
        # a result in between is seen by code that is no torch function, such as the model's output
        nncf_logger.warning("Batch normalization was not folded, since the model's outputs would change.")
        for pair, norm in zip(found, folded, strict=True):
            pair.layer.weight, pair.layer.bias = pair.weight, pair.bias
            _replace(root, norm, pair.norm)


def _pairs(root: nn.Module, graph: Graph) -> Iterator[_Fold]:
    modules = dict(root.named_modules())
    known = places(root)
    for node in graph:
        if node.op_type != "batch_norm":
            continue
        before, path = graph.producer(node.inputs[0].tensor), path_of(node)
        norm: Any = modules.get(path)
        layer_path = "" if before is None else path_of(before)
        layer: Any = modules.get(layer_path)
        if before is None or not isinstance(norm, _BatchNorm) or norm.running_mean is None or norm.running_var is None:
            continue
        if type(layer) not in _LAYERS or len(graph.consumers(before.outputs[0].tensor)) != 1:
            continue
        ports = [port for user in (before, node) for port in user.inputs if port.constant is not None]
        weight = known.get(f"{layer_path}.weight")
        if weight is None or weight.tensor is None or (weight.rounding or weight.trained) is not None:
            continue
        # a layer that runs again elsewhere, or shares its weights, stays as it is
        once = all(
            len(graph.users(str(port.constant))) == 1 and len(known[str(port.constant)].owners) == 1 for port in ports
        )
        if once and not (norm._forward_hooks or norm._forward_pre_hooks or layer._forward_hooks):
            yield _Fold(layer, layer_path, norm, path, weight.tensor, layer.bias)


def _fused(
    norm: Any, weight: torch.Tensor, bias: torch.Tensor | None, *, linear: bool
) -> tuple[nn.Parameter, nn.Parameter]:
    fuse: Any = fuse_linear_bn_weights if linear else fuse_conv_bn_weights
    mean, var = norm.running_mean, norm.running_var
    gamma = torch.ones_like(mean) if norm.weight is None else norm.weight
    beta = torch.zeros_like(mean) if norm.bias is None else norm.bias
    with torch.no_grad():
        new_weight, new_bias = fuse(weight, bias, mean, var, norm.eps, gamma, beta)
    return new_weight, nn.Parameter(new_bias.detach(), requires_grad=weight.requires_grad)


def _replace(root: nn.Module, old: nn.Module, new: nn.Module) -> None:
    new.train(old.training)
    for parent in list(root.modules()):
        for name, child in parent._modules.items():
            if child is old:
                parent._modules[name] = new


def _near(found: Any, wanted: Any) -> bool:
    pairs = zip(pytree.tree_leaves(found), pytree.tree_leaves(wanted), strict=True)
    return all(_close(a, b) for a, b in pairs if isinstance(a, torch.Tensor))


def _close(a: torch.Tensor, b: torch.Tensor) -> bool:
    if not b.is_floating_point() or not b.numel():
        return True
    tolerance = max(_TOLERANCE, 8 * torch.finfo(b.dtype).eps)
    return bool(((a - b).abs().max() <= tolerance * b.abs().max()).item())


@frozen(eq=False)
class _Statistics:
    """The tensors of a normalization in a graph, as a module has them."""

    weight: torch.Tensor | None
    bias: torch.Tensor | None
    running_mean: torch.Tensor
    running_var: torch.Tensor
    eps: float


def _fold_in_graph(model: GraphModel) -> None:
    fake = fake_mode(model)
    for node in list(model.graph.nodes):
        norm = _statistics(model, node)
        layer = node.args[0] if norm is not None else None
        if norm is None or not isinstance(layer, fx.Node) or layer.op != "call_function" or len(layer.users) != 1:
            continue
        weight, bias = layer.args[1] if len(layer.args) > 1 else None, layer.args[2] if len(layer.args) > 2 else None
        if op_type_of(layer) not in _OPERATORS or layer.kwargs or not _is_own(model, weight):
            continue
        if (bias is not None and not _is_own(model, bias)) or (op_type_of(layer) == "convolution" and layer.args[6]):
            continue
        assert isinstance(weight, fx.Node)
        target = str(weight.target)
        old_bias = model.tensor(str(bias.target)) if isinstance(bias, fx.Node) else None
        new_weight, new_bias = _fused(
            norm, nn.Parameter(model.tensor(target)), old_bias, linear=op_type_of(layer) == "linear"
        )
        model.put(target, new_weight)
        if isinstance(bias, fx.Node):
            model.put(str(bias.target), new_bias)
        else:
            name = f"{target.removesuffix('weight')}bias"
            while any(other.op == "get_attr" and other.target == name for other in model.graph.nodes):
                name += "_"
            model.put(name, new_bias)
            with model.graph.inserting_before(layer):
                made = model.graph.create_node("get_attr", name, name=f"p_{name.replace('.', '_')}")
            made.meta["val"] = fake.from_tensor(new_bias.detach(), static_shapes=True)
            layer.args = (*layer.args[:2], made, *layer.args[3:])
        _remove(model, node, layer)


def _statistics(model: GraphModel, node: fx.Node) -> _Statistics | None:
    kind = op_type_of(node) if node.op == "call_function" else ""
    if kind not in _NORMALIZATIONS or (kind == "batch_norm" and node.args[5]) or node.kwargs:
        return None
    tensors = [attribute_of(model, part) if isinstance(part, fx.Node) else part for part in node.args[1:5]]
    if any(isinstance(part, fx.Node) and part.op != "get_attr" for part in node.args[1:5]):
        return None
    weight, bias, mean, var = tensors
    if not isinstance(mean, torch.Tensor) or not isinstance(var, torch.Tensor):
        return None
    return _Statistics(weight, bias, mean, var, float(str(node.args[_NORMALIZATIONS[kind]])))  # type: ignore[arg-type]


def _is_own(model: GraphModel, node: object) -> bool:
    """Whether a node is a constant that nothing else uses."""
    if not isinstance(node, fx.Node) or node.op != "get_attr" or len(node.users) != 1:
        return False
    tensor = attribute_of(model, node)
    nodes = [other for other in model.graph.nodes if other.op == "get_attr"]
    return sum(attribute_of(model, other) is tensor for other in nodes) == 1


def _remove(model: GraphModel, node: fx.Node, layer: fx.Node) -> None:
    """Let a layer's result take the place of the normalized one, whose constants go, too."""
    ends = [node] if op_type_of(node) == "batch_norm" else [user for user in list(node.users) if user.args[1] == 0]
    constants = [part for part in node.args[1:5] if isinstance(part, fx.Node)]
    for end in ends:
        end.replace_all_uses_with(layer)
    for end in dict.fromkeys((*ends, node)):
        model.graph.erase_node(end)
    paths = {str(part.target).rpartition(".")[0] for part in constants}
    counters = [
        other
        for other in model.graph.nodes
        if other.op == "get_attr" and str(other.target) in {f"{path}.num_batches_tracked" for path in paths}
    ]
    for part in dict.fromkeys((*constants, *counters)):
        if not part.users:
            model.graph.erase_node(part)
            model.drop(str(part.target))
