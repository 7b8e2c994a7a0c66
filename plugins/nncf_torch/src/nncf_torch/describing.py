"""The graph of a working model, by the way that suits it."""

from __future__ import annotations

from nncf_core.graph import Graph
from nncf_torch import graph_describing, structure
from nncf_torch.graph_model import GraphModel
from nncf_torch.module_model import ModuleModel


def build(model: ModuleModel | GraphModel) -> Graph:
    """The neutral graph, see :meth:`nncf_core.contracts.GraphBuilder.build`."""
    if isinstance(model, GraphModel):
        return graph_describing.build(model)
    return structure.build(model.module)
