"""Data that users give: calibration and validation sets."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import count
from typing import Any, Generic, TypeVar, cast, overload

from nncf_core.errors import NNCFError, UnsupportedDatasetError, ValidationError

DataItem = TypeVar("DataItem")
ModelInput = TypeVar("ModelInput")

RESET_STATE = "nncf_reset_state"
"""Key of an item, which is a dict: ``False`` says that a model that keeps state goes on from the item before, where
it runs on one after the other; otherwise each item begins anew."""


class Dataset(Generic[DataItem, ModelInput]):
    """Wraps an iterable source of data items.

    :param data_source: an iterable. It is iterated as often as needed; of a generator, or another iterator
        that can be read only once, the items that were read are kept in memory for later passes.
    :param transform_func: makes a model's input from an item; without it items are inputs.
    :raises UnsupportedDatasetError: when the source cannot be iterated.
    """

    @overload
    def __init__(self: Dataset[DataItem, DataItem], data_source: Iterable[DataItem]) -> None: ...

    @overload
    def __init__(self: Dataset[DataItem, DataItem], data_source: Iterable[DataItem], transform_func: None) -> None: ...

    @overload
    def __init__(
        self, data_source: Iterable[DataItem], transform_func: Callable[[DataItem], ModelInput] | None
    ) -> None: ...

    def __init__(
        self,
        data_source: Iterable[DataItem],
        transform_func: Callable[[DataItem], Any] | None = None,
    ) -> None:
        if not isinstance(data_source, Iterable) and not hasattr(data_source, "__getitem__"):
            raise UnsupportedDatasetError(
                f"A {type(data_source).__name__} cannot be iterated; give a list, a data loader, or a generator."
            )
        if transform_func is not None and not callable(transform_func):
            raise UnsupportedDatasetError(
                f"transform_func is a {type(transform_func).__name__}; give a function that makes a model's input of "
                "an item."
            )
        self._source: Iterable[DataItem] = _Replayed(data_source) if isinstance(data_source, Iterator) else data_source
        self._original = data_source
        self._transform = transform_func

    def get_data(self, indices: list[int] | None = None) -> Iterable[DataItem]:
        """The items, all or those at the given zero-based indices, as they are.

        :param indices: those of a source without ``__getitem__`` are taken in ascending order.
        :raises ValidationError: when an index is negative or not an integer; while iterating, beyond the end.
        """
        return _Selection(self._source, indices, None)

    def get_inference_data(self, indices: list[int] | None = None) -> Iterable[ModelInput]:
        """The model's inputs, all or those at the given zero-based indices.

        :param indices: those of a source without ``__getitem__`` are taken in ascending order.
        :raises ValidationError: when an index is negative or not an integer; while iterating, beyond the end.
        """
        return _Selection(self._source, indices, self._transform)

    def get_length(self) -> int | None:
        """Number of items, ``None`` when the source does not tell."""
        try:
            return len(self._original)  # type: ignore[arg-type]
        except (TypeError, NotImplementedError):
            return None

    def get_batch_size(self) -> int | None:
        """``batch_size`` or ``_batch_size`` of the source, ``None`` when it has neither."""
        for name in ("batch_size", "_batch_size"):
            size = getattr(self._original, name, None)
            if size is not None:
                return cast(int, size)
        return None


def check_dataset(dataset: object) -> None:
    """Whether an argument is a dataset.

    :raises UnsupportedDatasetError: when it is something else, such as the data itself.
    """
    if not isinstance(dataset, Dataset):
        raise UnsupportedDatasetError(
            f"The dataset is a {type(dataset).__name__}; wrap the data: nncf.Dataset(data, transform_func)."
        )


class _Replayed(Generic[DataItem]):
    """An iterator that can be read more than once."""

    def __init__(self, iterator: Iterator[DataItem]) -> None:
        self._source = iterator
        self._iterator: Iterator[DataItem] | None = None
        self._failure: Exception | None = None
        self._seen: list[DataItem] = []

    def __iter__(self) -> Iterator[DataItem]:
        index = 0
        while True:
            if index == len(self._seen):
                try:
                    self._seen.append(self._next())
                except StopIteration:
                    return
            yield self._seen[index]
            index += 1

    def _next(self) -> DataItem:
        if self._failure is not None:
            # a generator that raised is over: without this, later passes would quietly be shorter
            raise UnsupportedDatasetError(
                f"The dataset's {type(self._source).__name__} failed after {len(self._seen)} items and cannot be "
                f"read further: {self._failure!r}. Make a new dataset."
            ) from self._failure
        if self._iterator is None:
            # iter() resets loaders that are iterators of themselves
            self._iterator = iter(self._source)
        try:
            return next(self._iterator)
        except StopIteration:
            raise
        except Exception as error:
            self._failure = error
            raise


class _Selection:
    """Items of a source, selected and transformed each time it is iterated."""

    def __init__(self, source: Any, indices: Sequence[int] | None, transform: Callable[[Any], Any] | None) -> None:
        self._source = source
        self._indices = None if indices is None else _checked(indices)
        self._transform = transform

    def __iter__(self) -> Iterator[Any]:
        for index, item in self._numbered():
            if self._transform is not None:
                try:
                    item = self._transform(item)
                except Exception as error:
                    error.add_note(f"This was in transform_func, for item {index} of the dataset.")
                    raise
            yield item

    def _numbered(self) -> Iterator[tuple[int, Any]]:
        if self._indices is None:
            yield from enumerate(_noted(self._source))
        elif not hasattr(self._source, "__getitem__"):
            yield from self._read(self._indices)
        else:
            yield from self._selected(self._indices)

    def _selected(self, indices: list[int]) -> Iterator[tuple[int, Any]]:
        for position, index in enumerate(indices):
            try:
                item = self._source[index]
            except (IndexError, KeyError) as error:
                raise ValidationError(f"The dataset has no item {index}.") from error
            except NotImplementedError:
                # torch's IterableDataset inherits a __getitem__ that it does not implement
                yield from self._read(indices[position:])
                return
            except Exception as error:
                _note(error, index)
                raise
            yield index, item

    def _read(self, indices: list[int]) -> Iterator[tuple[int, Any]]:
        # ascending, as a pass over the source gives them
        wanted = sorted(indices)
        position = 0
        for index, item in enumerate(_noted(self._source)):
            while position < len(wanted) and wanted[position] == index:
                yield index, item
                position += 1
            if position == len(wanted):
                return
        if position < len(wanted):
            raise ValidationError(f"The dataset has no item {wanted[position]}.")


def _noted(source: Iterable[Any]) -> Iterator[Any]:
    """The items of a source, whose errors say at which item they are."""
    items = iter(source)
    for index in count():
        try:
            item = next(items)
        except StopIteration:
            return
        except Exception as error:
            _note(error, index)
            raise
        yield item


def _note(error: Exception, index: int) -> None:
    if not isinstance(error, NNCFError):
        error.add_note(f"This was while item {index} of the dataset was read.")


def _checked(indices: Sequence[int]) -> list[int]:
    try:
        checked = [operator.index(index) for index in indices]
    except TypeError as error:
        raise ValidationError(f"Dataset indices must be integers: {error}.") from None
    if any(index < 0 for index in checked):
        raise ValidationError(f"Dataset indices must not be negative: {min(checked)}.")
    return checked
