"""Names of nodes: ``<path of the module>/<operator>/<how many of them the module has run before>``."""

from __future__ import annotations

from attrs import evolve
from torch import nn

from nncf_core.graph import Graph, Node


def node_name(path: str, op_type: str, counts: dict[str, int]) -> str:
    """The next name of an operator in a module; ``counts`` is kept for one model.

    :param path: of the module, with dots; empty for the model itself.
    """
    stem = f"{path.replace('.', '/')}/{op_type}" if path else op_type
    number = counts.get(stem, 0)
    counts[stem] = number + 1
    return f"{stem}/{number}"


_FORMERLY_WRAPPED = (
    nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d, nn.Linear, nn.Bilinear,
    nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.GroupNorm, nn.LayerNorm, nn.Embedding, nn.EmbeddingBag,
)  # fmt: skip


def with_former_names(graph: Graph, model: nn.Module) -> Graph:
    """The graph with the names that its nodes had in trainings of NNCF 2, which configs written for it tell scopes by.

    They have the classes of modules: ``Net/Sequential[features]/NNCFConv2d[0]/conv2d_0`` for ``features/0/conv2d/0``.
    """
    modules = dict(model.named_modules(remove_duplicate=False))
    scopes = {path.replace(".", "/"): _former_scope(path, modules) for path in modules}

    def named(node: Node) -> Node:
        inner, _, number = node.name.rpartition("/")
        path, _, function = inner.rpartition("/")
        if path not in scopes or not function:
            return node
        return evolve(node, attributes={**node.attributes, "former_name": f"{scopes[path]}/{function}_{number}"})

    return evolve(graph, nodes=[named(node) for node in graph])


def _former_scope(path: str, modules: dict[str, nn.Module]) -> str:
    parts = path.split(".") if path else []
    inner = (f"{_former_class(modules['.'.join(parts[: end + 1])])}[{part}]" for end, part in enumerate(parts))
    return "/".join([type(modules[""]).__name__, *inner])


def _former_class(module: nn.Module) -> str:
    name = type(module).__name__
    return f"NNCF{name}" if type(module) in _FORMERLY_WRAPPED else name
