"""Targets that make up for the errors of the layers before (QEP, Arai and Ichikawa 2025, https://arxiv.org/abs/2504.09629).

A layer behind compressed ones gets inputs ``X`` instead of those of the float model, ``F``. Its outputs are nearest to
the float model's, ``min ‖X Vᵀ - F Wᵀ‖²``, for ``V = W C (H + λI)⁻¹`` with ``C = FᵀX / n`` and ``H = XᵀX / n``.
"""

from __future__ import annotations

import numpy as np


def shifted_target(
    target: np.ndarray, gram: np.ndarray, cross: np.ndarray, strength: float = 0.5, damping: float = 0.01
) -> np.ndarray:
    """``W + strength · W (C - H)(H + λI)⁻¹``, float32, of the shape of the target.

    :param target: W, float32, [batch, outputs, inputs].
    :param gram: H, [inputs, inputs].
    :param cross: C, of the same shape; its first axis is that of the float model's inputs.
    :param strength: from 0, for no change, to 1, for what is best on the samples themselves.
    :param damping: λ as a part of the mean of H's diagonal.
    """
    exact = gram.astype(np.float64)
    mean = float(np.diagonal(exact).mean())
    if strength == 0 or not mean > 0:
        return target
    # both sides turned: H is symmetric
    difference = (cross.astype(np.float64) - exact).T
    np.fill_diagonal(exact, np.diagonal(exact) + damping * mean)
    change = np.linalg.solve(exact, difference).T * strength
    shift = target.reshape(-1, target.shape[2]) @ change.astype(np.float32)
    shifted: np.ndarray = target + shift.reshape(target.shape)
    return shifted
