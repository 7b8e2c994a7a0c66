"""Datasets."""

from collections.abc import Iterator

import numpy as np
import pytest

import nncf


class Loader:
    batch_size = 4

    def __init__(self, items: list[int]) -> None:
        self._items = items

    def __iter__(self) -> Iterator[int]:
        return iter(self._items)


def test_items_and_inputs() -> None:
    data = nncf.Dataset([1, 2, 3], lambda x: 10 * x)
    assert list(data.get_data()) == [1, 2, 3]
    assert list(data.get_inference_data()) == [10, 20, 30]
    assert list(data.get_data([0, 2])) == [1, 3]
    assert list(data.get_inference_data([2, 0])) == [30, 10]
    assert data.get_length() == 3
    assert data.get_batch_size() is None


def test_a_source_without_indices() -> None:
    data = nncf.Dataset(Loader([5, 6, 7]))
    assert list(data.get_data([2, 0])) == [5, 7]
    assert data.get_length() is None
    assert data.get_batch_size() == 4


def test_a_generator_can_be_read_more_than_once() -> None:
    drawn = []

    def source() -> Iterator[int]:
        for i in range(3):
            drawn.append(i)
            yield i

    data = nncf.Dataset(source())
    inputs = data.get_inference_data()
    assert next(iter(inputs)) == 0
    assert drawn == [0]
    assert list(inputs) == [0, 1, 2]
    assert list(data.get_data()) == [0, 1, 2]
    assert list(data.get_data([1])) == [1]
    assert drawn == [0, 1, 2]


def test_an_iterator_that_resets_itself() -> None:
    class Resetting:
        def __iter__(self) -> "Resetting":
            self.left = 3
            return self

        def __next__(self) -> int:
            if not self.left:
                raise StopIteration
            self.left -= 1
            return self.left

    data = nncf.Dataset(Resetting())
    assert list(data.get_data()) == list(data.get_data()) == [2, 1, 0]


def test_a_generator_that_failed_is_not_a_shorter_one() -> None:
    def source() -> Iterator[int]:
        yield 1
        raise OSError("no such disk")

    data = nncf.Dataset(source())
    with pytest.raises(OSError, match="no such disk"):
        list(data.get_data())
    with pytest.raises(nncf.UnsupportedDatasetError, match="after 1 items"):
        list(data.get_data())


def test_what_a_source_inherits_but_does_not_implement() -> None:
    class Stream(Loader):
        def __len__(self) -> int:
            raise NotImplementedError

        def __getitem__(self, index: int) -> int:
            raise NotImplementedError

    data = nncf.Dataset(Stream([5, 6, 7]), lambda x: 10 * x)
    assert list(data.get_inference_data([2, 0])) == [50, 70]
    assert data.get_length() is None


def test_the_cause_of_a_missing_item_is_kept() -> None:
    class Broken:
        def __getitem__(self, index: int) -> int:
            return {}["label"]

    with pytest.raises(nncf.ValidationError, match="no item 0") as caught:
        list(nncf.Dataset(Broken()).get_data([0]))
    assert repr(caught.value.__cause__) == "KeyError('label')"


def test_indices_are_checked_at_once() -> None:
    for indices in (["a"], [0.5], [-1]):
        with pytest.raises(nncf.ValidationError, match="indices"):
            nncf.Dataset([1, 2]).get_data(indices)
    assert list(nncf.Dataset([1, 2]).get_data(np.array([1]))) == [2]


def test_a_transformation_is_lazy() -> None:
    seen = []
    inputs = iter(nncf.Dataset(range(100), lambda x: seen.append(x) or x).get_inference_data())
    next(inputs)
    assert seen == [0]


@pytest.mark.parametrize("source", [[1, 2], Loader([1, 2])])
@pytest.mark.parametrize("indices", [[5], [-1], [0, 9]])
def test_wrong_indices(source: object, indices: list[int]) -> None:
    with pytest.raises(nncf.ValidationError, match=str(max(indices, key=abs))):
        list(nncf.Dataset(source).get_data(indices))


def test_wrong_sources() -> None:
    with pytest.raises(nncf.UnsupportedDatasetError, match="int"):
        nncf.Dataset(3)
    with pytest.raises(nncf.UnsupportedDatasetError, match="transform_func"):
        nncf.Dataset([1], 3)


class _Broken:
    def __getitem__(self, index):
        if index == 3:
            raise OSError("disk")
        return index


def _fails_at(index: int):
    def function(item):
        if item == index:
            raise OSError("disk")
        return item

    return function


@pytest.mark.parametrize(
    ("data", "note"),
    [
        (nncf.Dataset(range(9), _fails_at(3)).get_inference_data(), "in transform_func, for item 3 of"),
        (nncf.Dataset(range(9), _fails_at(3)).get_inference_data([7, 3]), "in transform_func, for item 3 of"),
        (nncf.Dataset(map(int, range(9)), _fails_at(3)).get_inference_data([3, 1]), "in transform_func, for item 3 of"),
        (nncf.Dataset(map(_fails_at(3), range(9))).get_data(), "while item 3 of the dataset was read"),
        (nncf.Dataset(_Broken()).get_data([1, 3]), "while item 3 of the dataset was read"),
    ],
)
def test_errors_of_users_functions_say_at_which_item(data, note: str) -> None:
    with pytest.raises(OSError, match="disk") as caught:
        list(data)
    assert [note in each for each in caught.value.__notes__] == [True]
