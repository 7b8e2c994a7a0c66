"""Traces of the Hessian of a loss, for weights of a module."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from nncf_core.errors import ParameterNotSupportedError
from nncf_torch.inputs import Call
from nncf_torch.module_model import ModuleModel
from nncf_torch.places import places
from nncf_torch.running import evaluating, on_device

if TYPE_CHECKING:
    from nncf_torch.structures import QuantizationPrecisionInitArgs


def traces(
    model: ModuleModel,
    names: Sequence[str],
    given: QuantizationPrecisionInitArgs,
    samples: int,
    vectors: int,
    tolerance: float,
) -> dict[str, float]:
    """The trace of each weight's block of the Hessian over the number of its elements, by Hutchinson's method.

    ``E[vᵀ·H·v]`` is the trace for ``v`` of independent signs (Avron and Toledo 2011, section 2). Each weight has
    vectors of its own: one for all would do, but what lies off the blocks makes its estimates several times as noisy.

    :param samples: of the loader; batches are taken until there are so many.
    :param vectors: at most so many for a batch, and fewer where the mean changes by less than ``tolerance``, relative.
    :raises ParameterNotSupportedError: when a weight is not in floating point.
    """
    from nncf_torch.initialization import wrap_dataloader_for_init

    known = places(model.module)
    weights = [known[name].tensor for name in names]
    if any(weight is None for weight in weights):
        raise ParameterNotSupportedError("Traces are those of weights in floating point; quantize before compressing.")
    tensors = [weight for weight in weights if weight is not None]
    loader = wrap_dataloader_for_init(given.data_loader)
    batch, generator = loader.batch_size, torch.Generator().manual_seed(0)
    total, count = torch.zeros(len(tensors), dtype=torch.float64), 0
    with evaluating(model.module), _with_gradients(tensors), torch.enable_grad():
        for item in loader:
            call = on_device(model.module, Call(*loader.get_inputs(item)))
            target = on_device(model.module, Call((loader.get_target(item),), {})).args[0]
            loss = given.criterion_fn(model.module(*call.args, **call.kwargs), target, given.criterion)
            total += _of_loss(loss, tensors, vectors, tolerance, generator)
            count += 1
            if count * batch >= samples:
                break
    return {
        name: float(value) / max(count, 1) / tensor.numel()
        for name, value, tensor in zip(names, total, tensors, strict=True)
    }


def _of_loss(
    loss: torch.Tensor, weights: list[torch.Tensor], vectors: int, tolerance: float, generator: torch.Generator
) -> torch.Tensor:
    gradients = torch.autograd.grad(loss, weights, create_graph=True, materialize_grads=True)
    return torch.tensor(
        [_of_block(g, w, vectors, tolerance, generator) for g, w in zip(gradients, weights, strict=True)],
        dtype=torch.float64,
    )


def _of_block(
    gradient: torch.Tensor, weight: torch.Tensor, vectors: int, tolerance: float, generator: torch.Generator
) -> float:
    mean = 0.0
    for number in range(1, vectors + 1):
        signs = (torch.randint(0, 2, weight.shape, generator=generator) * 2 - 1).to(weight.device, weight.dtype)
        (product,) = torch.autograd.grad(gradient, weight, signs, retain_graph=True, materialize_grads=True)
        before, mean = mean, mean + (float((signs * product).sum()) - mean) / number
        if number > 1 and abs(mean - before) <= tolerance * abs(before):
            break
    return mean


@contextmanager
def _with_gradients(tensors: Sequence[torch.Tensor]) -> Iterator[None]:
    before = [tensor.requires_grad for tensor in tensors]
    try:
        for tensor in tensors:
            tensor.requires_grad_(True)
        yield
    finally:
        for tensor, wanted in zip(tensors, before, strict=True):
            tensor.requires_grad_(wanted)
