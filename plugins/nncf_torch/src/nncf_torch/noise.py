"""Random numbers that are a function of a seed, a step and a place, and of nothing else.

So runs are reproducible, all processes of a distributed training draw the same, on any device, and a training that goes
on from a saved state draws what an uninterrupted one would have. Plain operators of tensors compute them, which
``torch.compile`` reads.
"""

from __future__ import annotations

from math import prod

import torch

_MASK = 0xFFFFFFFF


def uniform(shape: tuple[int, ...], seed: int, step: torch.Tensor) -> torch.Tensor:
    """Float32 numbers between 0 and 1, neither of them included: ``(bits + 1/2) / 2^24`` of 24 random bits.

    The bits are those of a hash of 32-bit integers: ``mix(mix(seed + step · 0x9E3779B9) ^ mix(index))`` with what
    C. Wellons found to be the least biased of its form (https://nullprogram.com/blog/2018/07/31/, "lowbias32").

    :param seed: 32 bits.
    :param step: a 64-bit integer; its lower half counts.
    """
    index = torch.arange(prod(shape), dtype=torch.int64, device=step.device)
    key = _mixed((seed + step * 0x9E3779B9) & _MASK)
    bits = _mixed(key ^ _mixed(index & _MASK))
    return ((bits >> 8).to(torch.float32) + 0.5).mul(2.0**-24).reshape(shape)


def logistic(shape: tuple[int, ...], seed: int, step: torch.Tensor) -> torch.Tensor:
    """Float32 numbers of the logistic distribution: ``log(u / (1 - u))``."""
    return torch.logit(uniform(shape, seed, step))


def _mixed(x: torch.Tensor) -> torch.Tensor:
    # products wrap at 64 bits, whose lower half is right
    x = x ^ (x >> 16)
    x = (x * 0x7FEB352D) & _MASK
    x = x ^ (x >> 15)
    x = (x * 0x846CA68B) & _MASK
    return x ^ (x >> 16)
