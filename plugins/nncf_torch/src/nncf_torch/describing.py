"""The graph of a working model, by the way that suits it."""

from __future__ import annotations

from collections.abc import Set

from attrs import evolve
from torch import fx

from nncf_core.graph import Graph, Node, Port
from nncf_core.log import nncf_logger
from nncf_torch import graph_describing, hook_tracing, module_tracing, structure
from nncf_torch.graph_model import GraphModel
from nncf_torch.hook_tracing import Probe
from nncf_torch.module_model import ModuleModel
from nncf_torch.naming import with_former_names
from nncf_torch.places import places


def build(model: ModuleModel | GraphModel | Probe) -> Graph:
    """The neutral graph, see :meth:`nncf_core.contracts.GraphBuilder.build`."""
    if isinstance(model, GraphModel):
        return graph_describing.build(model)
    if isinstance(model, Probe):
        return build(model.model)
    graph = with_former_names(_module_graph(model), model.module)
    if not any(isinstance(part, fx.GraphModule) for part in model.module.modules()):
        return graph
    # a GraphModule makes itself anew from its graph and plain attributes: it cannot hold compressed weights itself
    held = {
        place.name
        for place in places(model.module).values()
        if any(isinstance(owner, fx.GraphModule) for owner, _ in place.owners)
    }
    return _without_weights(graph, held) if held else graph


def _without_weights(graph: Graph, names: Set[str]) -> Graph:
    """The graph in which these constants are no weights."""

    def ports(node: Node) -> tuple[Port, ...]:
        return tuple(evolve(port, layout=None) if port.constant in names else port for port in node.inputs)

    return evolve(graph, nodes=[evolve(node, inputs=ports(node)) for node in graph])


def _module_graph(model: ModuleModel) -> Graph:
    made = structure.parametrized(model.module)
    if made:
        nncf_logger.warning(
            "These weights are made by parametrizations whenever they are read, and so left as they are: %s. "
            "torch.nn.utils.parametrize.remove_parametrizations(module, name) makes plain weights of them.",
            _listed(made),
        )
    way = way_of(model)
    if way == "export":
        return module_tracing.build(model)
    if way == "hooks":
        return hook_tracing.build(model)
    graph = structure.build(model.module)
    left = structure.unrecognised(model.module, graph)
    if left:
        nncf_logger.info(
            "Only a run of the model would show what these parameters are for, so they are left as they are: %s. Give "
            "a dataset, or backend_params={'example_input': ...}, to trace the model.",
            _listed(left),
        )
    return graph


def _listed(names: list[str]) -> str:
    return ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")


def way_of(model: ModuleModel) -> str:
    """How the module's graph is made: ``export``, ``hooks`` or ``structure``."""
    if model.trace == "export" and any(place.trained is not None for place in places(model.module).values()):
        # the steps of rounding would stand between a weight and its layer
        return "hooks"
    if model.trace != "auto":
        return model.trace
    # watching a run takes a tenth of the time of torch.export, and needs nothing of the model but that it runs
    return "structure" if model.example is None else "hooks"
