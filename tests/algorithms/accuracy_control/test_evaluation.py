"""What validation functions give, and what is made of it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nncf_accuracy_control.evaluation import BadFunctionError, outcome_of
from nncf_accuracy_control.parameters import ControlSettings
from nncf_core.parameters import DropType


@pytest.mark.parametrize(
    "given", [0.5, 1, np.float32(0.5), np.array(0.5), np.array([0.5]), torch.tensor(0.5), (0.5, None)], ids=repr
)
def test_numbers_of_any_library(given) -> None:
    found = outcome_of(given, 3)
    assert found.metric in (0.5, 1.0)
    assert found.values is None
    assert found.outputs is None


@pytest.mark.parametrize("values", [[1, 0.0, np.float64(0.5)], np.array([1, 0, 0.5]), torch.tensor([1, 0, 0.5])])
def test_a_number_for_each_item(values) -> None:
    found = outcome_of((0.5, values), 3)
    assert found.values.tolist() == [1, 0, 0.5]


def test_outputs_for_each_item() -> None:
    items = [[np.ones((1, 4)), torch.zeros(2)]] * 3
    found = outcome_of((0.5, items), 3)
    assert found.values is None
    assert [array.shape for array in found.outputs[2]] == [(1, 4), (2,)]
    assert outcome_of((0.5, np.ones((3, 10))), 3).outputs[0][0].shape == (10,)


@pytest.mark.parametrize(
    ("given", "part"),
    [
        (None, "None as metric"),
        ("0.5", "'0.5' \\(str\\)"),
        (True, "bool"),
        ({"top1": 0.5}, "dict"),
        ([0.5, 0.4], "list"),
        (np.array([0.5, 0.4]), "ndarray"),
        ((None, [1.0]), "None as metric"),
        ((0.5, None, 1), "tuple of 3"),
        (float("nan"), "metric nan"),
        (float("-inf"), "metric -inf"),
        ((0.5, [1.0, 2.0]), "2 values beside the metric for 3 items"),
        ((0.5, [1.0, float("nan"), 0.0]), "nan as the metric of item 1; give finite numbers"),
        ((0.5, 7), "must be a list"),
        ((0.5, ["a", "b", "c"]), "for an item"),
    ],
)
def test_what_is_no_metric_says_what_would_be(given, part: str) -> None:
    with pytest.raises(BadFunctionError, match=part):
        outcome_of(given, 3)


def test_drops() -> None:
    absolute, relative = ControlSettings(0.01), ControlSettings(0.01, DropType.RELATIVE)
    assert absolute.allows(0.91, 0.90)  # 0.91 - 0.90 > 0.01 in floating point
    assert not absolute.allows(0.91, 0.899)
    assert absolute.drop(0.5, 0.7) == 0
    assert relative.drop(50, 49) == pytest.approx(0.02)
    assert not relative.allows(50, 49)
    assert relative.allows(-1.0, -1.009)  # as of a loss with a minus
    assert relative.allows(0.0, 0.1)
    assert not relative.allows(0.0, -0.1)
