"""Sub-models between target points, by the kind of the working model."""

from __future__ import annotations

from collections.abc import Sequence

from nncf_core.errors import ValidationError
from nncf_core.transformations import TargetPoint
from nncf_torch import graph_extraction, hook_tracing, module_tracing
from nncf_torch.describing import way_of
from nncf_torch.graph_model import GraphModel
from nncf_torch.hook_tracing import Probe
from nncf_torch.module_model import ModuleModel


def extract(
    model: ModuleModel | GraphModel, inputs: Sequence[TargetPoint], outputs: Sequence[TargetPoint]
) -> GraphModel | Probe:
    """A sub-model, see :meth:`nncf_core.contracts.TargetPointInserter.extract`.

    :raises ValidationError: for unknown points, and for a module without an example input.
    """
    if isinstance(model, GraphModel):
        return graph_extraction.extract(model, inputs, outputs)
    way = way_of(model)
    if way == "export":
        return graph_extraction.extract(module_tracing.traced(model), inputs, outputs, module_tracing.namer(model))
    if way == "hooks":
        return hook_tracing.probe(model, inputs, outputs)
    raise ValidationError(
        "The tensors inside of a model are known only when it has been run: give a dataset, or "
        "backend_params={'example_input': ...}."
    )
