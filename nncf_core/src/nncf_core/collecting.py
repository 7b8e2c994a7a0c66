"""What statistics aggregators of backends share: items of a dataset as feeds, and one pass over them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from attrs import frozen

from nncf_core.dataset import RESET_STATE
from nncf_core.digests import Digest, DigestRequest, digest_of, update
from nncf_core.errors import UnsupportedDatasetError, ValidationError
from nncf_core.graph import Graph
from nncf_core.memory import is_of_memory
from nncf_core.misfits import InputType, by_runtime, listed, misfit, unlike
from nncf_core.numerics.work import Call, available_cores, in_order
from nncf_core.statistics import Statistics, StatisticsRequest
from nncf_core.transformations import TargetPoint, tensor_at

WORKERS = 4
"""Items that a model runs on at the same time, at most: each holds all requested tensors."""


@frozen(eq=False)
class Rest:
    """Items of a dataset behind some that were looked at before.

    :param first: number of the first, from 0.
    """

    items: Iterable[Any]
    first: int

    def __iter__(self) -> Iterator[Any]:
        return iter(self.items)


def first_of(inputs: Iterable[Any]) -> int:
    """The number of the first of some items."""
    return inputs.first if isinstance(inputs, Rest) else 0


def mapped(function: Callable[[Any], Any], inputs: Iterable[Any]) -> Iterable[Any]:
    """What a function makes of items, which keep their numbers."""
    return Rest(map(function, inputs), first_of(inputs))


def workers() -> tuple[int, int]:
    """How many items run at the same time, and cores for each of them.

    A network of small layers is several times faster on two items, with a core each, than on one with two cores.
    """
    cores = available_cores()
    count = min(cores, WORKERS)
    return count, cores // count


def points_of(graph: Graph, requests: Iterable[StatisticsRequest]) -> dict[TargetPoint, TargetPoint]:
    """Where to look at the tensor of each requested point: a tensor that several points name is given once.

    :return: one point for each requested one.
    """
    first: dict[str, TargetPoint] = {}
    found: dict[TargetPoint, TargetPoint] = {}
    for point in dict.fromkeys(request.target for request in requests):
        tensor = tensor_at(graph, point)
        # who runs the model says what is wrong with points that do not exist
        found[point] = point if tensor is None else first.setdefault(tensor, point)
    return found


def digests_of(
    requests: Iterable[StatisticsRequest],
    points: Mapping[TargetPoint, TargetPoint],
    rank: Callable[[TargetPoint], int | None],
) -> dict[TargetPoint, DigestRequest]:
    """What may be told of tensors in place of their elements, by the points where they are looked at.

    :param points: what :func:`points_of` gives.
    :param rank: number of axes of a tensor of floating-point numbers; ``None`` for one that has to be given as it is.
    """
    groups: dict[TargetPoint, list[StatisticsRequest]] = {}
    for request in requests:
        groups.setdefault(points[request.target], []).append(request)
    ranks = ((point, rank(point)) for point in groups)
    found = {point: digest_of(groups[point], axes) for point, axes in ranks if axes is not None}
    return {point: digest for point, digest in found.items() if digest is not None}


def collect_items(
    requests: Sequence[StatisticsRequest],
    inputs: Iterable[Any],
    run: Callable[[Mapping[str, np.ndarray]], Mapping[str, np.ndarray | Digest]],
    expected: Mapping[str, InputType],
    failures: type[Exception] | tuple[type[Exception], ...] = Exception,
    points: Mapping[TargetPoint, TargetPoint] | None = None,
    reason: Callable[[Exception], str] = str,
    *,
    stateful: bool = False,
) -> Statistics:
    """Run a model on each item and aggregate. The result does not depend on the number of threads.

    :param inputs: each item as :func:`feed_for` takes it; taken in the calling thread.
    :param run: gives the requested tensors, or what :func:`digests_of` asks of them, by the names of their target
        points; called by several threads at a time. The tensors may be overwritten when the same thread calls it again.
    :param expected: what each input takes, for messages.
    :param failures: what ``run`` raises for an item that does not fit.
    :param points: what :func:`points_of` gives, where ``run`` gives the tensors of these points only.
    :param reason: what a failure says, for people.
    :param stateful: whether the model keeps state between runs. Items run one after the other then, and ``run`` gets
        :data:`~nncf_core.dataset.RESET_STATE`, too, where an item has it.
    :raises UnsupportedDatasetError: when there is no item, or an item does not fit the model's inputs.
    :raises ValidationError: when an item holds NaN.
    """

    def statistics_of(index: int, feed: Mapping[str, np.ndarray]) -> tuple[int, dict[str, InputType], Statistics]:
        given = {name: InputType.of(array) for name, array in feed.items() if name in expected}
        try:
            arrays = run(feed)
        except failures as error:
            if is_of_memory(error):
                raise MemoryError(f"a model does not run, {reason(error)}") from error
            raise misfit(index, given, expected, by_runtime(reason(error))) from error
        found = Statistics()
        for request, name in named:
            if request.takes(index):
                update(found.aggregator(request), request, arrays[name])
        return index, given, found

    points = points or {}
    named = [(request, str(points.get(request.target, request.target))) for request in requests]
    statistics = Statistics()
    count = 1 if stateful else workers()[0]
    first = first_of(inputs)
    calls = (Call(statistics_of, call) for call in enumerate(_feeds(inputs, expected, stateful, first), first))
    # the calling thread works, too
    with ThreadPoolExecutor(max(count - 1, 1)) as executor:
        for index, given, found in in_order(executor if count > 1 else None, calls, 2 * count):
            try:
                statistics.merge(found)
            except ValueError as error:
                raise misfit(index, given, expected, unlike(error)) from error
    if not len(statistics):
        raise UnsupportedDatasetError(
            "The dataset has no items; statistics need at least one. An iterator that was read before is empty."
        )
    return statistics


def _feeds(
    inputs: Iterable[Any], expected: Mapping[str, InputType], stateful: bool, first: int
) -> Iterator[dict[str, np.ndarray]]:
    for count, item in enumerate(inputs, first):
        if item is None:
            raise UnsupportedDatasetError(
                f"Item {count} of the dataset is None; the model's inputs are {listed(expected)}."
            )
        feed = feed_for(item, expected, count)
        check_samples({name: array.shape for name, array in feed.items()}, count)
        _check_numbers(feed, count)
        if stateful and isinstance(item, Mapping) and RESET_STATE in item:
            feed[RESET_STATE] = np.asarray(item[RESET_STATE], bool)
        yield feed


def check_samples(shapes: Mapping[str, Sequence[int]], index: int) -> None:
    """Whether there is a sample in an item of a dataset.

    Single inputs may have no elements, such as a cache that has nothing in it yet.

    :param shapes: of the item's arrays by their names.
    :raises UnsupportedDatasetError: when there is none.
    """
    if shapes and all(shape and shape[0] == 0 for shape in map(tuple, shapes.values())):
        raise UnsupportedDatasetError(
            f"Item {index} of the dataset holds no sample: its shapes are "
            f"{', '.join(f'{name} {tuple(shape)}'.strip() for name, shape in shapes.items())}. Leave out empty batches."
        )


def _check_numbers(feed: Mapping[str, np.ndarray], index: int) -> None:
    # infinities may be meant, as in a mask
    for name, array in feed.items():
        if array.dtype.kind == "f" and np.isnan(array).any():
            raise with_nan(index, name)


def with_nan(index: int, name: str) -> ValidationError:
    """The error for an item of a dataset that holds NaN.

    :param name: of the input that is given it.
    """
    return ValidationError(
        f"Item {index} of the dataset holds NaN in the input {name!r}; correct it, or leave the item out."
    )


def feed_for(item: Any, expected: Mapping[str, InputType], index: int) -> dict[str, np.ndarray]:
    """Arrays by input name, from an item of a dataset, without :data:`~nncf_core.dataset.RESET_STATE`.

    :param expected: what each input takes, for messages.
    :param index: of the item, for messages.
    :raises UnsupportedDatasetError: when the item has not one array for each input, or one with numbers whose parts
        an input does not take: imaginary ones, or fractions.
    """
    names = list(expected)
    if isinstance(item, Mapping):
        named = {name: value for name, value in item.items() if name != RESET_STATE}
    elif isinstance(item, (tuple, list)):
        named = dict(zip(names, item, strict=False)) if len(item) == len(names) else {}
    else:
        named = {names[0]: item} if len(names) == 1 else {}
    if set(named) != set(names):
        given = f"the keys {sorted(map(str, item))}" if isinstance(item, Mapping) else f"a {type(item).__name__}"
        raise UnsupportedDatasetError(
            f"Item {index} of the dataset is {given}; the model's inputs are {listed(expected)}. Give a dict of "
            "arrays, or pass a transform_func to nncf.Dataset that makes one."
        )
    found = {name: np.asarray(value) for name, value in named.items()}
    kinds = {name: InputType.of(array) for name, array in found.items()}
    lost = [why for name, array in found.items() if (why := _lost(array, kinds[name], expected[name]))]
    if lost:
        raise misfit(index, kinds, expected, lost[0])
    return found


_INTEGERS = {np.dtype(code).name for code in np.typecodes["AllInteger"]}


def _lost(array: np.ndarray, given: InputType, taken: InputType) -> str:
    """Why an input does not take an array, of whose numbers OpenVINO would leave out parts and say nothing."""
    if taken.dtype is None or taken.takes_type(given):
        return ""
    if array.dtype.kind == "c":
        return "Complex numbers are no real ones; give their parts, or magnitudes."
    if taken.dtype in _INTEGERS and array.size and array.dtype.kind in "fiu":
        if array.dtype.kind == "f" and not (np.isfinite(array) & (np.trunc(array) == array)).all():
            return "Integers have no fractions; give whole numbers."
        held, least, greatest = np.iinfo(taken.dtype), int(array.min()), int(array.max())
        if least < held.min or greatest > held.max:
            return f"{taken.dtype} holds numbers from {held.min} to {held.max}, not from {least} to {greatest}."
    return ""
