"""The product of two small matrices that makes up for most of what rounding a weight costs at a layer's outputs.

With the residual ``R = W - Ŵ`` [outputs, inputs] and the Gram matrix ``H = XᵀX/n`` of the inputs, the mean square of
what is missing from the outputs is ``tr(E H Eᵀ)``, ``E = R - B·A``. For columns ``B = U`` that are orthonormal the best
``A`` is ``Uᵀ R``, whatever ``H``, and what remains is smallest for the first eigenvectors of ``R H Rᵀ`` (Eckart and
Young, "The approximation of one matrix by another of lower rank", 1936, for ``R H^½``). No root of ``H``, nor its
inverse, is needed.
"""

from __future__ import annotations

import numpy as np
from attrs import field, frozen

from nncf_core.low_rank import values_of
from nncf_core.numerics.formats import SCHEMES
from nncf_core.numerics.kernels import compress
from nncf_core.transformations import Adapter

_SPARE = 4
"""Columns of a block besides the rank: the more, the sooner the space holds what is sought."""

_BLOCKS = 8
"""Powers of the matrix that the space is made of."""

_LARGEST_FACTOR = 64.0
"""Activations of float16 are multiplied by A first, and are not to overflow."""


@frozen
class Branch:
    """``B·A``, to be added to a weight.

    :param down: A, [rank, inputs], float32 or compressed.
    :param up: B, [outputs, rank], likewise.
    :param gain: by how much the mean square of the missing outputs falls.
    """

    down: Adapter = field(eq=False, repr=False)
    up: Adapter = field(eq=False, repr=False)
    gain: float

    def product(self) -> np.ndarray:
        """What is added to the weight, float32, [outputs, inputs]."""
        product: np.ndarray = values_of(self.up).astype(np.float32) @ values_of(self.down).astype(np.float32)
        return product


def fit_branch(
    residual: np.ndarray, gram: np.ndarray, rank: int, *, damping: float = 0.0, rounds: int = 3, integers: bool = True
) -> Branch | None:
    """The best branch of a rank; of integers nearly that, since each matrix is fitted to the other's rounded one.

    :param residual: ``W - Ŵ``, float32, [outputs, inputs].
    :param gram: ``XᵀX / n``, float32, [inputs, inputs].
    :param rank: cut to the number of outputs and inputs.
    :param damping: what is added to the diagonal of the Gram matrix, as a part of its mean: the residual of inputs that
        the samples hardly have then counts, too.
    :param rounds: how many times the matrices are fitted to each other's integers.
    :param integers: whether the matrices are rounded to 8 bits, asymmetric, with one scale for each row.
    :return: ``None`` where none makes the (undamped) mean square smaller.
    """
    rank = min(rank, *residual.shape)
    damped = _damped(gram, damping)
    basis = leading_space(residual, damped, rank)
    down, up = _balanced(basis.T @ residual, basis, damped)
    best: Branch | None = None
    for _ in range(max(rounds, 1) if integers else 1):
        rounded_down = _rounded(down, integers)
        values = values_of(rounded_down)
        if integers:
            up = _fitted(residual, damped, values)
        rounded_up = _rounded(up, integers)
        gain = _gain(residual, gram, values, values_of(rounded_up))
        if best is None or gain > best.gain:
            best = Branch(rounded_down, rounded_up, gain)
        if integers:
            down = _turned(residual, values_of(rounded_up))
    return best if best is not None and best.gain > 0 else None


def leading_space(residual: np.ndarray, gram: np.ndarray, rank: int) -> np.ndarray:
    """The first eigenvectors of ``R H Rᵀ``, orthonormal, float32, [outputs, rank], the largest eigenvalue first.

    By a block Krylov space (Musco and Musco, https://arxiv.org/abs/1504.05477): a few products with thin matrices.
    """
    outputs = residual.shape[0]
    width = min(rank + _SPARE, outputs)
    block = np.random.default_rng(0).normal(size=(outputs, width))
    found = np.zeros((outputs, 0))
    for _ in range(_BLOCKS):
        # twice: once leaves a rest of what the space holds already
        for _ in range(2):
            block = block - found @ (found.T @ block)
            block = np.linalg.qr(block)[0]
        found = np.hstack([found, block])
        if found.shape[1] + width > outputs:
            found = np.eye(outputs) if outputs <= _BLOCKS * width else found
            break
        block = _apply(residual, gram, block)
    values, vectors = np.linalg.eigh(found.T @ _apply(residual, gram, found))
    order = np.argsort(-values, kind="stable")[:rank]
    space: np.ndarray = found @ vectors[:, order]
    # eigenvectors are known up to their sign
    largest = np.take_along_axis(space, np.abs(space).argmax(axis=0)[None], axis=0)
    return np.ascontiguousarray(space * np.where(largest < 0, -1.0, 1.0), np.float32)


def _apply(residual: np.ndarray, gram: np.ndarray, block: np.ndarray) -> np.ndarray:
    """``R H Rᵀ`` times a thin matrix, float64; the large products are of float32."""
    product: np.ndarray = residual @ (gram @ (residual.T @ block.astype(np.float32)))
    return product.astype(np.float64)


def _balanced(down: np.ndarray, up: np.ndarray, gram: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same product, where all activations between the matrices have about the same size.

    A scale of B is shared by a whole row, whose errors these activations multiply. Numbers of both matrices become of
    a like size, as far as that is good for the activations.
    """
    sizes = np.sqrt(np.maximum(np.einsum("ri,ri->r", down @ gram, down), np.finfo(np.float32).tiny))
    down, up = down / sizes[:, None], up * sizes
    largest = float(np.abs(down).max(initial=0)), float(np.abs(up).max(initial=0))
    factor = np.float32(min(np.sqrt(largest[1] / largest[0]), _LARGEST_FACTOR) if min(largest) > 0 else 1.0)
    return down * factor, up / factor


def _fitted(residual: np.ndarray, gram: np.ndarray, down: np.ndarray) -> np.ndarray:
    """The best B for an A: ``R H Aᵀ (A H Aᵀ)⁻¹``."""
    weighted = gram @ down.T
    inner = (down @ weighted).astype(np.float64)
    cross = (residual @ weighted).astype(np.float64)
    fitted: np.ndarray = np.linalg.lstsq(inner, cross.T, rcond=1e-9)[0].T
    return np.ascontiguousarray(fitted, np.float32)


def _turned(residual: np.ndarray, up: np.ndarray) -> np.ndarray:
    """The best A for a B: ``(BᵀB)⁻¹ BᵀR``, whatever the Gram matrix."""
    inner, cross = (up.T @ up).astype(np.float64), (up.T @ residual).astype(np.float64)
    fitted: np.ndarray = np.linalg.lstsq(inner, cross, rcond=1e-9)[0]
    return np.ascontiguousarray(fitted, np.float32)


def _gain(residual: np.ndarray, gram: np.ndarray, down: np.ndarray, up: np.ndarray) -> float:
    """``tr(R H Rᵀ) - tr(E H Eᵀ)``, without either."""
    weighted = gram @ down.T
    cross = np.einsum("or,or->", residual @ weighted, up, dtype=np.float64)
    inner = np.einsum("or,or->", up @ (down @ weighted), up, dtype=np.float64)
    return float(2 * cross - inner)


def _damped(gram: np.ndarray, damping: float) -> np.ndarray:
    if not damping:
        return gram
    added = np.float32(damping * float(np.diagonal(gram).mean(dtype=np.float64)))
    damped: np.ndarray = gram + added * np.eye(len(gram), dtype=np.float32)
    return damped


def _rounded(matrix: np.ndarray, integers: bool) -> Adapter:
    array = np.ascontiguousarray(matrix, np.float32)
    return compress(array, SCHEMES["int8_asym"], reduction_axes=1) if integers else array
