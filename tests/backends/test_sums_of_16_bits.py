"""Processors that add two neighbouring products of 8 bits in 16 bits compute what others do."""

from __future__ import annotations

from typing import Any

import numpy as np
import openvino
import pytest
import torch
from torch import nn

import nncf
from nncf_core.graph import OpKind
from tests.backends.digits import converted

FRAMEWORKS = ("onnx", "openvino", "torch")


class Lopsided(nn.Module):
    """Layers of weights that are nearly all above zero, and so are their inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 16, 3, padding=1)
        self.grouped = nn.Conv2d(16, 32, 3, padding=1, groups=4)
        self.wide = nn.Conv2d(32, 32, 1)
        self.last = nn.Linear(32 * 16, 24)
        for layer in (self.first, self.grouped, self.wide, self.last):
            nn.init.uniform_(layer.weight, -0.1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.wide(torch.relu(self.grouped(torch.relu(self.first(x))))))
        return self.last(nn.functional.max_pool2d(x, 4).flatten(1))


def network(framework: str) -> tuple[Any, list[torch.Tensor]]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module, items = Lopsided().eval(), list(torch.rand(6, 1, 3, 16, 16) + 0.5)
    return converted(module, items[0], framework), items


def quantized(framework: str, device: nncf.TargetDevice = nncf.TargetDevice.ANY, **advanced: Any) -> Any:
    model, items = network(framework)
    return nncf.quantize(
        model,
        nncf.Dataset(items if framework == "torch" else [item.numpy() for item in items]),
        target_device=device,
        advanced_parameters=nncf.AdvancedQuantizationParameters(quantize_outputs=True, **advanced),
    )


def codes_of(model: Any, framework: str) -> list[np.ndarray]:
    """Codes of each layer, [outputs, inputs, positions]."""
    example = network("torch")[1][0]
    graph = nncf.build_graph(model, example_input=example if framework == "torch" else None)
    found = []
    for node in graph:
        for _, port in node.weights:
            read = graph.constants[str(port.constant)].compressed
            if node.kind in (OpKind.CONV, OpKind.MATMUL) and read is not None:
                tensor = read()
                codes = tensor.codes.view(np.int8).reshape(tensor.shape).astype(int)
                if node.kind is OpKind.MATMUL and codes.shape[0] != 24:
                    codes = codes.T
                if codes.ndim == 5:
                    codes = codes.reshape(-1, *codes.shape[2:])
                found.append(codes.reshape(*codes.shape[:2], -1))
    return found


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_neighbours_fit_and_nothing_is_given_away(framework: str) -> None:
    layers = codes_of(quantized(framework), framework)
    assert len(layers) >= 2
    for codes in layers:
        # an input without a neighbour stands alone
        sums = [codes[:, k : k + 2].sum(axis=1) for k in range(0, codes.shape[1], 2)]
        largest = np.abs(sums).max(axis=(0, 2))
        assert largest.max() <= 128
        alone = np.abs(codes).max(axis=(1, 2))
        assert ((largest >= 127) | (alone == 127)).all()


@pytest.mark.parametrize("device", ["CPU_SPR", "GPU", "NPU"])
def test_other_devices_use_the_whole_range(device: str) -> None:
    for codes in codes_of(quantized("openvino", nncf.TargetDevice(device)), "openvino"):
        assert (np.abs(codes).max(axis=(1, 2)) == 127).all()


@pytest.mark.parametrize("framework", ["openvino", "torch"])
def test_this_processor_computes_what_the_codes_say(framework: str) -> None:
    result, (_, items) = quantized(framework), network(framework)
    if framework == "torch":
        wanted = [result(item).detach().numpy() for item in items]
        result = openvino.convert_model(torch.export.export(result, (items[0],)))
    else:
        torch_result = quantized("torch")
        wanted = [torch_result(item).detach().numpy() for item in items]
    compiled = openvino.Core().compile_model(result, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    for item, expected in zip(items, wanted, strict=True):
        found = compiled(item.numpy())[0]
        # a tensor between two integers may go either way
        assert np.abs(found - expected).max() <= 0.01 * np.abs(expected).max()
