"""Targets that make up for the errors of the layers before (QEP, Arai and Ichikawa 2025, https://arxiv.org/abs/2504.09629).

A layer behind compressed ones gets inputs ``X`` instead of those of the float model, ``F``. Its outputs are nearest to
the float model's, ``min ‖X Vᵀ - F Wᵀ‖²``, for ``V = W C (H + λI)⁻¹`` with ``C = FᵀX / n`` and ``H = XᵀX / n``.
"""

from __future__ import annotations

import numpy as np


def shifted_target(
    target: np.ndarray, gram: np.ndarray, cross: np.ndarray, strength: float = 0.75, damping: float = 0.1
) -> np.ndarray:
    """``W + strength · W (C - H)(H + λI)⁻¹``, float32, of the shape of the target.

    :param target: W, float32, [batch, outputs, inputs].
    :param gram: H, [inputs, inputs].
    :param cross: C, of the same shape; its first axis is that of the float model's inputs.
    :param strength: from 0, for no change, to 1, for what is best on the samples themselves.
    :param damping: λ as a part of the mean of H's diagonal.
    """
    if strength == 0:
        return target
    shifted: np.ndarray = target + np.float32(strength) * _shift(target, gram, cross, damping)
    return shifted


def fitting_strength(
    target: np.ndarray,
    gram: np.ndarray,
    cross: np.ndarray,
    held_gram: np.ndarray,
    held_cross: np.ndarray,
    share: float,
    damping: float = 0.1,
) -> float:
    """The strength with which samples that are held out lose least, from 0 to 1.

    The shift Δ is fitted to the other samples. Then ``‖X (W + sΔ)ᵀ - F Wᵀ‖²`` of those held out is smallest for
    ``s = tr(W (C - H) Δᵀ) / tr(Δ H Δᵀ)``, with their C and H. 0 where Δ helps none of them.

    :param gram: H of all samples; ``cross`` likewise.
    :param held_gram: H of those held out; ``held_cross`` likewise.
    :param share: which part of the vectors is held out, below 1.
    """
    others = [(whole - share * held) / (1 - share) for whole, held in ((gram, held_gram), (cross, held_cross))]
    rows = target.reshape(-1, target.shape[2])
    shift = _shift(target, others[0], others[1], damping).reshape(rows.shape)
    slope = np.vdot(rows @ (held_cross - held_gram), shift)
    curvature = np.vdot(shift @ held_gram, shift)
    return float(np.clip(slope / curvature, 0, 1)) if curvature > 0 else 0.0


def _shift(target: np.ndarray, gram: np.ndarray, cross: np.ndarray, damping: float) -> np.ndarray:
    """``W (C - H)(H + λI)⁻¹``, float32."""
    exact = gram.astype(np.float64)
    mean = float(np.diagonal(exact).mean())
    if not mean > 0:
        return np.zeros_like(target)
    # both sides turned: H is symmetric
    difference = (cross.astype(np.float64) - exact).T
    np.fill_diagonal(exact, np.diagonal(exact) + damping * mean)
    rows = target.reshape(-1, target.shape[2])
    if len(rows) < len(exact):
        # fewer right-hand sides
        shift = np.linalg.solve(exact, difference @ rows.T.astype(np.float64)).T
    else:
        shift = rows @ np.linalg.solve(exact, difference).T.astype(np.float32)
    return shift.astype(np.float32).reshape(target.shape)
