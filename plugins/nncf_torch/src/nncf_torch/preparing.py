"""What is done to a working model before quantizers are inserted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from nncf_core.errors import UnsupportedDatasetError, ValidationError
from nncf_torch.batch_norm import fold
from nncf_torch.describing import way_of
from nncf_torch.graph_model import GraphModel
from nncf_torch.module_model import ModuleModel


def prepare(model: ModuleModel | GraphModel, options: Mapping[str, Any]) -> ModuleModel | GraphModel:
    """Change a model in place, see :meth:`nncf_core.contracts.PreparingInserter.prepare`."""
    if isinstance(model, ModuleModel) and model.example is None:
        raise UnsupportedDatasetError(
            "To quantize activations the model must be run, and there is nothing to run it on: no dataset, or one "
            "that has no items; pass a dataset that has items."
        )
    if isinstance(model, ModuleModel) and way_of(model) == "structure":
        raise ValidationError(
            "backend_params: trace is 'structure', which knows of weights only; 'hooks' and 'export' see activations."
        )
    _own_parameters(model)
    if options.get("fold_batch_norm", True):
        fold(model)
    return model


def _own_parameters(model: ModuleModel | GraphModel) -> None:
    """Let a model have memory of its own: who trains it, trains nothing else."""
    if isinstance(model, ModuleModel):
        # parameters of other classes are shared as objects
        for parameter in model.module.parameters():
            if type(parameter) is nn.Parameter:
                parameter.data = parameter.detach().clone()
        return
    made: dict[int, nn.Parameter] = {}
    for target, parameter in list(model.module.named_parameters(remove_duplicate=False)):
        if id(parameter) not in made:
            made[id(parameter)] = nn.Parameter(parameter.detach().clone(), requires_grad=parameter.requires_grad)
        model.put(target, made[id(parameter)])
