"""Zeros and ones that weights are multiplied by whenever they are read.

A parameter ``w`` keeps its name and its values. Beside it lie, of a mask

- that is fixed: the buffer ``w_mask``, bool;
- that is sampled: the parameter ``w_mask_scores``, float32, and the buffer ``w_mask_step``, how many forward passes the
  module has begun in training;
- that is scored: the parameter ``w_mask_scores``, float32, and the buffer ``w_mask_threshold``.

A mask has the weight's rank, and each of its dimensions divides the weight's: an element stands for a block.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.overrides import handle_torch_function, has_torch_function

from nncf_core.transformations import MaskKind
from nncf_torch.attributes import SURROUNDING
from nncf_torch.noise import logistic

MASKS = "_masks"
"""Attribute of a module: :class:`Mask` by name of the weight."""

MASK_PARTS = ("mask", "mask_scores", "mask_step", "mask_threshold")
"""Names of the tensors, in the order of the arguments of :func:`mask_value`."""


class Mask(NamedTuple):
    """Where zeros and ones come from; a tuple, which ``torch.compile`` reads as a constant.

    :param kind: value of a ``MaskKind``.
    :param shape: of the mask.
    :param full: shape of the weight.
    :param seed: of the noise of a sampled mask.
    :param sampling: whether a sampled mask is drawn anew in each training step.
    """

    kind: str
    shape: tuple[int, ...]
    full: tuple[int, ...]
    seed: int = 0
    sampling: bool = True

    @property
    def blocks(self) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
        """Shapes in which weight and mask broadcast against each other; ``None``: theirs."""
        pairs = list(zip(self.full, self.shape, strict=True))
        if all(m in (1, n) for n, m in pairs):
            return None
        return tuple(k for n, m in pairs for k in (m, n // m)), tuple(k for _, m in pairs for k in (m, 1))


def masks_of(module: nn.Module) -> Mapping[str, Mask]:
    """The masks of the weights that a module itself holds, by name."""
    found: Mapping[str, Mask] = module.__dict__.get(MASKS, {})
    return found


def mask_parts_of(module: nn.Module, name: str) -> dict[str, torch.Tensor]:
    """The tensors beside a masked weight, by name."""
    found = dict[str, torch.Tensor]()
    for part in MASK_PARTS:
        key = f"{name}_{part}"
        tensor: torch.Tensor | None = module._parameters.get(key)
        tensor = module._buffers.get(key) if tensor is None else tensor
        if tensor is not None:
            found[part] = tensor
    return found


def names_of_mask_parts(module: nn.Module) -> set[str]:
    """Names of the tensors beside all masked weights of a module."""
    return {f"{name}_{part}" for name in masks_of(module) for part in MASK_PARTS}


def new_mask(
    kind: MaskKind, values: torch.Tensor, name: str, full: tuple[int, ...], device: torch.device
) -> tuple[Mask, dict[str, torch.Tensor]]:
    """A mask, and its tensors.

    :param values: zeros and ones of a fixed mask, otherwise the parameters to begin with.
    :param name: of the weight; others have other noise.
    :param full: shape of the weight.
    """
    mask = Mask(kind.value, tuple(values.shape), full, zlib.crc32(name.encode()))
    if kind is MaskKind.FIXED:
        return mask, {"mask": (values != 0).to(device)}
    parts: dict[str, torch.Tensor] = {"mask_scores": nn.Parameter(values.to(device, torch.float32))}
    if kind is MaskKind.SAMPLED:
        parts["mask_step"] = torch.zeros((), dtype=torch.int64, device=device)
    else:
        parts["mask_threshold"] = torch.zeros((), device=device)
    return mask, parts


def mask_value(
    mask: Mask,
    training: bool,
    fixed: torch.Tensor | None,
    scores: torch.Tensor | None,
    step: torch.Tensor | None,
    threshold: torch.Tensor | None,
) -> torch.Tensor:
    """Zeros and ones in the mask's shape; gradients go straight through to the scores.

    A sampled mask is ``sigmoid(score + noise) > 0.5`` in training, with logistic noise, so that it is 1 with
    probability ``sigmoid(score)`` (Srinivas et al. 2017, https://arxiv.org/abs/1611.06694); its gradient is that of
    the sigmoid.
    """
    if fixed is not None:
        return fixed
    assert scores is not None
    if step is not None:
        if training and mask.sampling:
            scores = scores + logistic(tuple(scores.shape), mask.seed, step)
        return _step(torch.sigmoid(scores), 0.5)
    return _step(scores, 0.0 if threshold is None else threshold)


def apply_mask(
    weight: torch.Tensor, mask: torch.Tensor, blocks: tuple[tuple[int, ...], tuple[int, ...]] | None
) -> torch.Tensor:
    """A weight times zeros and ones, in the weight's type.

    :param blocks: see :attr:`Mask.blocks`.
    """
    if has_torch_function((weight, mask)):
        # one call for those who watch torch functions
        result: torch.Tensor = handle_torch_function(apply_mask, (weight, mask), weight, mask, blocks)
        return result
    mask = mask.to(weight.dtype)
    if blocks is None:
        return weight * mask
    outer, inner = blocks
    return (weight.reshape(outer) * mask.reshape(inner)).reshape(weight.shape)


def evaluated_weight(module: nn.Module, name: str, weight: torch.Tensor) -> torch.Tensor:
    """A weight of a module, or another tensor of its shape, as the mask leaves it in evaluation."""
    return apply_mask(weight, evaluated(module, name), masks_of(module)[name].blocks)


def evaluated(module: nn.Module, name: str) -> torch.Tensor:
    """What the mask of a weight is in evaluation, in the mask's shape; gradients go straight through."""
    parts = mask_parts_of(module, name)
    return mask_value(masks_of(module)[name], False, *(parts.get(part) for part in MASK_PARTS))


class CountSteps:
    """Forward pre-hook of a model with sampled masks: each forward pass in training has other noise.

    Of a pass that is run again to save memory (``torch.utils.checkpoint``), only modules inside of the model are; so
    their noise is the same. What surrounds the calls of a model has read the weights before hooks run, and counts
    itself.
    """

    def __call__(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        """Count."""
        if SURROUNDING not in module.__dict__:
            count(module)


def count(root: nn.Module) -> None:
    """A forward pass of a model begins, which may have sampled masks."""
    if not root.training:
        return
    # tensors are the same for all owners of a shared weight until somebody moves the model
    steps = {id(step): step for owner in root.modules() for step in _steps(owner)}
    with torch.no_grad():
        for step in steps.values():
            step.add_(1)


def let_count(root: nn.Module) -> None:
    """Give a model the hook, if it has none."""
    if not any(isinstance(hook, CountSteps) for hook in root._forward_pre_hooks.values()):
        root.register_forward_pre_hook(CountSteps(), prepend=True)


def _steps(owner: nn.Module) -> Iterator[torch.Tensor]:
    for name in masks_of(owner):
        step = owner._buffers.get(f"{name}_mask_step")
        if step is not None:
            yield step


def _step(exact: torch.Tensor, threshold: torch.Tensor | float) -> torch.Tensor:
    """1 where a number exceeds a threshold; gradients go straight through."""
    above: torch.Tensor = exact > threshold
    kept = above.to(exact.dtype)
    if not (torch.is_grad_enabled() and exact.requires_grad):
        return kept
    # the difference is zero: numbers are finite
    return kept + (exact - exact.detach())
