"""Histograms, and the ranges that integers of 8 bits lose least in."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nncf_core.histograms import BINS, LeastErrorRange, LeastErrorSymmetricRange
from nncf_core.numerics.quantizer import asymmetric, symmetric

numbers = st.floats(width=32, allow_nan=False, allow_infinity=False)
streams = st.lists(st.lists(numbers, min_size=1, max_size=6), min_size=1, max_size=6)

RANDOM = np.random.default_rng(0)
TENSORS = {
    "normal": RANDOM.normal(0, 1, 20_000),
    "rectified": np.maximum(RANDOM.normal(0.2, 1, 20_000), 0),
    "outliers": np.concatenate([RANDOM.normal(0, 1, 20_000), [900.0, -40.0]]),
    "heavy tails": RANDOM.standard_t(3, 20_000),
    "far from zero": RANDOM.normal(50, 1, 20_000),
    "below zero": -RANDOM.exponential(1, 20_000),
    "two values": np.repeat([-1.0, 3.0], 5_000),
    "small": 1e-30 * RANDOM.normal(0, 1, 20_000),
}


def of(arrays, kind=LeastErrorRange):
    found = kind()
    for array in arrays:
        found.update(np.asarray(array, np.float32))
    return found


def same(one, other):
    return {k: v.tobytes() for k, v in one.state.items()} == {k: v.tobytes() for k, v in other.state.items()}


@given(stream=streams, data=st.data())
def test_merging_is_exact_whatever_the_order(stream, data):
    whole = of([np.concatenate(stream)])
    shuffled = data.draw(st.permutations(stream))
    middle = data.draw(st.integers(0, len(stream)))
    first, second = of(shuffled[:middle]), of(shuffled[middle:])
    first.merge(second)
    assert same(first, whole)


@given(stream=streams)
def test_every_element_is_counted_once_where_it_lies(stream):
    elements = np.concatenate(stream).astype(np.float32).astype(np.float64)
    (bins,) = of(stream)._bins
    assert bins.counts.sum() == elements.size
    assert bins.counts.size <= BINS
    places = np.floor(elements / 2.0**bins.exponent) - bins.first
    np.testing.assert_array_equal(np.bincount(places.astype(int), minlength=bins.counts.size), bins.counts)
    assert bins.zeros == np.count_nonzero(elements == 0)


def loss(quantizer, x):
    return float(((quantizer.apply(x) - x).astype(np.float64) ** 2).sum())


@pytest.mark.parametrize("what", TENSORS)
def test_no_range_of_a_grid_loses_less(what):
    x = TENSORS[what].astype(np.float32)
    low, high = min(x.min(), 0), max(x.max(), 0)
    found = loss(asymmetric(*of([x]).value), x)
    shares = np.concatenate([[0], np.geomspace(0.01, 1, 25)])
    tried = [loss(asymmetric(low * a, high * b), x) for a in shares for b in shares]
    # single values happen to lie near integers, or between two
    factor = 1.15 if what == "two values" else 1.02
    assert found <= factor * min(tried)
    found = loss(symmetric(*of([x], LeastErrorSymmetricRange).value), x)
    tried = [loss(symmetric(low * a, high * a), x) for a in np.geomspace(0.01, 1, 200)]
    assert found <= factor * min(tried)


def test_outliers_are_cut_off():
    low, high = of([TENSORS["outliers"]]).value
    assert -40 <= low < -3
    assert 3 < high < 900


def test_each_channel_has_its_own():
    x = RANDOM.normal(0, 1, (4, 3, 500)).astype(np.float32) * np.array([1, 10, 100], np.float32)[:, None]
    found = LeastErrorRange(axis=1)
    found.update(x)
    np.testing.assert_array_equal(found.value, np.stack([of([x[:, i].reshape(-1)]).value for i in range(3)], axis=1))


def test_a_constant_and_nothing_but_zeros():
    assert of([np.zeros(5)]).value.tolist() == [0, 0]
    assert of([np.full(5, 3.0)]).value == pytest.approx([0, 3], rel=0.01)


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_not_hidden(number):
    first, second = of([[1.0, number]]), of([[1.0, 2.0]])
    second.merge(first)
    first.update(np.array([5.0], np.float32))
    assert np.isnan(first.value).all()
    assert np.isnan(second.value).all()
