"""Where no constant can take the division, an operator of its own does, if the user gives the strength."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import nncf
from nncf_core.pipeline import run
from tests.algorithms.post_training_quantization.frameworks import FRAMEWORKS, network, outputs


class Products(nn.Module):
    """Products of an input, of what an activation gives to one layer, and to two."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(16, 32), nn.Linear(32, 32)
        self.left, self.right = nn.Linear(32, 8), nn.Linear(32, 8)
        self.register_buffer("gain", torch.logspace(-2, 1, 32))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.gelu(self.first(x) * self.gain)
        x = functional.gelu(self.second(x) * self.gain)
        return self.left(x) + torch.tanh(self.right(x))


def products() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = Products().eval()
        with torch.no_grad():
            for layer in (module.second, module.left, module.right):
                layer.weight /= module.gain**0.7  # channels of small activations count
    return module


def samples(count: int, seed: int) -> list[np.ndarray]:
    r = np.random.default_rng(seed)
    return [(r.normal(size=(1, 6, 16)) * np.logspace(-1.5, 1, 16)).astype(np.float32) for _ in range(count)]


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_factors_where_no_constant_takes_them(framework: str) -> None:
    test = samples(8, seed=1)
    model, items = network(products(), samples(12, seed=0), framework)
    wanted = outputs(model, test)

    def smoothed(**section: Any) -> tuple[Any, list[str]]:
        config = {"compression": {"algorithm": "smooth_quant", **section}}
        result = run(config, model, dataset=nncf.Dataset(items))
        return result.model, [entry.action for entry in result.plan.entries]

    result, actions = smoothed(alpha_matmul=0.6)
    np.testing.assert_allclose(outputs(result, test), wanted, rtol=1e-3, atol=1e-4 * np.abs(wanted).max())
    # a module's hooks reach what a function gives only where a module takes it
    assert actions.count("multiply") == (4 if framework == "torch" else 3)
    assert "multiply" not in smoothed()[1]
    assert "multiply" not in smoothed(alpha_matmul=-1)[1]

    def loss(alpha: float) -> float:
        alphas = nncf.AdvancedSmoothQuantParameters(matmul=alpha)
        advanced = nncf.AdvancedQuantizationParameters(smooth_quant_alphas=alphas)
        quantized = nncf.quantize(model, nncf.Dataset(items), advanced_parameters=advanced)
        return float(np.linalg.norm(outputs(quantized, test) - wanted))

    assert loss(0.6) < 0.6 * loss(-1)
