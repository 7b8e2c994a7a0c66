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


def fails(*_):
    raise LookupError("no such layer")


def fails_late(*_):
    yield ReplaceConstant("last", LAST)
    fails()


@pytest.mark.parametrize(
    ("method", "broken"),
    [("rounds", fails), ("requests", fails), ("transformations", fails), ("transformations", fails_late)],
)
def test_errors_of_an_algorithm_name_it(scale, method, broken):  # noqa: F811
    setattr(scale, method, broken)
    message = rf"'scale': {method}\(\) fails with LookupError: no such layer\."
    with pytest.raises(nncf.PluginError, match=message) as caught:
        run(config({}), CASE.model())
    assert type(caught.value.__cause__) is LookupError


@pytest.mark.parametrize(
    "error",
    [nncf.ValidationError("mine"), MemoryError("all gone"), RuntimeError("CUDA out of memory."), KeyboardInterrupt()],
)
def test_errors_that_stay_as_they_are(scale, error):  # noqa: F811
    def broken(*_):
        raise error
        yield

    scale.transformations = broken
    with pytest.raises(type(error)) as caught:
        run(config({}), CASE.model())
    assert caught.value is error


def test_no_edits_at_all(scale):  # noqa: F811
    scale.transformations = lambda *_: None
    with pytest.raises(nncf.PluginError, match=r"'scale': transformations\(\) gives None; it must give edits"):
        run(config({}), CASE.model())


def test_errors_of_data_do_not_name_an_algorithm(scale):  # noqa: F811
    def broken():
        raise LookupError("no such sample")
        yield

    scale.requests = lambda *_: [StatisticsRequest(TargetPoint("last/matmul", PointKind.INPUT, 0), "max")]
    with pytest.raises(Exception, match="no such sample") as caught:
        run(config({}), CASE.model(), dataset=nncf.Dataset(broken()))
    assert "scale" not in str(caught.value)
