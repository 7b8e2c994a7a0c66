"""Working models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from nncf_torch.inputs import call_of
from nncf_torch.module_model import ModuleModel
from nncf_torch.options import read_options
from nncf_torch.sharing import shared_copy


def open_model(source: Any, options: Mapping[str, Any]) -> ModuleModel:
    """The working model of a source, see :meth:`nncf_core.contracts.GraphBuilder.open`."""
    chosen = read_options(options)
    assert isinstance(source, nn.Module)
    example = None if chosen.example_input is None else call_of(chosen.example_input)
    return ModuleModel(shared_copy(source), chosen.trace, example)
