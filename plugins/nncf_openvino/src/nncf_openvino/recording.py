"""What was done to a model, in its ``rt_info``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import openvino as ov

import nncf_core


def record(model: ov.Model, algorithm: str, parameters: Mapping[str, Any]) -> None:
    """Write parameters as text under ``nncf/<algorithm>``, and the version under ``nncf/version``.

    Parameters that consist of parts, such as ``ignored_scope``, have a key for each part that has a value.
    """
    model.set_rt_info(nncf_core.__version__, ["nncf", "version"])
    for name, value in parameters.items():
        _put(model, ["nncf", algorithm, name], value)


def _put(model: ov.Model, path: list[str], value: Any) -> None:
    if isinstance(value, Mapping):
        parts = {key: part for key, part in value.items() if part is not None and part != []}
        for key, part in parts.items():
            _put(model, [*path, str(key)], part)
        return
    model.set_rt_info(str(value), path)
