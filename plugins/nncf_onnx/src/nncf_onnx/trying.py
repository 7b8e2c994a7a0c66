"""Copies of a model, run to see what edits do."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from nncf_core.errors import UnsupportedModelError
from nncf_core.graph import Graph
from nncf_core.transformations import Transformation
from nncf_onnx.editing import apply
from nncf_onnx.options import write_options
from nncf_onnx.running import session_for

_UNKNOWN = 2
"""Size in place of those that the model leaves open."""


def trial(model: ir.Model, graph: Graph, edits: Sequence[Transformation]) -> list[np.ndarray] | None:
    """The outputs of a copy with edits on random numbers; ``None`` where inputs are of types that have none.

    :raises UnsupportedModelError: when the copy does not run.
    """
    numbers = np.random.default_rng(0)
    feed = {}
    for value in model.graph.inputs:
        if value.is_initializer():
            continue
        if value.dtype not in (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.DOUBLE) or value.shape is None:
            return None
        shape = [dim if isinstance(dim, int) and dim > 0 else _UNKNOWN for dim in value.shape]
        feed[value.name or ""] = numbers.standard_normal(shape).astype(value.dtype.numpy())
    copy = apply(model.clone(), graph, edits, write_options({}))
    try:
        return list(session_for(copy).run(feed).values())
    except UnsupportedModelError:
        raise
    except Exception as error:  # onnxruntime's own have no common public base
        raise UnsupportedModelError(f"onnxruntime does not run the changed model: {error}") from None
