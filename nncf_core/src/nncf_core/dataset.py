"""Data that users give: calibration and validation sets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Generic, TypeVar, cast

from nncf_core.errors import UnsupportedDatasetError, ValidationError

DataItem = TypeVar("DataItem")
ModelInput = TypeVar("ModelInput")


class Dataset(Generic[DataItem, ModelInput]):
    """Wraps an iterable source of data items.

    :param data_source: an iterable. It is iterated as often as needed; of a generator, or another iterator
        that can be read only once, the items that were read are kept in memory for later passes.
    :param transform_func: makes a model's input from an item; without it items are inputs.
    :raises UnsupportedDatasetError: when the source cannot be iterated.
    """

    def __init__(
        self,
        data_source: Iterable[DataItem],
        transform_func: Callable[[DataItem], ModelInput] | None = None,
    ) -> None:
        if not isinstance(data_source, Iterable) and not hasattr(data_source, "__getitem__"):
            raise UnsupportedDatasetError(
                f"A {type(data_source).__name__} cannot be iterated; give a list, a data loader, or a generator."
            )
        if transform_func is not None and not callable(transform_func):
            raise UnsupportedDatasetError(f"transform_func is a {type(transform_func).__name__}, not a function.")
        self._source: Iterable[DataItem] = _Replayed(data_source) if isinstance(data_source, Iterator) else data_source
        self._original = data_source
        self._transform = transform_func

    def get_data(self, indices: list[int] | None = None) -> Iterable[DataItem]:
        """The items, all or those at the given zero-based indices, as they are.

        :raises ValidationError: when an index is negative or beyond the end.
        """
        return _Selection(self._source, indices, None)

    def get_inference_data(self, indices: list[int] | None = None) -> Iterable[ModelInput]:
        """The model's inputs, all or those at the given zero-based indices.

        :raises ValidationError: when an index is negative or beyond the end.
        """
        return _Selection(self._source, indices, self._transform)

    def get_length(self) -> int | None:
        """Number of items, ``None`` when the source does not tell."""
        try:
            return len(self._original)  # type: ignore[arg-type]
        except TypeError:
            return None

    def get_batch_size(self) -> int | None:
        """``batch_size`` or ``_batch_size`` of the source, ``None`` when it has neither."""
        for name in ("batch_size", "_batch_size"):
            size = getattr(self._original, name, None)
            if size is not None:
                return cast(int, size)
        return None


class _Replayed(Generic[DataItem]):
    """An iterator that can be read more than once."""

    def __init__(self, iterator: Iterator[DataItem]) -> None:
        self._iterator = iterator
        self._seen: list[DataItem] = []

    def __iter__(self) -> Iterator[DataItem]:
        index = 0
        while True:
            if index == len(self._seen):
                try:
                    self._seen.append(next(self._iterator))
                except StopIteration:
                    return
            yield self._seen[index]
            index += 1


class _Selection:
    """Items of a source, selected and transformed each time it is iterated."""

    def __init__(self, source: Any, indices: Sequence[int] | None, transform: Callable[[Any], Any] | None) -> None:
        self._source = source
        self._indices = indices
        self._transform = transform

    def __iter__(self) -> Iterator[Any]:
        items = self._source if self._indices is None else self._selected(list(self._indices))
        return iter(items) if self._transform is None else map(self._transform, items)

    def _selected(self, indices: list[int]) -> Iterator[Any]:
        if any(index < 0 for index in indices):
            raise ValidationError(f"Dataset indices must not be negative: {min(indices)}.")
        if hasattr(self._source, "__getitem__"):
            for index in indices:
                try:
                    item = self._source[index]
                except (IndexError, KeyError):
                    raise ValidationError(f"The dataset has no item {index}.") from None
                yield item
            return
        yield from self._read(indices)

    def _read(self, indices: list[int]) -> Iterator[Any]:
        # sorted, as a pass over the source gives them
        wanted = sorted(indices)
        position = 0
        for index, item in enumerate(self._source):
            while position < len(wanted) and wanted[position] == index:
                yield item
                position += 1
            if position == len(wanted):
                return
        if position < len(wanted):
            raise ValidationError(f"The dataset has no item {wanted[position]}.")
