"""Datasets."""

from collections.abc import Iterator

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
