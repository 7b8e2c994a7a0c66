"""Items of a dataset that hold nothing."""

import numpy as np
import pytest

from nncf_core.collecting import check_samples, collect_items
from nncf_core.errors import UnsupportedDatasetError
from nncf_core.statistics import StatisticsRequest
from nncf_core.transformations import TargetPoint

REQUEST = StatisticsRequest(TargetPoint("node"), "max")


def collected(*items):
    return collect_items([REQUEST], items, lambda feed: {str(REQUEST.target): feed["x"]}, {"x": "float32 [?, 3]"})


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
