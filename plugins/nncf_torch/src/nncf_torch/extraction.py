"""Sub-models between target points, by the kind of the working model."""

from __future__ import annotations

from collections.abc import Sequence

from nncf_core.transformations import TargetPoint
from nncf_torch import graph_extraction
from nncf_torch.graph_model import GraphModel
from nncf_torch.module_model import ModuleModel


def extract(
    model: ModuleModel | GraphModel, inputs: Sequence[TargetPoint], outputs: Sequence[TargetPoint]
) -> ModuleModel | GraphModel:
    """A sub-model, see :meth:`nncf_core.contracts.TargetPointInserter.extract`."""
    assert isinstance(model, GraphModel)
    return graph_extraction.extract(model, inputs, outputs)
