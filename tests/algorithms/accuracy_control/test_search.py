"""How many groups are reverted: fewer validations than one by one, and nothing that was not verified."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nncf_accuracy_control.search import Prediction, fewest, is_worth, unneeded


def searched(metrics: list[float], measures: list[float], enough: float, limit: int = 1000) -> tuple:
    """The number that is found, and the numbers that were validated; the last model is the original."""
    known = Prediction()
    known.add(measures[0], metrics[0])
    known.add(measures[-1], metrics[-1])
    validated: list[int] = []

    def validate(number: int) -> float:
        validated.append(number)
        return metrics[number]

    found = fewest(len(metrics) - 1, limit, measures.__getitem__, validate, lambda m: m >= enough, known)
    return found, validated


def one_by_one(metrics: list[float], enough: float) -> int | None:
    """The slow twin."""
    return next((number for number in range(1, len(metrics)) if metrics[number] >= enough), None)


@pytest.mark.parametrize("needed", [1, 2, 3, 5, 8, 13, 21, 34, 55])
@pytest.mark.parametrize("bend", [0.5, 1.0, 2.0])
def test_half_of_the_validations_of_one_by_one(needed: int, bend: float) -> None:
    # the measure is the metric on other items: bent, but in the same order
    metrics = list(np.linspace(0.5, 0.9, 61))
    measures = [0.4 * ((m - 0.5) / 0.4) ** bend for m in metrics]
    found, validated = searched(metrics, measures, metrics[needed])
    assert found is not None
    assert found >= one_by_one(metrics, metrics[needed]) == needed
    assert found <= needed + 7
    assert len(validated) + 2 <= max((2 + found) / 2, 5)


def test_a_measure_that_tells_the_metric_takes_one_validation() -> None:
    metrics = [0.1, 0.2, 0.5, 0.8, 0.85, 0.9, 0.9]
    assert searched(metrics, metrics, 0.85) == (4, [4])


@given(
    st.lists(st.floats(0, 1), min_size=2, max_size=30),
    st.lists(st.floats(0, 1), min_size=30, max_size=30),
    st.floats(0, 1),
)
def test_what_is_found_was_validated_whatever_the_metric_does(metrics, measures, enough) -> None:
    if metrics[0] >= enough:
        return
    measures = [*measures[: len(metrics) - 1], max(measures)]
    found, validated = searched(metrics, measures, enough)
    assert len(validated) == len(set(validated))
    if metrics[-1] >= enough:  # as it is where everything is reverted
        assert found is not None
    if found is not None:
        assert found in validated
        assert metrics[found] >= enough


def test_no_more_validations_than_allowed() -> None:
    metrics = list(np.linspace(0, 1, 40))
    assert searched(metrics, metrics, 2.0, limit=0) == (None, [])
    _, validated = searched(metrics, [0.0] * 39 + [1.0], 0.99, limit=3)
    assert len(validated) <= 3


def test_success_with_the_last_group_counts() -> None:
    metrics = [0.1, 0.1, 0.1, 0.9]
    found, _ = searched(metrics, metrics, 0.9)
    assert found == 3


def test_predictions_never_fall_and_end_at_known_models() -> None:
    known = Prediction([(0.0, 0.5), (1.0, 0.9), (0.5, 0.4)])
    values = [known.metric(x) for x in np.linspace(-1, 2, 31)]
    assert values == sorted(values)
    assert (values[0], values[-1]) == (0.5, 0.9)


def test_groups_that_are_not_needed_are_given_back() -> None:
    needed = frozenset({3, 1})
    given_back = unneeded([3, 7, 1, 5], lambda kept: float(needed <= kept), lambda m: m == 1, 10)
    assert given_back == {5, 7}
    assert unneeded([3, 7, 1, 5], lambda kept: float(needed <= kept), lambda m: m == 1, 1) == {5}


def test_one_more_validation_is_worth_half_of_one_by_one_or_a_tenth_of_the_groups() -> None:
    assert is_worth(1, 8, 1, 100)
    assert not is_worth(4, 8, 1, 100)
    assert is_worth(4, 8, 10, 100)
