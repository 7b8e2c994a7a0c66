"""Copies of a model, run to see what edits do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import fx
from torch.utils import _pytree as pytree

from nncf_core.errors import UnsupportedModelError
from nncf_core.graph import Graph
from nncf_core.transformations import Transformation
from nncf_torch.editing import apply
from nncf_torch.graph_model import GraphModel
from nncf_torch.module_model import ModuleModel
from nncf_torch.running import run_module
from nncf_torch.sharing import shared_copy
from nncf_torch.tensors import array_of


def trial(model: ModuleModel | GraphModel, graph: Graph, edits: Sequence[Transformation]) -> list[np.ndarray] | None:
    """The outputs of a copy with edits on the model's example input; ``None`` where there is none.

    :raises UnsupportedModelError: when the copy does not run.
    """
    try:
        if isinstance(model, GraphModel):
            flat = _example_of(model)
            if flat is None:
                return None
            copy = apply(model.copy(), graph, edits)
            with torch.no_grad():
                made: Any = fx.Interpreter(copy.module).run(*flat, enable_io_processing=False)
        else:
            if model.example is None:
                return None
            changed = ModuleModel(shared_copy(model.module), model.trace, model.example)
            made = run_module(apply(changed, graph, edits).module, model.example)
    except UnsupportedModelError:
        raise
    except Exception as error:  # whatever a model raises
        raise UnsupportedModelError(f"The changed model does not run: {error}") from None
    return [np.array(array_of(leaf)) for leaf in pytree.tree_leaves(made) if isinstance(leaf, torch.Tensor)]


def _example_of(model: GraphModel) -> list[Any] | None:
    """The program's own example, otherwise random numbers."""
    nodes = [node for node in model.graph.nodes if node.op == "placeholder"]
    if model.program is not None and model.program.example_inputs is not None:
        leaves = pytree.tree_leaves(model.program.example_inputs)
        if len(leaves) == len(nodes):
            return leaves
    flat: list[Any] = []
    source = torch.Generator().manual_seed(0)
    for node in nodes:
        value = node.meta.get("val")
        if node.name in model.constant_inputs:
            flat.append(model.constant_inputs[node.name])
        elif (
            isinstance(value, torch.Tensor)
            and value.is_floating_point()
            and all(isinstance(n, int) for n in value.shape)
        ):
            flat.append(torch.randn(value.shape, generator=source).to(value.dtype))
        else:
            return None
    return flat
