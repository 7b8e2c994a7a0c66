"""The working model of an ``nn.Module``."""

from __future__ import annotations

from attrs import define
from torch import nn

from nncf_torch.graph_model import GraphModel
from nncf_torch.inputs import Call


@define(eq=False)
class ModuleModel:
    """A copy of the user's module, and how its graph is made.

    :param module: may be changed; shares parameters' memory with the user's.
    :param trace: an option, see :class:`~nncf_torch.options.ReadOptions`.
    :param example: an input to trace it with.
    :param traced: the graph that ``torch.export`` made of it, until the module is changed.
    """

    module: nn.Module
    trace: str = "auto"
    example: Call | None = None
    traced: GraphModel | None = None
