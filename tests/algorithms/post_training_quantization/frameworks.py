"""One network in every framework, and what runs it there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
import openvino
import torch
from torch import nn

from tests.backends.digits import converted

FRAMEWORKS = ("onnx", "openvino", "torch", "torch program")


def network(module: nn.Module, samples: Sequence[np.ndarray], framework: str) -> tuple[Any, list[Any]]:
    """The network as a model of a framework, and samples as its inputs."""
    example = torch.from_numpy(samples[0])
    if framework == "torch program":
        return torch.export.export(module, (example,)), [torch.from_numpy(x) for x in samples]
    items = [torch.from_numpy(x) for x in samples] if framework == "torch" else list(samples)
    return converted(module, example, framework), items


def outputs(model: Any, samples: Sequence[np.ndarray]) -> np.ndarray:
    """What a model gives for each sample, float64."""
    if isinstance(model, onnx.ModelProto):
        session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        name = model.graph.input[0].name
        arrays = [session.run(None, {name: x})[0] for x in samples]
    elif isinstance(model, openvino.Model):
        compiled = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        arrays = [compiled([x])[0] for x in samples]
    else:
        module = model if isinstance(model, nn.Module) else model.module()
        with torch.no_grad():
            arrays = [module(torch.from_numpy(x)).numpy() for x in samples]
    return np.stack(arrays).astype(np.float64)
