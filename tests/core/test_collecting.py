"""Items of a dataset that hold nothing."""

import numpy as np
import pytest

from nncf_core.collecting import check_samples, collect_items
from nncf_core.errors import UnsupportedDatasetError
from nncf_core.misfits import InputType, misfit
from nncf_core.statistics import StatisticsRequest
from nncf_core.transformations import TargetPoint

TAKEN = InputType("float32", (None, 3))
REQUEST = StatisticsRequest(TargetPoint("node"), "max")


def collected(*items):
    return collect_items([REQUEST], items, lambda feed: {str(REQUEST.target): feed["x"]}, {"x": TAKEN})


def test_an_item_that_is_none():
    with pytest.raises(UnsupportedDatasetError, match=r"Item 1 of the dataset is None; .*float32 \[\?, 3\]"):
        collected(np.ones((1, 3)), None)


def test_a_batch_without_samples():
    with pytest.raises(UnsupportedDatasetError, match=r"Item 1 .* holds no sample: its shapes are x \(0, 3\)"):
        collected(np.ones((1, 3)), np.ones((0, 3)))


def test_single_inputs_may_hold_nothing():
    check_samples({"tokens": (1, 5), "cache": (0, 1, 4)}, 0)
    check_samples({"number": ()}, 0)
    check_samples({}, 0)
    with pytest.raises(UnsupportedDatasetError):
        check_samples({"tokens": (0, 5), "cache": (0, 1, 4)}, 0)


def test_an_item_of_other_channels_than_those_before():
    """The model runs on it, and yet there is no one statistic of both."""
    with pytest.raises(UnsupportedDatasetError) as caught:
        collected_per_channel(np.ones((1, 3)), np.ones((1, 4)))
    assert str(caught.value).startswith(
        "Item 1 of the dataset does not fit the model: the input 'x' takes float32 [?, 3], and is given float64 [1, 4]."
    )
    assert "other channels than those of the items before" in str(caught.value)


def collected_per_channel(*items):
    request = StatisticsRequest(TargetPoint("node"), "max", 1)
    return collect_items([request], items, lambda feed: {str(request.target): feed["x"]}, {"x": TAKEN})


@pytest.mark.parametrize(
    ("takes", "given", "fits"),
    [
        (("float32", (None, 3)), ("float32", (5, 3)), True),
        (("float32", ("n", 3)), ("float32", (5, 4)), False),
        (("float32", (None, 3)), ("float32", (3,)), False),
        (("float32", None), ("int64", (3,)), False),
        ((None, None), ("int64", (3,)), True),
        (("float32", ("1..4", 3)), ("float32", (9, 3)), True),
    ],
)
def test_what_an_input_takes(takes, given, fits):
    input_, array = InputType(*takes), InputType(*given)
    assert (input_.takes_shape(array) and input_.takes_type(array)) == fits


def test_a_wrong_shape_is_told_before_a_type_that_runtimes_convert():
    expected = {"x": TAKEN, "y": InputType("int64", (1,))}
    given = {"x": InputType("float64", (2, 3)), "y": InputType("int64", (2,))}
    message = str(misfit(3, given, expected, "No."))
    assert message.startswith(
        "Item 3 of the dataset does not fit the model: the input 'y' takes int64 [1], and is given"
    )
    assert "'x'" not in message
