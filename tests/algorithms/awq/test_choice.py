"""The search for factors, against slow, obvious twins."""

from __future__ import annotations

import numpy as np
import pytest

from nncf_awq.choice import Rounding, choose, floored
from nncf_core.channel_scaling import Role, Share
from nncf_core.graph import Constant, WeightLayout
from nncf_core.numerics.formats import SCHEMES

EXPONENTS = np.arange(100) / 100


def share(weight: np.ndarray, transposed: bool = False) -> Share:
    """A weight ``[outputs, inputs]``, or turned."""
    value = np.ascontiguousarray(weight.T) if transposed else weight
    layout = WeightLayout((0,), (1,)) if transposed else WeightLayout((1,), (0,))
    return Share(Constant("w", value.dtype.name, value.shape, lambda: value), Role.INPUTS, False, layout)


def weight(outputs: int, inputs: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(outputs, inputs)).astype(np.float32)


def squares(inputs: int, seed: int = 1) -> np.ndarray:
    return np.exp(2 * np.random.default_rng(seed).normal(size=inputs))


def rounded(row: np.ndarray, group: int) -> np.ndarray:
    """INT4 with zero points, number by number; the scale in float16."""
    out = []
    for start in range(0, len(row), group):
        part = row[start : start + group]
        low, high = min(part.min(), np.float32(0)), max(part.max(), np.float32(0))
        scale = np.float32(np.float16((high - low) / np.float32(15)))
        zero = np.clip(np.rint(-low / scale), 0, 15)
        out += [(np.clip(np.rint(w / scale + zero), 0, 15) - zero) * scale for w in part]
    return np.array(out, np.float64)


def loss(matrix: np.ndarray, square: np.ndarray, factors: np.ndarray, group: int) -> float:
    total = 0.0
    for row in matrix:
        error = rounded((row * factors).astype(np.float32), group) / factors - row
        total += float((error**2 * square).sum())
    return total


def test_the_gain_is_that_of_the_weights() -> None:
    matrix, square = weight(12, 64), squares(64)
    choice = choose([share(matrix)], square, Rounding(SCHEMES["int4_asym"], 16), EXPONENTS, False)
    assert choice is not None
    seen = floored(np.sqrt(square)) ** 2
    plain = loss(matrix, seen, np.ones(64), 16)
    assert choice.gain == pytest.approx(plain / loss(matrix, seen, choice.factors, 16), rel=1e-3)
    assert choice.gain > 1.5
    assert np.log(choice.factors).mean() == pytest.approx(0, abs=1e-9)


def test_no_candidate_of_the_whole_grid_is_much_better() -> None:
    matrix, square = weight(12, 32), squares(32)
    choice = choose([share(matrix)], square, Rounding(SCHEMES["int4_asym"], 16), EXPONENTS, False)
    assert choice is not None
    magnitude = np.sqrt(np.abs(matrix)).mean(axis=0) ** 2
    best = min(
        loss(matrix, square, np.sqrt(square) ** a / magnitude ** (d * (1 - a)), 16)
        for a in np.arange(20) / 20
        for d in (0, 0.5, 1)
    )
    assert loss(matrix, square, choice.factors, 16) < 1.1 * best


@pytest.mark.parametrize("mode", ["int4_sym", "nf4", "mxfp4", "nvfp4", "int2_sym", "cb4"])
def test_every_format_of_few_bits(mode: str) -> None:
    scheme = SCHEMES[mode]
    choice = choose(
        [share(weight(32, 64))], squares(64), Rounding(scheme, scheme.fixed_group_size or 32), EXPONENTS, False
    )
    assert choice is not None
    assert choice.gain > 1.05


def test_how_weights_lie_and_in_what_order_does_not_matter() -> None:
    one, other, square = weight(32, 64), weight(16, 64, 3), squares(64)
    rounding = Rounding(SCHEMES["int4_asym"], 32)
    first = choose([share(one), share(other)], square, rounding, EXPONENTS, False)
    second = choose([share(other, True), share(one, True)], square, rounding, EXPONENTS, False)
    assert first is not None
    assert second is not None
    np.testing.assert_allclose(first.factors, second.factors, rtol=1e-12)


def test_few_digits_take_powers_of_two() -> None:
    choice = choose(
        [share(weight(32, 64).astype(np.float16))], squares(64), Rounding(SCHEMES["int4_asym"], 32), EXPONENTS, True
    )
    assert choice is not None
    assert set(np.log2(choice.factors) % 1) == {0.0}
    assert choice.gain > 1.2


@pytest.mark.parametrize("square", [None, np.zeros(64), squares(64)], ids=["none", "zeros", "some"])
def test_channels_of_zeros_divide_nothing(square: np.ndarray | None) -> None:
    matrix = weight(32, 64)
    matrix[:, ::3] = 0
    if square is not None:
        square = np.where(np.arange(64) % 5, square, 0)
    choice = choose([share(matrix)], square, Rounding(SCHEMES["int4_asym"], 32), EXPONENTS, False)
    if choice is not None:
        assert np.isfinite(choice.factors).all()
        assert (choice.factors > 0).all()
    assert choose([share(0 * matrix)], square, Rounding(SCHEMES["int4_asym"], 32), EXPONENTS, False) is None


def test_a_weight_that_is_not_finite_is_left_alone() -> None:
    matrix = weight(32, 64)
    matrix[1, 1] = np.nan
    assert choose([share(matrix)], squares(64), Rounding(SCHEMES["int4_asym"], 32), EXPONENTS, False) is None
