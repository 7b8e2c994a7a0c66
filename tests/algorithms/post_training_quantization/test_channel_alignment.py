"""Channels are shifted between layers; what a network computes stays, and quantization does less harm to it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import nncf
from nncf_core.pipeline import run
from tests.algorithms.post_training_quantization.frameworks import FRAMEWORKS, network, outputs
from tests.algorithms.post_training_quantization.networks import images


class Bottlenecks(nn.Module):
    """Layers with nothing in between, one of them without a bias, one with groups, one padded, and products."""

    def __init__(self) -> None:
        super().__init__()
        self.wide, self.narrow = nn.Conv2d(8, 48, 3), nn.Conv2d(48, 16, 1, bias=False)
        self.grouped, self.padded = nn.Conv2d(16, 32, 3, stride=2, groups=2), nn.Conv2d(32, 16, 3, padding=1)
        self.up, self.down = nn.Linear(16, 32), nn.Linear(32, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.padded(self.grouped(self.narrow(torch.relu(self.wide(x)))))
        return self.down(self.up(torch.relu(x).flatten(2).transpose(1, 2)))


def bottlenecks() -> nn.Module:
    """Channels between layers lie far apart."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = Bottlenecks().eval()
        with torch.no_grad():
            for layer in (module.grouped, module.up):
                layer.bias.normal_(std=5)
            module.narrow.weight += torch.linspace(-1, 1, 16).reshape(-1, 1, 1, 1)
    return module


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_the_network_computes_the_same_and_loses_less(framework: str) -> None:
    samples, test = images(16), images(8, seed=1)
    model, items = network(bottlenecks(), samples, framework)
    wanted = outputs(model, test)
    config = {"compression": {"algorithm": "channel_alignment"}}
    result = run(config, model, dataset=nncf.Dataset(items))
    np.testing.assert_allclose(outputs(result.model, test), wanted, atol=2e-5)
    # behind the layer without a bias and in front of the one with groups, and between the products
    assert sorted(entry.action for entry in result.plan.entries) == ["bias", "replace", "replace", "replace"]

    def loss(disabled: bool) -> float:
        advanced = nncf.AdvancedQuantizationParameters(
            disable_channel_alignment=disabled, smooth_quant_alphas=nncf.AdvancedSmoothQuantParameters(matmul=-1)
        )
        quantized = nncf.quantize(model, nncf.Dataset(items), advanced_parameters=advanced)
        return float(np.linalg.norm(outputs(quantized, test) - wanted))

    assert loss(disabled=False) < 0.7 * loss(disabled=True)
