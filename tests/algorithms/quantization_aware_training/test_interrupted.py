"""Whatever ends a call of a quantized module, torch is afterwards as it was before."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.nn.modules import module as hooks

import nncf
import nncf.torch
from nncf_core.errors import UnsupportedModelError
from tests.algorithms.quantization_aware_training.training import config, dense
from tests.backends.digits import images


class Stops(nn.Module):
    """Ends with an error, when it is told to, in the midst of its functions."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.error = nn.Linear(16, 16), None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.relu(self.layer(x))
        if self.error is not None:
            raise self.error
        return x + 1


def quantized() -> tuple[nn.Module, torch.Tensor]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model, x = nn.Sequential(Stops(), nn.Linear(16, 4)), torch.randn(8, 16)
    return nncf.quantize(model, nncf.Dataset([x])), x


def state_of_torch() -> tuple[int, int, int]:
    return (
        torch._C._len_torch_function_stack(),
        len(hooks._global_forward_pre_hooks),
        len(hooks._global_forward_hooks),
    )


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, ValueError])
def test_an_error_inside_of_a_call_leaves_nothing_behind(error: type[BaseException]) -> None:
    model, x = quantized()
    before, wanted = state_of_torch(), model(x)
    model[0].error = error()
    for _ in range(2):
        with pytest.raises(error):
            model(x)
        assert state_of_torch() == before
    plain = torch.ones(3)
    assert torch.equal(plain + 1, torch.tensor([2.0, 2.0, 2.0]))
    model[0].error = None
    assert torch.equal(model(x), wanted)


def test_a_quantized_module_keeps_its_names_and_is_copied() -> None:
    model, x = quantized()
    assert (type(model).__name__, isinstance(model, nn.Sequential)) == ("Sequential", True)
    read = pickle.loads(pickle.dumps(model))  # noqa: S301 - what was written just now
    for other in (copy.deepcopy(model), read, nn.Sequential(model)):
        assert torch.equal(other(x), model(x))
    made = nncf.torch.load_from_config(nn.Sequential(Stops(), nn.Linear(16, 4)), nncf.torch.get_config(model))
    made.load_state_dict(model.state_dict())
    assert torch.equal(made(x), model(x))


@pytest.mark.parametrize("way", ["whole", "part", "in place"])
def test_compilers_that_would_miss_quantizers_are_refused(way: str) -> None:
    model, x = quantized()
    if way == "in place":
        model.compile(backend="eager")
        compiled = model
    else:
        compiled = torch.compile(model if way == "whole" else nn.Sequential(model), backend="eager")
    with pytest.raises(UnsupportedModelError, match=r"torch\.compile does not see .*torch\.export\.export\(model"):
        compiled(x)
    assert torch._C._len_torch_function_stack() == 0


def test_the_teacher_is_not_quantized_and_leaves_quantizers_where_they_are() -> None:
    x = images()[2][:32]
    quantization = {"algorithm": "quantization", "preset": "mixed", "weights": {"bits": 4}, "activations": {"bits": 4}}
    distillation = {"algorithm": "knowledge_distillation", "type": "mse"}
    _, alone = nncf.torch.create_compressed_model(dense(), config(quantization))
    controller, taught = nncf.torch.create_compressed_model(dense(), config(quantization, distillation))
    with torch.no_grad():
        wanted, original = alone.train()(x), dense()(x)
        found = taught.train()(x)
    assert torch.equal(found, wanted)
    assert float(controller.loss()) == pytest.approx(float(((found - original) ** 2).mean()), rel=1e-5)
