"""Statistics that tell the rows of a matrix from its channels, against numpy, sample by sample."""

import numpy as np
import pytest

from nncf_core.errors import ValidationError
from nncf_core.statistics import Statistics, StatisticsRequest
from nncf_core.transformations import TargetPoint

TWINS = {
    "mean_mean_variance": lambda x: x.var(axis=-2).mean(),
    "mean_max_variance": lambda x: x.var(axis=-2).max(),
    "mean_channel_abs_max": lambda x: np.abs(x).max(axis=-2).mean(),
}
kinds = pytest.mark.parametrize("kind", sorted(TWINS))


def samples(*shape: int, dtype: str = "float32") -> list[np.ndarray]:
    random = np.random.default_rng(0)
    # samples of different lengths; channels with a mean of their own
    return [
        (random.normal(3, 1 + i, (*shape[:-2], shape[-2] + i, shape[-1])) * np.linspace(-1, 2, shape[-1])).astype(dtype)
        for i in range(4)
    ]


def collected(request: StatisticsRequest, arrays: list[np.ndarray]) -> Statistics:
    found = Statistics()
    for array in arrays:
        found.aggregator(request).update(array)
    return found


@kinds
@pytest.mark.parametrize("shape", [(5, 8), (2, 7, 3), (2, 3, 1, 4), (9, 1), (63, 2), (3, 130, 5)])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_the_mean_over_samples(kind: str, shape: tuple[int, ...], dtype: str) -> None:
    arrays = samples(*shape, dtype=dtype)
    wanted = np.mean([TWINS[kind](array.astype(np.float64)) for array in arrays])
    request = StatisticsRequest(TargetPoint("a"), kind)
    assert collected(request, arrays)[request] == pytest.approx(wanted, rel=1e-5)
    # channels along the axis before the last
    turned = StatisticsRequest(TargetPoint("a"), kind, -2)
    assert collected(turned, [np.swapaxes(a, -1, -2) for a in arrays])[turned] == pytest.approx(wanted, rel=1e-5)


@kinds
def test_halves_merge_to_the_whole(kind: str) -> None:
    arrays, request = samples(2, 5, 8), StatisticsRequest(TargetPoint("a"), kind, -1)
    whole, half = collected(request, arrays), collected(request, arrays[:1])
    half.merge(collected(request, arrays[1:]))
    assert half[request] == pytest.approx(whole[request], rel=1e-12)
    restored = request.aggregator()
    restored.restore(half.aggregator(request).state)
    assert restored.value == half[request]


@kinds
def test_a_large_mean_takes_no_digits_of_the_variance(kind: str) -> None:
    x = (np.random.default_rng(1).normal(0, 1, (1, 1000, 4)) + 1000).astype(np.float32)
    request = StatisticsRequest(TargetPoint("a"), kind)
    assert collected(request, [x])[request] == pytest.approx(TWINS[kind](x.astype(np.float64)), rel=1e-4)


@kinds
def test_other_shapes_are_errors(kind: str) -> None:
    with pytest.raises(ValidationError, match=r"shape \(5,\); it needs two axes"):
        StatisticsRequest(TargetPoint("a"), kind).aggregator().update(np.zeros(5))
    with pytest.raises(ValidationError, match=r"axis 0 .* one of its last two axes"):
        StatisticsRequest(TargetPoint("a"), kind, 0).aggregator().update(np.zeros((2, 3, 4)))
