"""Kernels against their slow twins, and what they promise whatever the format."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st

from nncf_weight_refinement import scale_search
from nncf_weight_refinement.descent import descend
from nncf_weight_refinement.factors import factorize, importance_order
from nncf_weight_refinement.grouped import compressed, grouped
from nncf_weight_refinement.lattice import levels_of
from nncf_weight_refinement.propagation import fitting_strength, shifted_target
from nncf_weight_refinement.rounding import round_with_feedback
from nncf_weight_refinement.scale_search import LITTLE, Sweep, search_scales
from tests.algorithms.weight_refinement import slow_twin
from tests.algorithms.weight_refinement.objective import loss, losses
from tests.algorithms.weight_refinement.weights import FEW_BITS, MODES, gram, start, weight


def group_losses(target, found, metric):
    """The loss of each group on its own, [outputs, groups]."""
    size = found.group_size
    error = (found.values() - target).astype(np.float64)
    return np.stack(
        [
            np.einsum(
                "ok,kj,oj->o",
                error[0, :, g : g + size],
                metric[g : g + size, g : g + size].astype(np.float64),
                error[0, :, g : g + size],
            )
            for g in range(0, target.shape[2], size)
        ],
        axis=1,
    )


def damped(h, damping):
    """The Gram matrix with the diagonal that a factor has added."""
    return h + np.float32(damping * np.diagonal(h).mean()) * np.eye(len(h), dtype=np.float32)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", ["none", "diagonal", "blocks"])
def test_scale_search_never_loses(mode, kind):
    values, h = weight(), gram()
    tensor, axes, first = start(values, mode)
    metric = {"none": None, "diagonal": np.diagonal(h), "blocks": h}[kind]
    exact = {"none": np.eye(64, dtype=np.float32), "diagonal": np.diag(np.diagonal(h)), "blocks": h}[kind]
    found = search_scales(values[None], first, metric)
    before, after = group_losses(values[None], first, exact), group_losses(values[None], found, exact)
    assert (after <= before * (1 + 1e-4)).all()
    # powers of two leave little choice, 8-bit floats hardly mind their scale
    assert after.sum() < before.sum() * {"mxfp4": 0.999, "fp8_e4m3": 1.0}.get(mode, 0.9)
    again = grouped(compressed(found, tensor, axes), axes)
    np.testing.assert_array_equal(again.values(), found.values())
    np.testing.assert_array_equal(found.rounded(values[None]).levels, found.levels)


@pytest.mark.parametrize("mode", ["int4_asym", "int4_sym", "nf4", "nvfp4"])
def test_means_stand_for_products_of_different_inputs(mode):
    values, importance = weight(), np.diagonal(gram())
    mean = (np.sqrt(importance) * np.random.default_rng(5).uniform(-0.9, 0.9, 64)).astype(np.float32)
    _, _, first = start(values, mode)
    exact = np.outer(mean, mean) + np.diag(importance - mean**2)
    found, wanted, without = (
        search_scales(values[None], first, importance, mean=mean),
        search_scales(values[None], first, exact.astype(np.float32)),
        search_scales(values[None], first, importance),
    )
    losses = [group_losses(values[None], each, exact).sum() for each in (found, wanted, without)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
    assert losses[0] < 0.99 * losses[2]


@pytest.mark.parametrize("mode", ["int4_asym", "int4_sym", "nf4", "fp4"])
def test_scale_search_comes_near_to_trying_everything(mode):
    values, importance = weight(4), np.diagonal(gram())
    _, _, first = start(values, mode, 32)
    found = search_scales(values[None], first, importance)
    levels = [float(v) for v in levels_of(first.lattice.grid)]
    zero_points = range(16) if mode == "int4_asym" else [0]
    factors = np.linspace(0.5, 1.6, 81)
    if mode in ("int4_sym", "nf4"):
        factors = np.concatenate([factors, -factors])
    best = 0.0
    for output in range(4):
        for group in range(2):
            inputs = slice(32 * group, 32 * group + 32)
            scales = [float(first.scale[0, output, group]) * factor for factor in factors]
            row, weights = values[output, inputs].astype(float), importance[inputs].astype(float)
            best += slow_twin.best_scale(row, weights, levels, zero_points, scales)[0]
    assert group_losses(values[None], found, np.diag(importance)).sum() <= best * 1.1


def heavy_tailed(random):
    return random.standard_t(5, (640, 64)), np.diagonal(gram())


def a_few_rows_with_outliers_that_hardly_matter(random):
    values = random.normal(size=(640, 64))
    values[:8, ::16] *= 8
    return values, np.where(np.arange(64) % 16 == 0, 0.01, 1).astype(np.float32)


def clipped(random):
    return np.clip(random.normal(size=(640, 64)), -1.5, 1.5), np.diagonal(gram())


@pytest.mark.parametrize("mode", ["int4_asym", "int4_sym", "nf4", "fp4", "mxfp4", "nvfp4"])
@pytest.mark.parametrize("made", [heavy_tailed, a_few_rows_with_outliers_that_hardly_matter, clipped])
def test_what_is_left_out_of_a_search_of_many_columns_hardly_counts(made, mode):
    values, importance = made(np.random.default_rng(6))
    values = values.astype(np.float32)
    _, _, first = start(values, mode)
    found = search_scales(values[None], first, importance, Sweep(little=LITTLE))
    whole = search_scales(values[None], first, importance)
    lost = [group_losses(values[None], each, np.diag(importance)).sum() for each in (found, whole)]
    assert 0.9999 * lost[1] <= lost[0] <= 1.002 * lost[1]


@pytest.mark.parametrize("products", [False, True])
def test_threads_do_not_matter(products, monkeypatch):
    values = np.stack([weight(40, 96, seed) for seed in range(2)])
    h = gram(96)
    monkeypatch.setattr(scale_search, "_BLOCK", 1 << 9)
    first = start(values[0], "int4_asym", 16)[2]
    first = evolve(
        first,
        levels=np.repeat(first.levels, 2, 0),
        scale=np.repeat(first.scale, 2, 0),
        zero_point=np.repeat(first.zero_point, 2, 0),
    )
    metric = h if products else np.diagonal(h)
    alone = search_scales(values, first, metric)
    for threads in (1, 3):
        with ThreadPoolExecutor(threads) as executor:
            found = search_scales(values, first, metric, executor=executor)
        for name in ("levels", "scale", "zero_point"):
            np.testing.assert_array_equal(getattr(found, name), getattr(alone, name))


def test_a_group_of_zeros_and_inputs_that_are_never_used():
    values, h = weight(), gram()
    values[:, 16:32] = 0
    h[:8] = 0
    h[:, :8] = 0
    for mode in FEW_BITS:
        _, _, first = start(values, mode)
        found = search_scales(values[None], first, np.diagonal(h))
        rounded = round_with_feedback(values[None], found, factorize(h, found.group_size))
        refined = descend(values[None], rounded, h)
        for each in (found, rounded, refined):
            assert np.isfinite(each.values()).all()
        assert loss(values[None], refined.values(), h) <= loss(values[None], rounded.values(), h)
    dead = search_scales(values[None], first, np.zeros(64, np.float32))
    np.testing.assert_array_equal(dead.values(), search_scales(values[None], first).values())


def test_factorization():
    h = gram(24)
    factor = factorize(h, 8, damping=0.01)
    order = factor.order
    metric = damped(h, 0.01)
    upper, diagonal = slow_twin.factorized(metric[np.ix_(order, order)])
    np.testing.assert_allclose(factor.upper, upper, atol=1e-4)
    np.testing.assert_allclose(factor.diagonal, diagonal, rtol=1e-4)
    rebuilt = factor.upper * factor.diagonal @ factor.upper.T.astype(np.float64)
    np.testing.assert_allclose(rebuilt, metric[np.ix_(order, order)], rtol=1e-3, atol=1e-3)
    error = weight(24, 5, seed=2)
    expected = [slow_twin.loss(e, metric[np.ix_(order, order)]) for e in error.T.astype(np.float64)]
    np.testing.assert_allclose(factor.losses(error), expected, rtol=1e-4)
    by_group = order.reshape(3, 8) // 8
    assert (by_group == by_group[:, :1]).all()
    sums = np.diagonal(h).reshape(3, 8).sum(axis=1)[by_group[:, 0]]
    assert (np.diff(sums) <= 0).all()
    assert (np.diff(np.diagonal(h)[order].reshape(3, 8), axis=1) <= 0).all()


def test_more_damping_where_it_is_needed():
    few = gram(24, samples=5)
    assert factorize(few, 8, damping=0.0).damping > 0
    indefinite = few - 2 * np.diag(np.diagonal(few))
    assert np.isfinite(factorize(indefinite, 8).upper).all()
    np.testing.assert_array_equal(factorize(np.zeros((8, 8), np.float32), 8).upper, np.eye(8))
    np.testing.assert_array_equal(importance_order(np.zeros(8), 4), np.arange(8))


@pytest.mark.parametrize("mode", ["int4_asym", "int4_sym", "int2_sym", "nf4", "fp4"])
@pytest.mark.parametrize("twin", ["with_feedback", "gptq"])
def test_rounding_is_what_its_definition_says(mode, twin):
    values, h = weight(3, 48), gram(48)
    _, _, first = start(values, mode)
    factor = factorize(h, 16)
    metric = damped(h, factor.damping)
    found = round_with_feedback(values[None], first, factor)
    levels = [float(v) for v in levels_of(first.lattice.grid)]
    scales = first.each(first.scale).astype(np.float64)[0]
    zero_points = np.zeros_like(scales) if first.zero_point is None else first.each(first.zero_point)[0]
    for output in range(3):
        expected = getattr(slow_twin, twin)(
            values[output].astype(np.float64), levels, scales[output], zero_points[output], metric, factor.order
        )
        slow_values = slow_twin.value(expected, scales[output], zero_points[output])
        slow_loss = slow_twin.loss(slow_values - values[output], metric)
        nearest_loss = slow_twin.loss(first.values()[0, output] - values[output], metric)
        # an output that rounding to nearest suits better keeps that
        wanted = expected if slow_loss < nearest_loss else first.levels[0, output]
        np.testing.assert_array_equal(found.levels[0, output], wanted)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("rank", [5, 200])
def test_the_loss_never_rises(mode, rank):
    values, h = weight(40, 64), gram(64, samples=rank)
    target = values[None]
    tensor, axes, first = start(values, mode)
    searched = search_scales(target, first, np.diagonal(h))
    factor = factorize(h, searched.group_size)
    rounded = round_with_feedback(target, searched, factor)
    metric = damped(h, factor.damping)
    assert (losses(target, rounded.values(), metric) <= losses(target, searched.values(), metric) * (1 + 1e-4)).all()
    last = rounded
    for sweeps in (1, 1, 2):
        refined = descend(target, last, h, sweeps)
        assert (losses(target, refined.values(), h) <= losses(target, last.values(), h) * (1 + 1e-5)).all()
        again = grouped(compressed(refined, tensor, axes), axes)
        np.testing.assert_array_equal(again.values(), refined.values())
        last = refined
    if rank == 200:
        assert loss(target, rounded.values(), h) < 0.9 * loss(target, searched.values(), h)
        assert loss(target, last.values(), h) < loss(target, rounded.values(), h)


@pytest.mark.parametrize("mode", ["int4_asym", "nf4"])
def test_descent_ends_where_no_single_step_helps(mode):
    values, h = weight(4, 32), gram(32)
    _, _, first = start(values, mode)
    found = descend(values[None], first, h, sweeps=50)
    h = h.astype(np.float64)
    levels = levels_of(found.lattice.grid).astype(np.float64)
    scales = found.each(found.scale).astype(np.float64)[0]
    zero_points = np.zeros_like(scales) if found.zero_point is None else found.each(found.zero_point)[0]
    current = found.values()[0].astype(np.float64) - values
    for output in range(4):
        at = slow_twin.loss(current[output], h)
        for k in range(32):
            for level in levels:
                moved = current[output].copy()
                moved[k] = slow_twin.value(level, scales[output, k], zero_points[output, k]) - values[output, k]
                assert moved @ h @ moved >= at * (1 - 1e-3)


def test_descent_by_time():
    values, h = weight(), gram()
    _, _, first = start(values, "int4_asym")
    assert descend(values[None], first, h, seconds=0.0).levels is not None
    np.testing.assert_array_equal(descend(values[None], first, h, seconds=0.0).values(), first.values())
    np.testing.assert_array_equal(
        descend(values[None], first, h, 2, seconds=3600.0).values(), descend(values[None], first, h, 2).values()
    )


def test_scales_alone_may_stay():
    values, h = weight(), gram()
    _, _, first = start(values, "int4_asym")
    found = descend(values[None], first, h, scales=False)
    np.testing.assert_array_equal(found.scale, first.scale)
    np.testing.assert_array_equal(found.zero_point, first.zero_point)


def test_batches_are_independent():
    values, h = weight(24, 64), gram()
    _, _, first = start(values, "int4_asym")
    target = values[None]
    halves = [slice(0, 12), slice(12, 24)]
    factor = factorize(h, 16)
    whole = round_with_feedback(target, search_scales(target, first, h), factor)
    for rows in halves:
        _, _, part = start(values[rows], "int4_asym")
        found = round_with_feedback(target[:, rows], search_scales(target[:, rows], part, h), factor)
        np.testing.assert_array_equal(found.values(), whole.values()[:, rows])


def test_shifted_target_is_the_least_squares_solution():
    rng = np.random.default_rng(0)
    exact = rng.normal(size=(300, 16)).astype(np.float32)
    seen = exact + 0.3 * rng.normal(size=exact.shape).astype(np.float32)
    values = weight(5, 16)
    h, cross = seen.T @ seen / 300, exact.T @ seen / 300
    best = np.linalg.lstsq(seen.astype(np.float64), exact.astype(np.float64) @ values.T, rcond=None)[0].T
    found = shifted_target(values[None], h, cross, strength=1, damping=0)
    np.testing.assert_allclose(found[0], best, atol=1e-6)
    half = shifted_target(values[None], h, cross, strength=0.5, damping=0)
    np.testing.assert_allclose(half[0], (values + best) / 2, atol=1e-6)
    np.testing.assert_array_equal(shifted_target(values[None], h, cross, strength=0), values[None])
    np.testing.assert_allclose(shifted_target(values[None], h, h), values[None])
    np.testing.assert_array_equal(shifted_target(values[None], 0 * h, 0 * h), values[None])


def moments(exact: np.ndarray, seen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return seen.T @ seen / len(seen), exact.T @ seen / len(seen)


def test_the_strength_is_the_best_on_what_is_held_out():
    rng = np.random.default_rng(1)
    exact = rng.normal(size=(60, 16)).astype(np.float32)
    seen = exact @ (np.eye(16) + 0.1 * rng.normal(size=(16, 16))) + 0.5 * rng.normal(size=exact.shape)
    seen = seen.astype(np.float32)
    values = weight(5, 16)
    held = slice(40, 60)
    whole, apart, others = moments(exact, seen), moments(exact[held], seen[held]), moments(exact[:40], seen[:40])
    found = fitting_strength(values[None], *whole, *apart, 1 / 3, damping=0.01)

    def loss(strength: float) -> float:
        shifted = shifted_target(values[None], *others, strength, damping=0.01)[0]
        return float(np.square(seen[held] @ shifted.T - exact[held] @ values.T).sum())

    best = min(np.linspace(0, 1, 201), key=loss)
    assert 0.2 < best < 1
    assert abs(found - best) < 0.006


def test_no_strength_where_what_is_learned_does_not_hold_elsewhere():
    rng = np.random.default_rng(2)
    exact = rng.normal(size=(20, 16)).astype(np.float32)
    seen = exact + 0.5 * rng.normal(size=exact.shape).astype(np.float32)
    values = weight(5, 16)
    whole, apart = moments(exact, seen), moments(exact[10:], exact[10:])
    assert fitting_strength(values[None], *whole, *apart, 0.5, damping=0.0) == 0
    assert fitting_strength(values[None], *(0 * each for each in (*whole, *apart)), 0.5) == 0


@given(
    seed=st.integers(0, 1000),
    outputs=st.integers(1, 9),
    groups=st.integers(1, 3),
    size=st.sampled_from([1, 4, 16, 20]),
    mode=st.sampled_from([m for m in FEW_BITS if m not in ("mxfp4", "nvfp4")]),
    exponent=st.integers(-6, 6),
)
@settings(max_examples=40, deadline=None)
def test_any_shape_and_size(seed, outputs, groups, size, mode, exponent):
    inputs = groups * size
    values = weight(outputs, inputs, seed) * np.float32(10.0**exponent)
    h = gram(inputs, samples=max(2, inputs // 2), seed=seed)
    tensor, axes, first = start(values, mode, size)
    target = values[None]
    found = search_scales(target, first, h, Sweep(4))
    factor = factorize(h, size)
    rounded = round_with_feedback(target, found, factor)
    before = rounded.values()
    refined = descend(target, rounded, h)
    np.testing.assert_array_equal(rounded.values(), before)
    np.testing.assert_array_equal(target, weight(outputs, inputs, seed)[None] * np.float32(10.0**exponent))
    assert np.isfinite(refined.values()).all()
    assert loss(target, refined.values(), h) <= loss(target, rounded.values(), h) * (1 + 1e-5)
    metric = damped(h, factor.damping)
    assert loss(target, rounded.values(), metric) <= loss(target, found.values(), metric) * (1 + 1e-4)
    np.testing.assert_array_equal(grouped(compressed(refined, tensor, axes), axes).values(), refined.values())
