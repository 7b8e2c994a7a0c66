"""What statistics aggregators of backends share: items of a dataset as feeds, and one pass over them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from nncf_core.errors import UnsupportedDatasetError, ValidationError
from nncf_core.statistics import Statistics, StatisticsRequest


def collect_items(
    requests: Sequence[StatisticsRequest],
    inputs: Iterable[Any],
    run: Callable[[Mapping[str, np.ndarray]], Mapping[str, np.ndarray]],
    expected: Mapping[str, str],
    failures: type[Exception] | tuple[type[Exception], ...] = Exception,
) -> Statistics:
    """Run a model on each item and aggregate.

    :param inputs: each item as :func:`feed_for` takes it.
    :param run: gives the requested tensors by the names of their target points.
    :param expected: type and shape of each input, for messages.
    :param failures: what ``run`` raises for an item that does not fit.
    :raises UnsupportedDatasetError: when there is no item, or an item does not fit the model's inputs.
    :raises ValidationError: when an item holds NaN.
    """
    statistics = Statistics()
    count = 0
    for item in inputs:
        try:
            feed = feed_for(item, expected)
            _check_numbers(feed, count)
            arrays = run(feed)
        except (UnsupportedDatasetError, ValidationError):
            raise
        except failures as error:
            raise UnsupportedDatasetError(
                f"Item {count} of the dataset does not fit the model, whose inputs are {expected}: {error}"
            ) from None
        for request in requests:
            statistics.aggregator(request).update(arrays[str(request.target)])
        count += 1
    if count == 0:
        raise UnsupportedDatasetError("The dataset has no items; statistics need at least one.")
    return statistics


def _check_numbers(feed: Mapping[str, np.ndarray], index: int) -> None:
    # infinities may be meant, as in a mask
    for name, array in feed.items():
        if array.dtype.kind == "f" and np.isnan(array).any():
            raise ValidationError(f"Item {index} of the dataset holds NaN in the input {name!r}; look at the data.")


def feed_for(item: Any, expected: Mapping[str, str]) -> dict[str, np.ndarray]:
    """Arrays by input name, from an item of a dataset.

    :param expected: type and shape of each input, for messages.
    :raises UnsupportedDatasetError: when the item has not one array for each input.
    """
    names = list(expected)
    if isinstance(item, Mapping):
        named = dict(item)
    elif isinstance(item, (tuple, list)):
        named = dict(zip(names, item, strict=False)) if len(item) == len(names) else {}
    else:
        named = {names[0]: item} if len(names) == 1 else {}
    if set(named) != set(names):
        given = f"the keys {sorted(map(str, item))}" if isinstance(item, Mapping) else f"a {type(item).__name__}"
        raise UnsupportedDatasetError(
            f"An item of the dataset is {given}; the model's inputs are {dict(expected)}. Give a dict of arrays, "
            "or pass a transform_func to nncf.Dataset that makes one."
        )
    return {name: np.asarray(value) for name, value in named.items()}
