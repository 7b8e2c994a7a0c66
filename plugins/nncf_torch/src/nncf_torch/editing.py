"""Carrying out transformations, by the kind of the working model."""

from __future__ import annotations

from collections.abc import Iterable

from nncf_core.graph import Graph
from nncf_core.transformations import Transformation
from nncf_torch import graph_editing, module_editing
from nncf_torch.graph_model import GraphModel
from nncf_torch.module_model import ModuleModel


def apply(
    model: ModuleModel | GraphModel, graph: Graph, transformations: Iterable[Transformation]
) -> ModuleModel | GraphModel:
    """Change a model in place, see :meth:`nncf_core.contracts.TargetPointInserter.apply`."""
    if isinstance(model, GraphModel):
        return graph_editing.apply(model, graph, transformations)
    return module_editing.apply(model, graph, transformations)
