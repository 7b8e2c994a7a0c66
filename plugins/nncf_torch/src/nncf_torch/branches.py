"""Low-rank branches beside ``nn.Linear`` and the like: children of the layer's module, which a hook adds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from attrs import evolve
from torch import nn

from nncf_core.errors import ParameterNotSupportedError
from nncf_core.graph import Graph, Node
from nncf_core.low_rank import branched_layers, layers_of
from nncf_core.numerics.tensor import CompressedTensor
from nncf_core.transformations import Adapter, InsertLowRank
from nncf_torch.boundaries import path_of
from nncf_torch.compressed_modules import put_compressed
from nncf_torch.module_model import ModuleModel
from nncf_torch.stored import encode
from nncf_torch.structure import is_conv1d_of_transformers
from nncf_torch.tensors import cast_tensor, dtype_name, torch_dtype

CHILD = "nncf_low_rank"
"""Name of the branch in the layer's module."""


class LowRankBranch(nn.Module):
    """``y + (x·Aᵀ)·Bᵀ``, with A and B as weights of ``down`` and ``up``."""

    def __init__(self, inputs: int, rank: int, outputs: int) -> None:
        super().__init__()
        self.down = nn.Linear(inputs, rank, bias=False, device="meta")
        self.up = nn.Linear(rank, outputs, bias=False, device="meta")

    def forward(self, given: torch.Tensor, activations: torch.Tensor) -> torch.Tensor:
        """The sum of what the layer gives and the products of its activations."""
        total: torch.Tensor = given + self.up(self.down(activations))
        return total


class AddBranch:
    """Forward hook of the layer."""

    def __call__(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: torch.Tensor
    ) -> torch.Tensor:
        """The output with the branch."""
        activations = args[0] if args else next(iter(kwargs.values()))
        total: torch.Tensor = module._modules[CHILD](output, activations)  # type: ignore[misc]
        return total


def takes_low_rank(root: nn.Module, graph: Graph, constant: str) -> bool:
    """Whether all layers that take a weight are modules of their own, which run once and have no branch yet."""
    layers = branched_layers(graph, constant)
    modules: dict[str, nn.Module] = dict(root.named_modules(remove_duplicate=False)) if layers else {}
    return bool(layers) and all(_module(modules, graph, node) is not None for node, _ in layers)


def add_branches(model: ModuleModel, graph: Graph, command: InsertLowRank) -> None:
    """Give the modules that take a weight a branch; they share its matrices.

    :raises ValidationError: when the matrices do not fit.
    :raises ParameterNotSupportedError: when a layer is no module that can have a branch.
    """
    layers = layers_of(graph, command)
    modules: dict[str, nn.Module] = dict(model.module.named_modules(remove_duplicate=False))
    tensors: dict[str, Any] = {}
    for node, _ in layers:
        module = _module(modules, graph, node)
        if module is None:
            raise ParameterNotSupportedError(
                f"The layer {node.name!r} cannot have a low-rank branch: it is no Linear module that runs once. Export "
                "the model and give the program (torch.export.export)."
            )
        held = next(iter((*module.parameters(), *module.buffers())))
        dtype = torch_dtype(node.outputs[0].dtype or graph.constants[command.constant].dtype)
        branch = put_branch(module, command.down.shape[1], command.rank, command.up.shape[0], dtype, held.device)
        for part, adapter in (("down", command.down), ("up", command.up)):
            tensors.setdefault(part, parameters_of(adapter, dtype, held.device))
            _fill(branch.get_submodule(part), tensors[part])


def put_branch(
    module: nn.Module, inputs: int, rank: int, outputs: int, dtype: torch.dtype, device: torch.device
) -> LowRankBranch:
    """Let a module have a branch from now on, which adds nothing yet."""
    branch = LowRankBranch(inputs, rank, outputs)
    for layer in (branch.down, branch.up):
        layer.weight = nn.Parameter(torch.zeros(layer.weight.shape, dtype=dtype, device=device), requires_grad=False)
    branch.train(module.training)
    module.add_module(CHILD, branch)
    # before what multiplies the output
    module.register_forward_hook(AddBranch(), with_kwargs=True, prepend=True)
    return branch


def branches_of(model: nn.Module) -> Iterator[tuple[str, LowRankBranch]]:
    """Path of the layer's module, and branch."""
    for path, module in model.named_modules():
        branch = module._modules.get(CHILD)
        if isinstance(branch, LowRankBranch):
            yield path, branch


def parameters_of(adapter: Adapter, dtype: torch.dtype, device: torch.device) -> Any:
    """A matrix as the tensors that a module holds: those of :func:`~nncf_torch.stored.encode`, or a parameter."""
    if isinstance(adapter, CompressedTensor):
        return encode(evolve(adapter, dtype=dtype_name(dtype)), device)
    return nn.Parameter(cast_tensor(adapter, dtype).to(device), requires_grad=False)


def _fill(layer: nn.Module, tensors: Any) -> None:
    if isinstance(tensors, nn.Parameter):
        layer.weight = tensors
        return
    stored, parts = tensors
    put_compressed(layer, "weight", stored, parts)


def _module(modules: Mapping[str, nn.Module], graph: Graph, node: Node) -> nn.Module | None:
    """The module that runs a layer and nothing else, once."""
    path = path_of(node)
    module = modules.get(path)
    if not isinstance(module, nn.Linear) and (module is None or not is_conv1d_of_transformers(module)):
        return None
    stem, _, number = node.name.rpartition("/")
    runs_once = bool(path) and number == "0" and f"{stem}/1" not in graph
    return module if runs_once and CHILD not in module._modules else None
