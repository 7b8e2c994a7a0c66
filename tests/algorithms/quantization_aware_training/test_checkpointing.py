"""Parts of quantized modules that run again in the backward pass are quantized as they were at first."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

import nncf
import nncf.torch

QUANTIZATION = {"algorithm": "quantization", "weights": {"bits": 2}, "activations": {"bits": 2}}


class Network(nn.Module):
    """A part that runs several times, a layer that is used in it and outside of it, and a part in a part.

    :ivar again: ``use_reentrant``; ``None``: nothing runs again.
    """

    def __init__(self) -> None:
        super().__init__()
        self.shared = nn.Linear(8, 8)
        self.other = nn.Linear(8, 8)
        self.last = nn.Linear(8, 4)
        self.again: bool | None = None

    def run(self, part: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor) -> torch.Tensor:
        """A part of the model."""
        return part(x) if self.again is None else checkpoint(part, x, use_reentrant=self.again)

    def part(self, x: torch.Tensor) -> torch.Tensor:
        """A part with a part."""
        return self.run(lambda y: functional.relu(self.other(y)), functional.gelu(self.shared(x)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Scores."""
        x = self.run(self.part, self.run(self.part, x))
        x = x * functional.gelu(self.shared(x))
        functional.relu_(x)
        return self.last(self.run(lambda y: y + self.other(y), x))


def gradients(model: nn.Module, again: bool | None, x: torch.Tensor) -> dict[str, torch.Tensor | None]:
    """Those of all parameters and of the input, and what the model gives."""
    model = copy.deepcopy(model)
    model.again = again
    x = x.clone().requires_grad_()
    scores = model(x)
    scores.pow(2).sum().backward()
    return {name: p.grad for name, p in model.named_parameters()} | {"input": x.grad, "scores": scores.detach()}


# torch says so of a part in a part, whose first run with use_reentrant=True is without gradients
@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad=True")
@pytest.mark.parametrize("sparsity", [None, "magnitude_sparsity", "rb_sparsity"])
@pytest.mark.parametrize("use_reentrant", [False, True])
def test_gradients_are_those_of_one_run(use_reentrant: bool, sparsity: str | None) -> None:
    torch.manual_seed(0)
    sections = [QUANTIZATION, *([{"algorithm": sparsity}] if sparsity else [])]
    config = nncf.NNCFConfig.from_dict({"input_info": {"sample_size": [4, 8]}, "compression": sections})
    nncf.torch.register_default_init_args(config, [(torch.randn(4, 8), 0)])
    _, model = nncf.torch.create_compressed_model(Network(), config)
    model.train()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("mask_scores"):
                # about half of the weights are masked, others in each pass
                parameter.zero_()
    x = torch.randn(16, 8)
    wanted, found = gradients(model, None, x), gradients(model, use_reentrant, x)
    assert sum(gradient is not None and bool(gradient.any()) for gradient in wanted.values()) > 10
    assert wanted.keys() == found.keys()
    for name, gradient in wanted.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-5, msg=name)


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_errors_of_checkpointed_parts_are_the_users(use_reentrant: bool) -> None:
    class Broken(Network):
        def part(self, x: torch.Tensor) -> torch.Tensor:
            if self.again is not None:
                raise ArithmeticError("of the user")
            return super().part(x)

    model = nncf.quantize(Broken(), nncf.Dataset([torch.randn(4, 8)]))
    model.again = use_reentrant
    with pytest.raises(ArithmeticError, match="of the user"):
        model(torch.randn(4, 8, requires_grad=True))
