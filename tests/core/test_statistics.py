"""Aggregators against numpy; merging and storing."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from nncf_core.errors import StatisticsCacheError, ValidationError
from nncf_core.statistics import AGGREGATORS, Statistics, StatisticsRequest
from nncf_core.transformations import PointKind, TargetPoint

EXACT = ("min", "max", "abs_max", "tensors")
NUMPY = {
    "min": lambda rows: rows.min(axis=0),
    "max": lambda rows: rows.max(axis=0),
    "abs_max": lambda rows: np.abs(rows).max(axis=0),
    "mean": lambda rows: rows.astype(np.float64).mean(axis=0),
    "mean_square": lambda rows: (rows.astype(np.float64) ** 2).mean(axis=0),
}
kinds = pytest.mark.parametrize("kind", sorted(AGGREGATORS))
reducing = pytest.mark.parametrize("kind", sorted({*AGGREGATORS} - {"tensors"}))


@st.composite
def streams(draw, fewest=1):
    """Arrays that differ in one axis only in length, and the axis that is kept (or None)."""
    rank = draw(st.integers(1, 4))
    axis = draw(st.none() | st.integers(-rank, rank - 1))
    width = draw(st.integers(1, 4))
    dtype = draw(st.sampled_from([np.float16, np.float32, np.float64]))
    arrays = []
    for _ in range(draw(st.integers(fewest, 5))):
        shape = [draw(st.integers(1, 4)) for _ in range(rank)]
        if axis is not None:
            shape[axis] = width
        finite = st.floats(-1000, 1000, width=np.dtype(dtype).itemsize * 8)
        arrays.append(draw(hnp.arrays(dtype, tuple(shape), elements=finite)))
    return arrays, axis


def aggregated(kind, arrays, axis):
    aggregator = AGGREGATORS[kind](axis=axis)
    for array in arrays:
        aggregator.update(array)
    return aggregator


def rows_of(arrays, axis):
    """All elements: one row each, one column for each index along the axis."""
    if axis is None:
        return np.concatenate([array.reshape(-1) for array in arrays])
    return np.concatenate([np.moveaxis(array, axis, -1).reshape(-1, array.shape[axis]) for array in arrays])


def mean_over_samples(reduce):
    """What a statistic of each sample is on average."""
    return lambda arrays, axis: np.mean([reduce(rows_of([a], axis).astype(np.float64), axis=0) for a in arrays], axis=0)


PER_SAMPLE = {
    "mean_min": mean_over_samples(np.min),
    "mean_max": mean_over_samples(np.max),
    "tensors": lambda arrays, axis: np.concatenate([array.reshape(-1) for array in arrays]),
}


def assert_same(kind, found, wanted):
    assert np.shape(found) == np.shape(wanted)
    if kind in EXACT:
        np.testing.assert_array_equal(found, wanted)
    else:
        np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-9)


def test_every_aggregator_is_compared():
    assert {*NUMPY, *PER_SAMPLE} == set(AGGREGATORS)


@kinds
@given(stream=streams())
def test_value_is_numpys(kind, stream):
    arrays, axis = stream
    wanted = NUMPY[kind](rows_of(arrays, axis)) if kind in NUMPY else PER_SAMPLE[kind](arrays, axis)
    assert_same(kind, aggregated(kind, arrays, axis).value, wanted)


@kinds
@given(stream=streams(fewest=3), data=st.data())
def test_merge_is_associative(kind, stream, data):
    arrays, axis = stream
    first = data.draw(st.integers(0, len(arrays)))
    second = data.draw(st.integers(first, len(arrays)))
    parts = [arrays[:first], arrays[first:second], arrays[second:]]

    def part(index):
        return aggregated(kind, parts[index], axis)

    left = part(0)
    left.merge(part(1))
    left.merge(part(2))
    tail = part(1)
    tail.merge(part(2))
    right = part(0)
    right.merge(tail)
    whole = aggregated(kind, arrays, axis)
    assert_same(kind, left.value, whole.value)
    assert_same(kind, right.value, whole.value)


@kinds
@given(stream=streams())
def test_merging_changes_only_the_receiver(kind, stream):
    arrays, axis = stream
    other = aggregated(kind, arrays, axis)
    before = {name: array.copy() for name, array in other.state.items()}
    receiver = AGGREGATORS[kind](axis=axis)
    receiver.merge(other)
    receiver.update(arrays[0] * 2)
    receiver.merge(other)
    assert other.state.keys() == before.keys()
    for name, array in other.state.items():
        np.testing.assert_array_equal(array, before[name])


@kinds
@given(stream=streams(fewest=2))
def test_a_restored_state_goes_on_equally(kind, stream):
    arrays, axis = stream
    first = aggregated(kind, arrays[:-1], axis)
    second = AGGREGATORS[kind](axis=axis)
    second.restore({name: array.copy() for name, array in first.state.items()})
    for aggregator in (first, second):
        aggregator.update(arrays[-1])
    np.testing.assert_array_equal(first.value, second.value)
    assert {k: v.tobytes() for k, v in first.state.items()} == {k: v.tobytes() for k, v in second.state.items()}


@reducing
def test_the_state_does_not_grow(kind):
    random = np.random.default_rng(0)
    aggregator, sizes = AGGREGATORS[kind](axis=-1), set()
    for _ in range(20):
        aggregator.update(random.normal(size=(50, 8)).astype(np.float32))
        sizes.add(sum(array.nbytes for array in aggregator.state.values()))
    assert len(sizes) == 1
    assert sizes.pop() <= 8 * 8 + 8


def test_sums_are_not_float32():
    aggregator = AGGREGATORS["mean"]()
    for value in [1.0] + [2.0**-25] * 64:
        aggregator.update(np.full((1,), value, np.float32))
    assert aggregator.value == pytest.approx((1 + 2**-19) / 65, rel=1e-12)


@kinds
def test_values_before_any_sample_are_an_error(kind):
    with pytest.raises(ValidationError, match="before any sample"):
        _ = AGGREGATORS[kind]().value


@reducing
def test_an_axis_that_does_not_exist_is_an_error(kind):
    with pytest.raises(ValidationError, match=r"axis 2 .* shape \(3, 4\)"):
        AGGREGATORS[kind](axis=2).update(np.zeros((3, 4)))


@kinds
def test_updates_keep_no_view_of_the_sample(kind):
    sample = np.ones((1, 3), np.float32)
    aggregator = AGGREGATORS[kind](axis=-1)
    aggregator.update(sample)
    sample[:] = 7
    np.testing.assert_array_equal(aggregator.value, 1)


POINT = TargetPoint("a node", PointKind.INPUT, 1)


class TestRequest:
    def test_unknown_kinds_are_errors(self):
        with pytest.raises(
            ValidationError, match=r"'median'.*abs_max, max, mean, mean_max, mean_min, mean_square, min"
        ):
            StatisticsRequest(POINT, "median")

    def test_keys_are_distinct_and_stable(self):
        requests = [
            StatisticsRequest(TargetPoint(node, point, port), kind, axis)
            for node in ("a", "b")
            for point in PointKind
            for port in (0, 1)
            for kind in AGGREGATORS
            for axis in (None, -1, 0)
        ]
        assert len({request.key for request in requests}) == len(requests)
        assert StatisticsRequest(POINT, "max", -1).key == "a node:input:1:max:-1"


def test_tensors_are_kept_as_they_came():
    request, samples = StatisticsRequest(POINT, "tensors"), [np.ones((2, 3), np.int64), np.zeros((1, 4), np.float16)]
    halves = [Statistics(), Statistics()]
    for half, sample in zip(halves, samples, strict=True):
        half.aggregator(request).update(sample)
    halves[0].merge(halves[1])
    for found, sample in zip(halves[0].tensors(request), samples, strict=True):
        assert found.dtype == sample.dtype
        np.testing.assert_array_equal(found, sample)


def test_later_statistics_take_the_place_of_earlier_ones():
    requests = [StatisticsRequest(POINT, kind) for kind in ("min", "max", "mean")]
    earlier, later = Statistics(), Statistics()
    for statistics, chosen, value in ((earlier, requests[:2], 1), (later, requests[1:], 2)):
        for request in chosen:
            statistics.aggregator(request).update(np.full(3, value))
    assert [float(earlier.renewed(later)[request]) for request in requests] == [1, 2, 2]
    assert float(earlier[requests[1]]) == 1


class TestStatistics:
    requests = (StatisticsRequest(POINT, "mean", -1), StatisticsRequest(POINT, "max"))

    def collected(self, *seeds):
        statistics = Statistics()
        for seed in seeds:
            sample = np.random.default_rng(seed).normal(size=(5, 3))
            for request in self.requests:
                statistics.aggregator(request).update(sample)
        return statistics

    def test_is_a_mapping_by_request(self):
        statistics = self.collected(1)
        assert list(statistics) == list(self.requests)
        assert len(statistics) == 2
        assert self.requests[0] in statistics
        assert StatisticsRequest(POINT, "min") not in statistics
        with pytest.raises(KeyError):
            _ = statistics[StatisticsRequest(POINT, "min")]

    def test_halves_merge(self):
        first, second, whole = self.collected(1, 2), self.collected(3), self.collected(1, 2, 3)
        first.merge(second)
        for request in self.requests:
            np.testing.assert_allclose(first[request], whole[request], rtol=1e-12)

    def test_merge_brings_new_requests(self):
        empty = Statistics()
        empty.merge(self.collected(1))
        np.testing.assert_array_equal(empty[self.requests[1]], self.collected(1)[self.requests[1]])

    def test_files_hold_the_state(self, tmp_path):
        statistics = self.collected(1, 2)
        np.savez(tmp_path / "cache.npz", **statistics.arrays())
        restored = Statistics()
        with np.load(tmp_path / "cache.npz", allow_pickle=False) as arrays:
            restored.restore(self.requests, dict(arrays))
        restored.merge(self.collected(3))
        for request in self.requests:
            np.testing.assert_allclose(restored[request], self.collected(1, 2, 3)[request], rtol=1e-12)

    def test_a_cache_without_the_request_is_an_error(self):
        with pytest.raises(StatisticsCacheError, match="a node:input:1:min:"):
            Statistics().restore((StatisticsRequest(POINT, "min"),), self.collected(1).arrays())

    def test_a_key_is_not_mistaken_for_its_prefix(self):
        other = StatisticsRequest(POINT, "max", 0)
        statistics = Statistics()
        statistics.aggregator(other).update(np.array([[1.0, 5.0]]))
        with pytest.raises(StatisticsCacheError):
            Statistics().restore((StatisticsRequest(POINT, "max"),), statistics.arrays())
