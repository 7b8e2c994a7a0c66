"""Aggregators against numpy; merging and storing."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from nncf_core import aggregators
from nncf_core.aggregators import has_probability, kind_of
from nncf_core.collecting import points_of
from nncf_core.errors import StatisticsCacheError, ValidationError
from nncf_core.origins import Origin
from nncf_core.reductions import quantile
from nncf_core.statistics import Statistics, StatisticsRequest
from nncf_core.testing.numpy_backend.builder import NumpyGraphBuilder
from nncf_core.transformations import PointKind, TargetPoint
from tests.core.pipeline_doubles import CASE

EXACT = ("min", "max", "abs_max", "tensors", "each_min", "each_max")
SHARE = 0.1


def no_outliers(rows):
    """Each column without what lies beyond its quantiles."""
    low, high = np.quantile(rows, SHARE, axis=0), np.quantile(rows, 1 - SHARE, axis=0)
    return np.where((rows >= low) & (rows <= high), rows, np.nan)


def mean_no_outliers(rows):
    kept = no_outliers(rows)
    # of two values both are outliers
    return np.where(
        np.isnan(kept).all(axis=0),
        np.median(rows, axis=0),
        np.nan_to_num(kept).sum(axis=0) / np.maximum((~np.isnan(kept)).sum(axis=0), 1),
    )


def median_no_outliers(rows):
    kept = no_outliers(rows)
    return np.nanmedian(np.where(np.isnan(kept).all(axis=0), rows, kept), axis=0)


REDUCTIONS = {
    "min": lambda rows: rows.min(axis=0),
    "max": lambda rows: rows.max(axis=0),
    "abs_max": lambda rows: np.abs(rows).max(axis=0),
    "mean": lambda rows: rows.mean(axis=0),
    "quantile": lambda rows: np.quantile(rows, SHARE, axis=0),
    "abs_quantile": lambda rows: np.quantile(np.abs(rows), SHARE, axis=0),
}
AGGREGATIONS = {
    "mean": lambda rows: rows.mean(axis=0),
    "max": lambda rows: rows.max(axis=0),
    "min": lambda rows: rows.min(axis=0),
    "quantile": lambda rows: np.quantile(rows, SHARE, axis=0),
    "median": lambda rows: np.median(rows, axis=0),
    "mean_no_outliers": mean_no_outliers,
    "median_no_outliers": median_no_outliers,
}
ROWS_APART = ("mean_mean_variance", "mean_max_variance", "mean_channel_abs_max")  # see test_matrix_statistics.py
RANGES = ("least_error_range", "least_error_symmetric_range")  # see test_histograms.py


def wanted(kind, arrays, axis):
    """A kind of statistic by plain numpy, with everything kept in memory."""
    for name, aggregation in AGGREGATIONS.items():
        for reduction in REDUCTIONS:
            if kind == kind_of(name, reduction):
                values = [REDUCTIONS[reduction](rows_of([array], axis).astype(np.float64)) for array in arrays]
                return aggregation(np.stack(values))
        if kind == kind_of(name, "raw"):
            return aggregation(rows_of(arrays, axis).astype(np.float64))
    if kind.startswith("each_"):
        reduce = {"min": np.min, "max": np.max}[kind.removeprefix("each_")]
        kept = [array if axis is None else np.moveaxis(array, axis, 0) for array in arrays]
        return np.stack([reduce(a.reshape(*([] if axis is None else a.shape[:1]), -1), axis=-1) for a in kept])
    if kind == "tensors":
        return np.concatenate([array.reshape(-1) for array in arrays])
    if kind == "mean_mean_square":
        return np.stack([(rows_of([array], axis).astype(np.float64) ** 2).mean(axis=0) for array in arrays]).mean(
            axis=0
        )
    assert kind == "mean_square"
    return (rows_of(arrays, axis).astype(np.float64) ** 2).mean(axis=0)


MATRICES = {"gram", "cross_gram"}  # tests/core/test_grams.py
AGGREGATORS = {kind: made for kind, made in aggregators.AGGREGATORS.items() if kind not in MATRICES}

kinds = pytest.mark.parametrize("kind", sorted(AGGREGATORS))
reducing = pytest.mark.parametrize("kind", sorted({*AGGREGATORS} - {"tensors"}))
any_kind = st.sampled_from(sorted({*AGGREGATORS} - {"tensors", *ROWS_APART}))


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
    aggregator = AGGREGATORS[kind](axis=axis, **({} if kind == "tensors" else {"probability": SHARE}))
    for array in arrays:
        aggregator.update(array)
    return aggregator


def rows_of(arrays, axis):
    """All elements: one row each, one column for each index along the axis."""
    if axis is None:
        return np.concatenate([array.reshape(-1) for array in arrays])
    return np.concatenate([np.moveaxis(array, axis, -1).reshape(-1, array.shape[axis]) for array in arrays])


def assert_same(kind, found, wanted):
    assert np.shape(found) == np.shape(wanted)
    if kind in EXACT:
        np.testing.assert_array_equal(found, wanted)
    else:
        np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kind", sorted({*AGGREGATORS} - {*RANGES, *ROWS_APART}))
@settings(max_examples=20, deadline=None)
@given(stream=streams())
def test_value_is_numpys(kind, stream):
    arrays, axis = stream
    assert_same(kind, aggregated(kind, arrays, axis).value, wanted(kind, arrays, axis))


@settings(max_examples=200, deadline=None)
@given(kind=any_kind, stream=streams(fewest=3), data=st.data())
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


@settings(max_examples=200, deadline=None)
@given(kind=any_kind, stream=streams())
def test_merging_changes_only_the_receiver(kind, stream):
    arrays, axis = stream
    other = aggregated(kind, arrays, axis)
    before = {name: array.copy() for name, array in other.state.items()}
    receiver = AGGREGATORS[kind](axis=axis, probability=SHARE)
    receiver.merge(other)
    receiver.update(arrays[0] * 2)
    receiver.merge(other)
    assert other.state.keys() == before.keys()
    for name, array in other.state.items():
        np.testing.assert_array_equal(array, before[name])


@settings(max_examples=200, deadline=None)
@given(kind=any_kind, stream=streams(fewest=2))
def test_a_restored_state_goes_on_equally(kind, stream):
    arrays, axis = stream
    first = aggregated(kind, arrays[:-1], axis)
    second = AGGREGATORS[kind](axis=axis, probability=SHARE)
    second.restore({name: array.copy() for name, array in first.state.items()})
    for aggregator in (first, second):
        aggregator.update(arrays[-1])
    np.testing.assert_array_equal(first.value, second.value)
    assert {k: v.tobytes() for k, v in first.state.items()} == {k: v.tobytes() for k, v in second.state.items()}


@pytest.mark.parametrize(
    "kind",
    sorted(
        kind
        for kind in {*AGGREGATORS} - {"tensors", "each_min", "each_max"}
        if "median" not in kind and "outliers" not in kind and not kind.startswith("quantile")
    ),
)
def test_the_state_does_not_grow(kind):
    random = np.random.default_rng(0)
    aggregator, sizes = AGGREGATORS[kind](axis=-1), set()
    for _ in range(20):
        aggregator.update(random.normal(size=(50, 8)).astype(np.float32))
        sizes.add(sum(array.nbytes for array in aggregator.state.values()))
    if kind in RANGES:
        assert max(sizes) <= 8 * (4096 * 8 + 64)
    else:
        assert len(sizes) == 1
        assert sizes.pop() <= 8 * 8 + 8


@pytest.mark.parametrize("kind", ["median", "median_max", "mean_no_outliers_mean", "quantile"])
def test_the_state_of_a_distribution_does_not_grow_for_ever(kind):
    random = np.random.default_rng(0)
    aggregator, sizes = AGGREGATORS[kind](axis=-1), []
    for _ in range(3000):
        aggregator.update(random.uniform(1, 2, size=(5, 2)).astype(np.float32))
        sizes.append(sum(array.nbytes for array in aggregator.state.values()))
    assert max(sizes) <= 2048 * 2 * 8
    # of what is kept as it is at first, at last only counts are left: of 512 intervals between 1 and 2
    assert sizes[-1] <= 2 * 512 * 16 + 8


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
    before = aggregator.value.copy()
    sample[:] = 7
    np.testing.assert_array_equal(aggregator.value, before)


@kinds
def test_tensors_without_elements_count_for_nothing(kind):
    aggregator, other = AGGREGATORS[kind](), AGGREGATORS[kind]()
    for found in (aggregator, other):
        found.update(np.array([[1.0, 3.0]]))
    aggregator.update(np.zeros((0, 2)))
    np.testing.assert_array_equal(aggregator.value, other.value)


@settings(max_examples=200, deadline=None)
@given(kind=any_kind.filter(lambda kind: not kind.startswith("each_")), stream=streams(), batched=st.booleans())
def test_a_batch_is_its_samples(kind, stream, batched):
    arrays, axis = stream
    arrays = [array[None] for array in arrays]  # a batch of one
    axis = axis if axis is None or axis < 0 else axis + 1
    shapes = {array.shape for array in arrays}
    batch = [np.concatenate([a for a in arrays if a.shape == shape]) for shape in sorted(shapes)]
    together, apart = AGGREGATORS[kind](axis=axis, batched=True), AGGREGATORS[kind](axis=axis, batched=batched)
    for array in batch:
        together.update(array)
    for array in arrays:
        apart.update(array)
    assert_same(kind, together.value, apart.value)


def many(kind, arrays):
    aggregator = AGGREGATORS[kind](probability=0.01)
    for array in arrays:
        aggregator.update(array)
    return aggregator


class TestManySamples:
    """More than are kept as they are."""

    random = np.random.default_rng(0)
    arrays = (random.normal(0, 1, (5000, 3)) * np.exp(random.normal(0, 3, (5000, 1)))).astype(np.float32)

    @pytest.mark.parametrize(
        "kind", ["median_max", "median_min", "median_no_outliers_quantile", "mean_no_outliers_max"]
    )
    def test_values_are_near(self, kind):
        aggregation, _, reduction = kind.rpartition("_")
        values = (
            REDUCTIONS[reduction](self.arrays.T.astype(np.float64))
            if reduction != "quantile"
            else np.quantile(self.arrays, 0.01, axis=1)
        )
        kept = values[(values >= np.quantile(values, 0.01)) & (values <= np.quantile(values, 0.99))]
        exact = {"median": np.median(values), "mean_no_outliers": kept.mean(), "median_no_outliers": np.median(kept)}
        assert many(kind, self.arrays).value == pytest.approx(exact[aggregation], rel=2.0**-10)

    def test_the_order_does_not_matter(self):
        whole = many("median_max", self.arrays)
        pieces = [many("median_max", self.arrays[start : start + 900]) for start in (3600, 900, 4500, 0, 2700, 1800)]
        for piece in pieces[1:]:
            pieces[0].merge(piece)
        assert {k: v.tobytes() for k, v in pieces[0].state.items()} == {k: v.tobytes() for k, v in whole.state.items()}

    def test_infinite_and_no_numbers(self):
        values = np.concatenate([self.arrays[:3000], np.full((3, 3), -np.inf), np.full((3, 3), np.inf)])
        assert many("median_max", values).value == pytest.approx(np.median(values.max(axis=1)), rel=2.0**-10)
        assert many("median", [values]).value == pytest.approx(np.median(values), rel=2.0**-10)
        assert np.isnan(many("median_max", [*values, np.array([np.nan])]).value)


class TestQuantileOfLargeTensors:
    """Where only the elements beyond a bound are looked at."""

    @pytest.mark.parametrize("probability", [0.0, 1e-4, 0.003, 0.4, 0.5, 0.9, 1 - 1e-4, 1.0])
    @pytest.mark.parametrize("what", ["normal", "rectified", "ascending", "constant", "periodic"])
    def test_is_numpys(self, what, probability):
        x = np.random.default_rng(0).normal(size=300_007).astype(np.float32)
        x = {
            "normal": x,
            "rectified": np.maximum(x, 0),
            "ascending": np.sort(x),
            "constant": np.full_like(x, 3),
            "periodic": np.tile(x[:61], 5000),  # a part with the stride of the search is one number
        }[what]
        assert quantile(x, None, probability) == pytest.approx(
            np.quantile(x.astype(np.float64), probability), rel=1e-12
        )

    def test_no_number_is_seen(self):
        x = np.ones(100_000, np.float32)
        x[5] = np.nan
        assert np.isnan(quantile(x, None, 0.01))
        assert np.isnan(quantile(x.reshape(-1, 2), 1, 0.01)).tolist() == [False, True]


POINT = TargetPoint("a node", PointKind.INPUT, 1)


class TestRequest:
    def test_unknown_kinds_are_errors(self):
        with pytest.raises(ValidationError, match=r"'middle'.*abs_max, .*mean_max, .*mean_mean, .*median, "):
            StatisticsRequest(POINT, "middle")

    @pytest.mark.parametrize(("kind", "given"), [("mean_quantile", None), ("median_max", 0.1), ("mean_quantile", 1.5)])
    def test_a_probability_where_it_means_something(self, kind, given):
        with pytest.raises(ValidationError, match=rf"'{kind}' takes .*, not {given}"):
            StatisticsRequest(POINT, kind, probability=given)

    def test_keys_are_distinct_and_stable(self):
        requests = [
            StatisticsRequest(
                TargetPoint(node, point, port), kind, axis, 0.1 if has_probability(kind) else None, batched
            )
            for node in ("a", "b")
            for point in PointKind
            for port in (0, 1)
            for kind in AGGREGATORS
            for axis in (None, -1, 0)
            for batched in (False, True)
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


def test_a_tensor_is_looked_at_once():
    graph = NumpyGraphBuilder().build(CASE.model())
    producer = next(node for node in graph if node.outputs and graph.consumers(node.outputs[0].tensor))
    user = graph.consumers(producer.outputs[0].tensor)[0]
    port = next(i for i, port in enumerate(user.inputs) if port.tensor == producer.outputs[0].tensor)
    points = [TargetPoint(user.name, PointKind.INPUT, port), TargetPoint(producer.name), TargetPoint("nobody")]
    found = points_of(graph, [StatisticsRequest(point, kind) for point in points for kind in ("min", "max")])
    assert found == {points[0]: points[0], points[1]: points[0], points[2]: points[2]}


def test_every_eighth_item_is_held_out():
    request = StatisticsRequest(TargetPoint("node"), "mean", held_out=True)
    assert [item for item in range(20) if request.takes(item)] == [7, 15]
    assert all(StatisticsRequest(TargetPoint("node"), "mean").takes(item) for item in range(20))
    assert request.key != StatisticsRequest(TargetPoint("node"), "mean").key


def test_what_no_item_reaches_is_known_to_be_so(tmp_path):
    seen, empty, never = (StatisticsRequest(TargetPoint(name), "mean_square", -1) for name in ("a", "b", "c"))
    found = Statistics(origin=Origin("numpy", "any", 0, ("a",), {}), items=1)
    found.aggregator(seen).update(np.ones((2, 3), np.float32))
    found.aggregator(empty).update(np.ones((0, 3), np.float32))
    reached = found.reached([seen, empty, never])
    for statistics in (reached, Statistics.load(reached.save(tmp_path))):
        assert list(statistics) == [seen]
        assert statistics.unseen == {empty, never}
        assert statistics.count(seen) == 2
        with pytest.raises(ValidationError, match="No item of the dataset reaches b"):
            statistics[empty]
    later = Statistics()
    later.aggregator(empty).update(np.ones((1, 3), np.float32))
    assert reached.renewed(later).unseen == {never}
    reached.merge(later)
    assert reached.unseen == {never}


def test_mean_squares_of_what_is_divided():
    rng = np.random.default_rng(0)
    x, factors = rng.normal(size=(50, 4)), np.array([0.5, 1, 2, 3])
    request, target = StatisticsRequest(TargetPoint("a"), "mean_square", -1), TargetPoint("b")
    found, wanted = Statistics(items=1), (x / factors) ** 2
    found.aggregator(request).update(x)
    moved = found.divided(request, factors, target)
    np.testing.assert_allclose(moved[StatisticsRequest(target, "mean_square", -1)], wanted.mean(axis=0))
