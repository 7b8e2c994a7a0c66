"""Running onnx_ir models in onnxruntime."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime

from nncf_core.contracts import Runner
from nncf_core.errors import UnsupportedModelError
from nncf_onnx.saving import LIMIT, save, stored_bytes


def session_for(model: ir.Model) -> Any:
    """An onnxruntime session on the CPU; outputs do not depend on the number of threads' scheduling.

    :raises UnsupportedModelError: when onnxruntime does not take the model.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    providers = ["CPUExecutionProvider"]
    try:
        if stored_bytes(model) < LIMIT:
            serialized = ir.to_proto(model).SerializeToString()
            return onnxruntime.InferenceSession(serialized, options, providers=providers)
        with tempfile.TemporaryDirectory(prefix="nncf_") as folder:
            path = Path(folder) / "model.onnx"
            save(model, path)
            return onnxruntime.InferenceSession(path, options, providers=providers)
    except Exception as error:
        # onnxruntime's own errors have no common public base
        raise UnsupportedModelError(f"onnxruntime does not run the model: {error}") from None


def runner(model: ir.Model) -> Runner:
    """A callable from arrays by input name to arrays by output name."""
    session = session_for(model)
    names = [output.name for output in session.get_outputs()]

    def run(feed: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        return dict(zip(names, session.run(names, dict(feed)), strict=True))

    return run


def input_names(session: Any) -> Sequence[str]:
    """Names of a session's inputs, in order."""
    return [value.name for value in session.get_inputs()]
