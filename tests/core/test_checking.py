"""Algorithms that break their contract get one clear error each."""

import numpy as np
import pytest

import nncf
from nncf_core.pipeline import run
from nncf_core.statistics import StatisticsRequest
from nncf_core.transformations import InsertMultiply, PointKind, ReplaceConstant, TargetPoint
from tests.core.pipeline_doubles import CASE, backend, config, scale  # noqa: F401

LAST = CASE.weights["last"]


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (42, "'scale': transformations\\(\\) yields 42; allowed are CompressConstant, ReplaceConstant"),
        (ReplaceConstant("lost", LAST), "ReplaceConstant names 'lost', which is no constant of the model"),
        (ReplaceConstant("last", np.full_like(LAST, np.nan)), "ReplaceConstant of last holds NaN"),
        (
            InsertMultiply(TargetPoint("last/matmul", PointKind.INPUT, 0), np.array([np.inf], np.float32)),
            "InsertMultiply of .*last/matmul.* holds NaN or infinite",
        ),
    ],
)
def test_edits(scale, edit, message):  # noqa: F811
    scale.transformations = lambda *_: iter([edit])
    with pytest.raises(nncf.PluginError, match=message):
        run(config({}), CASE.model())


@pytest.mark.parametrize("rounds", ["2", 1.5, None, -1, True])
def test_rounds(scale, rounds):  # noqa: F811
    scale.rounds = lambda *_: rounds
    with pytest.raises(nncf.PluginError, match=r"'scale': rounds.*must give a number"):
        run(config({}), CASE.model())


def test_requests(scale):  # noqa: F811
    scale.requests = lambda *_: [StatisticsRequest(TargetPoint("a"), "max"), "max"]
    with pytest.raises(nncf.PluginError, match=r"'scale': requests.*'max', which is no StatisticsRequest"):
        run(config({}), CASE.model())
