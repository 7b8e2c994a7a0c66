"""The graph of an ``nn.Module`` from its modules alone: weights, without what connects them.

Nodes are in the order in which modules are registered, which is that of their use in most models.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from torch import nn
from torch.nn.utils.parametrize import ParametrizationList, is_parametrized

from nncf_core.graph import Graph, Node, OpKind, Port, WeightLayout
from nncf_torch.compressed_modules import weights_of
from nncf_torch.edited_modules import multiplications_of
from nncf_torch.layouts import conv_layout, conv_transpose_layout, embedding_layout, linear_layout
from nncf_torch.masks import masks_of
from nncf_torch.naming import node_name
from nncf_torch.places import Place, constant_of, places
from nncf_torch.tensors import dtype_name
from nncf_torch.trained_weights import trainings_of

_CONV: Mapping[type[nn.Module], str] = {nn.Conv1d: "conv1d", nn.Conv2d: "conv2d", nn.Conv3d: "conv3d"}
_CONV_TRANSPOSE: Mapping[type[nn.Module], str] = {
    nn.ConvTranspose1d: "conv_transpose1d",
    nn.ConvTranspose2d: "conv_transpose2d",
    nn.ConvTranspose3d: "conv_transpose3d",
}

_STEPS: Mapping[str, tuple[str, OpKind]] = {
    "multiply": ("mul", OpKind.MULTIPLY),
    "keep_large": ("keep_large", OpKind.OTHER),
}


def build(model: nn.Module) -> Graph:
    """Nodes for the weights that the classes of modules tell of."""
    found = places(model)
    by_owner = {(id(owner), name): place for place in found.values() for owner, name in place.owners}
    nodes = []
    counts: dict[str, int] = {}
    for path, module in model.named_modules():
        nodes += [
            Node(edit.name, *_STEPS[edit.operation], (Port(""),), (Port(f"{edit.name}/output"),))
            for edit in multiplications_of(module)
        ]
        for op_type, kind, attribute, layout in _weights(module):
            place = by_owner.get((id(module), attribute))
            if place is None:
                # made by a parametrization: no constant of the model
                continue
            name = node_name(path, op_type, counts)
            inputs = (Port(""), _port(place, layout))
            nodes.append(Node(name, op_type, kind, inputs, (Port(f"{name}/output"),)))
    return Graph("torch", nodes, {name: constant_of(place) for name, place in found.items()}, {"trace": "structure"})


def _port(place: Place, layout: WeightLayout | None) -> Port:
    return Port(place.name, dtype_name(place.dtype), place.shape, place.name, layout)


def _weights(module: nn.Module) -> Iterator[tuple[str, OpKind, str, WeightLayout | None]]:
    """Operator, kind, attribute and layout of each weight that the class of a module tells of."""
    if isinstance(module, nn.Linear):
        yield "linear", OpKind.MATMUL, "weight", linear_layout(2)
    elif isinstance(module, nn.MultiheadAttention):
        for name in ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight"):
            yield "linear", OpKind.MATMUL, name, linear_layout(2)
    elif isinstance(module, (nn.Embedding, nn.EmbeddingBag)):
        op_type = "embedding" if isinstance(module, nn.Embedding) else "embedding_bag"
        yield op_type, OpKind.EMBEDDING, "weight", embedding_layout(2)
    elif isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Conv3d)):
        rank = 2 + len(module.kernel_size)
        yield _named(_CONV, module), OpKind.CONV, "weight", conv_layout(rank)
    elif isinstance(module, (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)):
        rank = 2 + len(module.kernel_size)
        yield (
            _named(_CONV_TRANSPOSE, module),
            OpKind.CONV_TRANSPOSE,
            "weight",
            conv_transpose_layout(module.groups, rank),
        )
    elif isinstance(module, nn.RNNBase):
        for name in module._flat_weights_names:
            if name.startswith("weight"):
                yield module.mode.lower(), OpKind.RECURRENT, name, linear_layout(2)
    elif isinstance(module, nn.RNNCellBase):
        for name in ("weight_ih", "weight_hh"):
            yield _cell_type(module), OpKind.RECURRENT, name, linear_layout(2)
    elif is_conv1d_of_transformers(module):
        # a linear layer whose weight is [inputs, outputs]
        yield "addmm", OpKind.MATMUL, "weight", WeightLayout((0,), (1,))


def _cell_type(module: nn.RNNCellBase) -> str:
    if isinstance(module, nn.RNNCell):
        return f"rnn_{module.nonlinearity}_cell"
    return "lstm_cell" if isinstance(module, nn.LSTMCell) else "gru_cell"


def is_conv1d_of_transformers(module: nn.Module) -> bool:
    """Whether a module is ``transformers.pytorch_utils.Conv1D``, a linear layer with another layout."""
    names = {(cls.__module__, cls.__name__) for cls in type(module).__mro__}
    return ("transformers.pytorch_utils", "Conv1D") in names


def _named(names: Mapping[type[nn.Module], str], module: nn.Module) -> str:
    return next(name for cls, name in names.items() if isinstance(module, cls))


def unrecognised(model: nn.Module, graph: Graph) -> list[str]:
    """Names of matrices that no node of the graph uses: they may be weights of code that only a run would show."""
    made_from = {
        id(part) for module in model.modules() if isinstance(module, ParametrizationList) for part in module.modules()
    }
    used = {port.constant for node in graph for port in node.inputs}
    return [
        place.name
        for place in places(model).values()
        if place.name not in used
        and place.is_parameter
        and len(place.shape) >= 2
        and not _in_compressed(place)
        and not any(id(owner) in made_from for owner, _ in place.owners)
    ]


def parametrized(model: nn.Module) -> list[str]:
    """Names of weights that parametrizations make of other tensors whenever they are read."""
    return [
        f"{path}.{name}".lstrip(".")
        for path, module in model.named_modules()
        if is_parametrized(module) and isinstance(module.parametrizations, nn.ModuleDict)
        for name in module.parametrizations
    ]


def _in_compressed(place: Place) -> bool:
    return any(name in {**weights_of(owner), **trainings_of(owner), **masks_of(owner)} for owner, name in place.owners)
