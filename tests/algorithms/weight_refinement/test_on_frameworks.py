"""The same network in every framework: refined weights lose less, and about equally much everywhere."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import onnxruntime
import openvino
import pytest
import torch

import nncf
from nncf_core.pipeline import run
from tests.backends.test_refinement import FRAMEWORKS, items, network

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


def outputs(framework: str, model: Any) -> np.ndarray:
    test = items(40)[30:]
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
    section = {"algorithm": "weight_compression", "mode": "int4_asym", "group_size": 16}
    dataset = nncf.Dataset(items(30)) if CHAINS[chain] else None
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
    assert max(errors) < 1.02 * min(errors)
