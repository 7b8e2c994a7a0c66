"""The factors of a tensor's channels: those with the least error, as far as it can be told beforehand.

With ``r`` the ranges of the channels and ``w`` those of the weights that they meet, the candidates are
``s = r^α / w^(1-α)`` (Xiao et al. 2022, https://arxiv.org/abs/2211.10438, equation 4). Rounding of activations and of
weights is taken for noise that is spread evenly over a step and independent (Nagel et al. 2021,
https://arxiv.org/abs/2106.08295, section 2), so that a layer's output gets, for each of its channels,

``Δ²/12 · Σ (w·s)² + δ²/12 · Σ E[x²]/s²``

from steps ``Δ`` of the activations and ``δ`` of its weights.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from attrs import frozen

from nncf_core.channel_scaling import Role, Share
from nncf_smooth_quant.scaling import Scalable

_FLOORS = (2.0**-10, 2.0**-7, 2.0**-4)
"""Smallest factors, relative to the largest: channels that hardly ever move need no range of their own."""

_STRENGTHS = tuple(step / 10 for step in range(1, 11))


@frozen
class Ranges:
    """What is known of the channels of a tensor, float64.

    :param low: where the range begins.
    :param high: where it ends.
    :param square: mean of the squares.
    """

    low: np.ndarray
    high: np.ndarray
    square: np.ndarray

    @classmethod
    def seen(
        cls, mean_low: np.ndarray, mean_high: np.ndarray, low: np.ndarray, high: np.ndarray, square: np.ndarray
    ) -> Ranges:
        """Ranges from means over samples of the smallest and largest values, and the smallest and largest of all.

        Means serve where a sample has many positions. Of few, they shrink to the mean of the values, which says nothing
        about the range. So it takes at least twice the root of the mean square, which 32 normal numbers reach on
        average, but nothing that was not seen.
        """
        reach = 2 * np.sqrt(square)
        return cls(
            np.maximum(low, np.minimum(mean_low, -reach)), np.minimum(high, np.maximum(mean_high, reach)), square
        )


def choose(tensor: Scalable, ranges: Ranges, alpha: float | None) -> tuple[np.ndarray, float]:
    """Factors for the channels, the largest of which is 1, and how many times less error they give by the estimate.

    :param alpha: the strength; ``None`` to find it. Where nothing is gained all factors are 1, be it given or not.
    """
    weights = [_matrix(share, ranges.low.size) for share in tensor.after if share.role is Role.INPUTS]
    plain = np.ones(ranges.low.size)
    before = _noise(weights, ranges, plain)
    best, least = plain, before
    for factors in _candidates(weights, ranges, alpha):
        noise = _noise(weights, ranges, factors)
        if noise < least:
            best, least = factors, noise
    return best, before / least if least else 1.0


def _candidates(weights: list[np.ndarray], ranges: Ranges, alpha: float | None) -> Iterator[np.ndarray]:
    reach = np.maximum(-ranges.low, ranges.high)
    if not reach.max() > 0:
        return
    reach = np.maximum(reach, 1e-6 * reach.max())
    met = np.ones(reach.size)
    # depthwise, a weight's channel has a scale of its own, so that nothing weighs against even activations
    shared = [np.abs(weight).max(axis=(1, 3)).reshape(-1) for weight in weights if weight.shape[2] > 1]
    if shared:
        met = np.max(shared, axis=0)
        met = np.maximum(met, 1e-6 * met.max())
    for strength in _STRENGTHS if alpha is None else (alpha,):
        factors = reach**strength / met ** (1 - strength) if shared else reach**strength
        for floor in _FLOORS:
            yield np.maximum(factors / factors.max(), floor)


def _noise(weights: list[np.ndarray], ranges: Ranges, factors: np.ndarray) -> float:
    low, high = min((ranges.low / factors).min(), 0), max((ranges.high / factors).max(), 0)
    step = (high - low) / 255
    if not weights:
        return float(step**2 * (factors**2).sum())
    total = 0.0
    for weight in weights:
        groups = weight.shape[0]
        scaled = weight * factors.reshape(groups, 1, -1, 1)
        steps = np.abs(scaled).max(axis=(2, 3)) / 127
        seen = (ranges.square / factors**2).reshape(groups, -1).sum(axis=1) * weight.shape[3]
        total += step**2 * float((scaled**2).sum()) + float((steps**2 * seen[:, None]).sum())
    return total


def _matrix(share: Share, channels: int) -> np.ndarray:
    """A weight as [groups, outputs of a group, inputs of a group, positions of the kernel], float64."""
    layout = share.layout
    assert layout is not None
    values = share.constant.read().astype(np.float64)
    inputs = values.shape[layout.reduction_axes[0]]
    groups = channels // inputs
    order = (*layout.batch_axes, *layout.channel_axes, *layout.reduction_axes)
    kept = int(np.prod([values.shape[axis] for axis in (*layout.batch_axes, *layout.channel_axes)]))
    return values.transpose(order).reshape(groups, kept // groups, inputs, -1)
