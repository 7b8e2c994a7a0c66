"""The factors of a tensor's channels: those with which the weights lose least when they are rounded.

The loss of a layer's output by a weight ``W`` that is rounded as ``Q(s·W)/s`` is
``Σ_i E[x_i²] Σ_o (Q(s·W)/s - W)²_oi``, as for channels that are independent of each other, summed over the layers that
take the tensor. Candidates are those of Lin et al. 2023 (https://arxiv.org/abs/2306.00978, section 3.2 and the authors'
code), ``s = r^α / w^(δ(1-α))`` with ``r`` the roots of ``E[x²]`` and ``w`` the magnitude of the weights of a channel.

Without data, ``r`` is taken for ``1 / w^2.25``: training makes the weights of a channel small whose activations are
large. By measurement that tells more of activations than the constants before the layer, from which their size could be
estimated.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from attrs import frozen

from nncf_core.channel_scaling import Share
from nncf_core.numerics.formats import Scheme
from nncf_core.numerics.kernels import compress, decompress

_ROWS = 128
"""Outputs that a loss is looked at for, spread over all layers that take the tensor."""

_ROWS_OF_MAGNITUDES = 1024

_BALANCES = (0.0, 0.5, 1.0)
"""How far ``s`` evens out weights: δ."""

_GUESS = -2.25
"""Power of ``w`` that ``r`` is taken for without data. On SmolLM2-135M a power of -1.75 loses more."""

_COARSE = 8  # exponents that are looked at first

_FLOOR = 1 / 16
"""Channels that are smaller than this share of the median count as so large: they may move more on other data."""


@frozen
class Rounding:
    """How weights will be rounded."""

    scheme: Scheme
    group_size: int
    codebook: np.ndarray | None = None

    def __call__(self, weight: np.ndarray) -> np.ndarray:
        """What a matrix ``[outputs, inputs]``, float32, becomes."""
        grouped = None if self.group_size == -1 else 1
        tensor = compress(
            weight,
            self.scheme,
            reduction_axes=1,
            group_axis=grouped,
            group_size=self.group_size,
            codebook=self.codebook,
        )
        return decompress(tensor)


@frozen
class Choice:
    """Factors for the channels, float64, and how many times less the layers lose with them."""

    factors: np.ndarray
    gain: float


def choose(
    shares: Sequence[Share], square: np.ndarray | None, rounding: Rounding, exponents: np.ndarray, powers_of_two: bool
) -> Choice | None:
    """The best factors, of geometric mean 1; ``None`` when none are better than ones, or a weight is not finite.

    :param shares: the weights.
    :param square: ``E[x²]`` of each channel; ``None`` without data.
    :param exponents: ``α`` to choose from, ascending.
    :param powers_of_two: whether factors must change no digit of a number.
    """
    rows = np.concatenate([_rows(share, max(_ROWS // len(shares), 1)) for share in shares])
    magnitudes = [_magnitude(_rows(share, _ROWS_OF_MAGNITUDES)) for share in shares]
    for share in shares:
        share.constant.release()
    if not (np.isfinite(rows).all() and all(np.isfinite(each).all() for each in magnitudes)):
        return None  # who compresses the weight says what is wrong with it
    # layers count alike, whatever the size of their weights
    magnitude = np.exp2(np.mean([np.log2(floored(each)) for each in magnitudes], axis=0))
    reach = magnitude**_GUESS if square is None else floored(np.sqrt(square))
    search = _Search(rows, magnitude, reach**2, rounding, powers_of_two)
    factors, loss = search.best(exponents)
    plain = search.loss(np.ones(magnitude.size))
    return Choice(factors, plain / loss if loss > 0 else np.inf) if loss < plain else None


def floored(sizes: np.ndarray) -> np.ndarray:
    """Sizes of channels, none of which is (nearly) zero beside the others."""
    positive = sizes[sizes > 0]
    return np.maximum(sizes, _FLOOR * np.median(positive)) if positive.size else np.ones(sizes.size)


@frozen
class _Search:
    rows: np.ndarray
    magnitude: np.ndarray
    square: np.ndarray
    rounding: Rounding
    powers_of_two: bool

    def best(self, exponents: np.ndarray) -> tuple[np.ndarray, float]:
        """Factors and their loss: coarse exponents, then how far weights are evened out, then finer exponents."""
        losses: dict[tuple[int, float], float] = {}

        def least(pairs: Sequence[tuple[int, float]]) -> tuple[int, float]:
            for index, balance in pairs:
                if 0 <= index < len(exponents) and (index, balance) not in losses:
                    losses[index, balance] = self.loss(self.factors(float(exponents[index]), balance))
            return min(losses, key=lambda pair: losses[pair])

        stride = max(len(exponents) // _COARSE, 1)
        index, _ = least([(i, _BALANCES[1]) for i in range(0, len(exponents), stride)])
        index, balance = least([(index + step, b) for b in _BALANCES for step in (-stride, 0, stride)])
        for _ in range(2):
            stride //= 2
            index, balance = least([(index + step, balance) for step in (-stride, stride)])
        return self.factors(float(exponents[index]), balance), losses[index, balance]

    def factors(self, exponent: float, balance: float) -> np.ndarray:
        """The candidate, of geometric mean 1."""
        logarithm = exponent / 2 * np.log2(self.square) - balance * (1 - exponent) * np.log2(self.magnitude)
        logarithm -= logarithm.mean()
        return np.asarray(np.exp2(np.rint(logarithm) if self.powers_of_two else logarithm))

    def loss(self, factors: np.ndarray) -> float:
        """``Σ_i E[x_i²] Σ_o (Q(s·W)/s - W)²_oi`` over the rows that are looked at."""
        scale = factors.astype(np.float32)
        error = self.rounding(self.rows * scale)
        np.divide(error, scale, out=error)
        np.subtract(error, self.rows, out=error)
        return float(np.einsum("oi,oi->i", error, error).astype(np.float64) @ self.square)


def _rows(share: Share, limit: int) -> np.ndarray:
    """Up to so many rows of a weight, one for an output, spread over all of them; float32."""
    layout = share.layout
    assert layout is not None
    matrix = np.moveaxis(share.constant.read(), layout.reduction_axes[0], -1)
    matrix = matrix.reshape(-1, matrix.shape[-1])
    step = -(-len(matrix) // limit)
    return np.ascontiguousarray(matrix[::step], np.float32)


def _magnitude(rows: np.ndarray) -> np.ndarray:
    """How large the weights of each input channel are, ``(mean √|w|)²``: few large ones say less of a channel."""
    return np.asarray(np.square(np.sqrt(np.abs(rows)).mean(axis=0, dtype=np.float64)))
