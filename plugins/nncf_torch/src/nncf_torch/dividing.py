"""Programs that can be cut in parts, of models of either kind."""

from __future__ import annotations

from nncf_core.errors import UnsupportedModelError
from nncf_core.log import nncf_logger
from nncf_torch import module_tracing
from nncf_torch.graph_model import GraphModel
from nncf_torch.module_model import ModuleModel


def divisible(model: ModuleModel | GraphModel) -> GraphModel | None:
    """A program with the constants of a model under the same names; ``None`` where there is none.

    Its tensors are the model's until one of the two gets others.
    """
    if isinstance(model, GraphModel):
        return model.copy()
    if model.example is None:
        return None
    try:
        program = module_tracing.traced(ModuleModel(model.module, "export", model.example))
    except UnsupportedModelError as error:
        nncf_logger.info("The model runs as a whole, again and again, since it cannot be cut in parts: %s", error)
        return None
    names = module_tracing.aliases(model.module)
    for node in program.graph.nodes:
        target = str(node.target)
        if node.op == "get_attr" and names.get(target, target) != target:
            program.put(names[target], program.tensor(target))
            node.target = names[target]
    return program
