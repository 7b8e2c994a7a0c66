"""The same network in every framework: refined weights lose less, and about equally much everywhere."""

from __future__ import annotations

import io
import warnings
from functools import cache
from typing import Any

import numpy as np
import onnx
import onnxruntime
import openvino
import pytest
import torch
from torch import nn

import nncf
from nncf_core.pipeline import run

FRAMEWORKS = ("onnx", "openvino", "torch", "program")
WIDTH, HIDDEN = 32, 64

CHAINS: dict[str, list[dict[str, Any]]] = {
    "nearest": [],
    "scale_search": [{"algorithm": "scale_search"}],
    "scale_estimation": [{"algorithm": "scale_estimation"}],
    "gptq": [{"algorithm": "gptq", "damp_percent": 0.01}],
    "all": [
        {"algorithm": "error_propagation", "strength": 0.75},
        {"algorithm": "scale_search"},
        {"algorithm": "gptq", "damp_percent": 0.01},
        {"algorithm": "refinement"},
    ],
}


class Network(nn.Module):
    """Gated blocks, each added to what came in; weights have heavy tails, channels differ in size."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Linear(WIDTH, WIDTH)
        self.norms = nn.ModuleList(nn.LayerNorm(WIDTH) for _ in range(3))
        self.gates, self.ups = (nn.ModuleList(nn.Linear(WIDTH, HIDDEN) for _ in range(3)) for _ in range(2))
        self.downs = nn.ModuleList(nn.Linear(HIDDEN, WIDTH, bias=False) for _ in range(3))
        generator = np.random.default_rng(0)
        for name, parameter in self.named_parameters():
            value = generator.standard_t(4, parameter.shape) / 8
            if "norms" in name and name.endswith("weight"):
                value = np.exp(generator.normal(size=parameter.shape))
            parameter.data = torch.from_numpy(value.astype(np.float32))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.tanh(self.mix(torch.tanh(x)))
        for norm, gate, up, down in zip(self.norms, self.gates, self.ups, self.downs, strict=True):
            y = norm(x)
            x = x + down(nn.functional.silu(gate(y)) * up(y))
        return x


def items(count: int) -> list[tuple[np.ndarray]]:
    generator = np.random.default_rng(0)
    return [(generator.normal(size=(16, WIDTH)).astype(np.float32),) for _ in range(count)]


@cache
def network(framework: str) -> Any:
    module = Network().eval()
    if framework == "torch":
        return module
    example = (torch.zeros(16, WIDTH),)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporters
        program = torch.export.export(module, example)
        if framework == "program":
            return program
        if framework == "openvino":
            return openvino.convert_model(program)
        stream = io.BytesIO()
        torch.onnx.export(module, example, dynamo=True, opset_version=21, verbose=False).save(stream)
    return onnx.load_model_from_string(stream.getvalue())


def outputs(framework: str, model: Any) -> np.ndarray:
    test = items(60)[50:]
    if framework == "onnx":
        options = onnxruntime.SessionOptions()
        options.add_session_config_entry("session.qdq_matmulnbits_accuracy_level", "0")  # activations as they are
        session = onnxruntime.InferenceSession(model.SerializeToString(), options)
        names = [each.name for each in session.get_inputs()]
        found = [session.run(None, dict(zip(names, item, strict=True)))[0] for item in test]
    elif framework == "openvino":
        exact = {"INFERENCE_PRECISION_HINT": "f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0}
        compiled = openvino.Core().compile_model(model, "CPU", exact)
        found = [compiled(list(item))[0] for item in test]
    else:
        module = model.module() if framework == "program" else model
        with torch.no_grad():
            found = [module(*map(torch.from_numpy, item)).numpy() for item in test]
    return np.concatenate([each.ravel() for each in found]).astype(np.float64)


@cache
def error(framework: str, chain: str) -> float:
    section = {"algorithm": "weight_compression", "mode": "int4_asym", "group_size": 16, "all_layers": True}
    dataset = nncf.Dataset(items(50)) if CHAINS[chain] else None
    result = run({"compression": [section, *CHAINS[chain]]}, network(framework), dataset=dataset)
    wanted = outputs(framework, network(framework))
    return float(np.linalg.norm(outputs(framework, result.model) - wanted) / np.linalg.norm(wanted))


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("chain", [chain for chain in CHAINS if chain != "nearest"])
def test_refined_weights_lose_less(framework, chain):
    best = {"scale_search": 0.99, "scale_estimation": 0.99, "gptq": 0.88, "all": 0.7}[chain]
    assert error(framework, chain) < best * error(framework, "nearest")


@pytest.mark.parametrize("chain", CHAINS)
def test_frameworks_agree(chain):
    errors = [error(framework, chain) for framework in FRAMEWORKS]
    # where the processor knows bfloat16, OpenVINO's data are rounded, and a strength that is tried may turn out another
    assert max(errors) < (1.05 if chain == "all" else 1.02) * min(errors)
