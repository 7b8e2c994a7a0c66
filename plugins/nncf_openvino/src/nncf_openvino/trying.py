"""Copies of a model, run to see what edits do."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import openvino as ov

from nncf_core.errors import UnsupportedModelError
from nncf_core.graph import Graph
from nncf_core.transformations import Transformation
from nncf_openvino.editing import apply
from nncf_openvino.element_types import type_name
from nncf_openvino.opening import reason_of
from nncf_openvino.running import session_for
from nncf_openvino.working import WorkingModel

_UNKNOWN = 2
"""Size in place of those that the model leaves open."""
_DTYPES = {"f32": np.float32, "f16": np.float16, "f64": np.float64}


def trial(working: WorkingModel, graph: Graph, edits: Sequence[Transformation]) -> list[np.ndarray] | None:
    """The outputs of a copy with edits on random numbers; ``None`` where inputs are of types that have none.

    :raises UnsupportedModelError: when the copy does not run.
    """
    numbers, feed = np.random.default_rng(0), []
    for port in working.model.inputs:
        kind, shape = type_name(port.get_element_type()), port.get_partial_shape()
        if kind not in _DTYPES or shape.rank.is_dynamic:
            return None
        feed.append(numbers.standard_normal([_size(dimension) for dimension in shape]).astype(_DTYPES[kind]))
    copy = WorkingModel(working.model.clone(), kept=[*working.kept])
    try:
        session = session_for(apply(copy, graph, edits))
        return list(session.run(dict(zip(session.inputs, feed, strict=True))).values())
    except RuntimeError as error:
        raise UnsupportedModelError(f"OpenVINO does not run the changed model: {reason_of(error)}") from None


def _size(dimension: ov.Dimension) -> int:
    return int(dimension.get_length() if dimension.is_static else max(_UNKNOWN, dimension.get_min_length()))
