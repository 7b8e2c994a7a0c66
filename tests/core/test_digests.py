"""Statistics from digests of tensors, against those from the tensors themselves."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from nncf_core.digests import PARTS, Digest, digest_of, update
from nncf_core.statistics import AGGREGATORS, StatisticsRequest
from nncf_core.transformations import TargetPoint

POINT = TargetPoint("node")

# the obvious twins of what runtimes do
REDUCTIONS = {
    "min": lambda x, axes: x.min(axis=axes, keepdims=True),
    "max": lambda x, axes: x.max(axis=axes, keepdims=True),
    "mean": lambda x, axes: x.mean(axis=axes, keepdims=True, dtype=np.float64),
    "mean_square": lambda x, axes: np.square(x, dtype=np.float64).mean(axis=axes, keepdims=True),
}


def digest(x, wanted):
    return Digest.of(x.shape, wanted.reduced, {part: REDUCTIONS[part](x, wanted.reduced) for part in wanted.parts})


@st.composite
def asked(draw):
    rank = draw(st.integers(1, 5))
    requests = [
        StatisticsRequest(
            POINT, draw(st.sampled_from(sorted(PARTS))), draw(st.none() | st.integers(-rank, rank - 1)), None, batched
        )
        for batched in draw(st.lists(st.booleans(), min_size=1, max_size=4))
    ]
    fixed = draw(st.lists(st.integers(1, 4), min_size=rank, max_size=rank))
    arrays = [draw(hnp.arrays(np.float32, tuple(fixed), elements=st.floats(-1000, 1000, width=32))) for _ in range(3)]
    return rank, requests, arrays


@settings(max_examples=300, deadline=None)
@given(case=asked())
def test_a_digest_says_what_the_tensor_does(case):
    rank, requests, arrays = case
    wanted = digest_of(requests, rank)
    if wanted is None:
        kept = {0, *(request.axis % rank for request in requests if request.axis is not None)}
        assert len(kept) == rank
        return
    for request in requests:
        told, seen = request.aggregator(), request.aggregator()
        for array in arrays:
            update(told, request, digest(array, wanted))
            update(seen, request, array)
        assert told.value.shape == seen.value.shape
        assert told.state.keys() == seen.state.keys()
        np.testing.assert_allclose(told.value, seen.value, rtol=1e-9, atol=1e-9)
        if "count" in seen.state:
            assert told.state["count"] == seen.state["count"]


def test_means_of_samples_of_different_sizes_are_weighted():
    request = StatisticsRequest(POINT, "mean", 1)
    wanted = digest_of([request], 4)
    told, seen = request.aggregator(), request.aggregator()
    for size in (1, 5, 9):
        array = np.random.default_rng(size).normal(size, 1, (2, 3, size, size + 1)).astype(np.float32)
        update(told, request, digest(array, wanted))
        update(seen, request, array)
    np.testing.assert_allclose(told.value, seen.value, rtol=1e-12)


@pytest.mark.parametrize("kind", sorted(set(AGGREGATORS) - set(PARTS)))
def test_other_kinds_need_the_tensor(kind):
    probability = 0.1 if "quantile" in kind or "no_outliers" in kind else None
    others = [StatisticsRequest(POINT, "max"), StatisticsRequest(POINT, kind, None, probability)]
    assert digest_of(others, 4) is None


def test_an_axis_that_does_not_exist_is_left_to_the_aggregator():
    assert digest_of([StatisticsRequest(POINT, "max", 4)], 4) is None


def test_extrema_come_with_a_witness_of_nan():
    request = StatisticsRequest(POINT, "mean_max")
    wanted = digest_of([request], 4)
    assert wanted.parts == ("max", "mean")
    # a runtime whose instruction passes over NaN
    parts = {"max": np.ones((1, 1, 1, 1), np.float32), "mean": np.full((1, 1, 1, 1), np.nan, np.float32)}
    aggregator = request.aggregator()
    update(aggregator, request, Digest.of((1, 2, 3, 4), wanted.reduced, parts))
    assert np.isnan(aggregator.value)


def test_tensors_without_elements_count_for_nothing():
    request = StatisticsRequest(POINT, "max", 1)
    aggregator = request.aggregator()
    parts = {"max": np.full((1, 3, 1), -np.inf, np.float32), "mean": np.full((1, 3, 1), np.nan, np.float32)}
    update(aggregator, request, Digest.of((1, 3, 0), (2,), parts))
    assert not aggregator.state
