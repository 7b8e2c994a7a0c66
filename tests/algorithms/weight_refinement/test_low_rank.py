"""Low-rank branches: as good as the best there is, by dense eigenvectors, and hardly worse in integers."""

from __future__ import annotations

import numpy as np
import pytest

from nncf_core.low_rank import values_of
from nncf_core.numerics.kernels import decompress
from nncf_core.numerics.tensor import CompressedTensor
from nncf_weight_refinement.low_rank import fit_branch, leading_space
from tests.algorithms.weight_refinement.weights import gram, start, weight

SIZES = [(24, 64), (200, 64), (64, 304), (320, 192), (96, 64), (40, 48)]


def residual(outputs: int, inputs: int, mode: str = "int4_asym") -> np.ndarray:
    values = weight(outputs, inputs)
    return values - decompress(start(values, mode)[0], "float32")


def missing(error: np.ndarray, h: np.ndarray) -> float:
    """What is missing from the outputs, by its definition."""
    wide = error.astype(np.float64)
    return float(np.trace(wide @ h.astype(np.float64) @ wide.T))


def best_gain(r: np.ndarray, h: np.ndarray, rank: int) -> float:
    """By the truncated singular value decomposition of R·H^½."""
    values, vectors = np.linalg.eigh(h.astype(np.float64))
    root = vectors * np.sqrt(np.maximum(values, 0))
    singular = np.linalg.svd(r.astype(np.float64) @ root, compute_uv=False)
    return float(np.square(singular[:rank]).sum())


@pytest.mark.parametrize(("outputs", "inputs"), SIZES)
@pytest.mark.parametrize("rank", [1, 8])
def test_nothing_of_the_rank_is_better(outputs, inputs, rank):
    r, h = residual(outputs, inputs), gram(inputs)
    branch = fit_branch(r, h, rank, integers=False)
    wanted = best_gain(r, h, rank)
    assert branch.gain == pytest.approx(wanted, rel=1e-5)
    assert missing(r, h) - missing(r - branch.product(), h) == pytest.approx(wanted, rel=1e-4)
    assert values_of(branch.down).shape == (rank, inputs)
    assert values_of(branch.up).shape == (outputs, rank)


@pytest.mark.parametrize(("outputs", "inputs"), SIZES)
def test_integers_cost_little(outputs, inputs):
    r, h = residual(outputs, inputs), gram(inputs)
    exact, rounded = (fit_branch(r, h, 8, integers=integers) for integers in (False, True))
    assert isinstance(rounded.down, CompressedTensor)
    assert isinstance(rounded.up, CompressedTensor)
    assert (rounded.down.format.name, rounded.up.format.name) == ("uint8", "uint8")
    assert rounded.down.scale.shape == (8, 1)
    assert rounded.up.scale.shape == (outputs, 1)
    assert rounded.gain > 0.9999 * exact.gain
    assert missing(r, h) - missing(r - rounded.product(), h) == pytest.approx(rounded.gain, rel=1e-4)


@pytest.mark.parametrize("rank", [2, 8])
def test_fitting_to_the_other_matrix_pays(rank):
    """Rounded on their own, the matrices give less."""
    r, h = residual(96, 64, "int2_sym"), gram(64)
    exact = fit_branch(r, h, rank, integers=False)
    from nncf_core.numerics.formats import SCHEMES
    from nncf_core.numerics.kernels import compress

    down, up = (decompress(compress(m, SCHEMES["int8_asym"], reduction_axes=1)) for m in (exact.down, exact.up))
    alone = missing(r, h) - missing(r - up @ down, h)
    once, often = (fit_branch(r, h, rank, rounds=rounds).gain for rounds in (1, 3))
    assert alone < once <= often <= exact.gain * (1 + 1e-6)


def test_inputs_that_no_sample_has_are_no_trouble():
    r, h = residual(48, 64), gram(64)
    h[:, 10:30] = h[10:30] = 0
    branch = fit_branch(r, h, 8, integers=False)
    assert branch.gain == pytest.approx(best_gain(r, h, 8), rel=1e-5)
    assert np.isfinite(branch.product()).all()


def test_damping_lets_other_inputs_count():
    r, few = residual(96, 128), gram(128, samples=6)
    true = gram(128, samples=2000)

    def remaining(damping):
        return missing(r - fit_branch(r, few, 8, damping=damping).product(), true)

    assert remaining(0.05) < missing(r, true)
    # what damping costs on the samples themselves
    assert fit_branch(r, few, 8, damping=0.05).gain > 0.98 * fit_branch(r, few, 8).gain


def test_small_matrices_are_corrected_wholly():
    r, h = residual(4, 64), gram(64)
    branch = fit_branch(r, h, 8)
    assert values_of(branch.up).shape == (4, 4)
    assert missing(r - branch.product(), h) < 1e-3 * missing(r, h)


def test_nothing_missing_needs_no_branch():
    assert fit_branch(np.zeros((16, 64), np.float32), gram(64), 8) is None
    assert fit_branch(residual(16, 64), np.zeros((64, 64), np.float32), 8) is None


def test_products_of_activations_stay_small():
    """float16 would overflow; what is in the middle is about as large as what comes in or goes out."""
    r, h = residual(96, 64), gram(64) * np.float32(1e6)
    branch = fit_branch(r, h, 8, integers=False)
    middle = np.einsum("ri,ij,rj->r", branch.down, h, branch.down)
    assert np.sqrt(middle).max() < 1e3
    assert np.sqrt(middle).max() / np.sqrt(middle).min() == pytest.approx(1, rel=1e-3)


def test_results_are_the_same_bytes():
    r, h = residual(96, 64), gram(64)
    first, second = fit_branch(r, h, 8), fit_branch(r.copy(), h.copy(), 8)
    assert first.down.codes.tobytes() == second.down.codes.tobytes()
    assert first.up.codes.tobytes() == second.up.codes.tobytes()


@pytest.mark.parametrize(("outputs", "inputs"), SIZES)
def test_the_space_is_that_of_dense_eigenvectors(outputs, inputs):
    r, h = residual(outputs, inputs), gram(inputs)
    space = leading_space(r, h, 4)
    np.testing.assert_allclose(space.T @ space, np.eye(4), atol=1e-5)
    dense = np.linalg.eigh(r.astype(np.float64) @ h.astype(np.float64) @ r.T.astype(np.float64))[1][:, ::-1][:, :4]
    assert np.linalg.svd(space.T @ dense, compute_uv=False).min() > 0.999
    assert (np.take_along_axis(space, np.abs(space).argmax(axis=0)[None], axis=0) > 0).all()
