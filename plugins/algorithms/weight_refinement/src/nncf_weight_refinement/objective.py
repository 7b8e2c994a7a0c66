"""What a layer loses at its outputs when its weight changes."""

from __future__ import annotations

import numpy as np


def losses(target: np.ndarray, values: np.ndarray, gram: np.ndarray | None) -> np.ndarray:
    """``(ŵ - w) H (ŵ - w)ᵀ`` of each output, [batch, outputs], float32.

    :param target: float32, [batch, outputs, inputs].
    :param values: of the same shape.
    :param gram: H: [inputs, inputs]; or its diagonal, [inputs]; ``None``: the identity.
    """
    error = values - target
    if gram is None:
        weighted = error
    elif gram.ndim == 1:
        weighted = error * gram
    else:
        weighted = (error.reshape(-1, error.shape[2]) @ gram).reshape(error.shape)
    of_outputs: np.ndarray = np.einsum("bok,bok->bo", error, weighted)
    return of_outputs


def loss(target: np.ndarray, values: np.ndarray, gram: np.ndarray | None) -> float:
    """The sum of :func:`losses`, float64."""
    return float(losses(target, values, gram).sum(dtype=np.float64))
