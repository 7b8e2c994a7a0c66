"""Which weight or other constant makes activations infinite, or not a number."""

from __future__ import annotations

import numpy as np
import pytest

from nncf_core.errors import NotFiniteError, ValidationError
from nncf_core.graph import Constant, Graph, Node, OpKind, Port, WeightLayout
from nncf_core.not_finite import bad_weight, origin_told


def graph(weight: float = 0.0, mask: float = 0.0) -> Graph:
    """A layer and a mask behind it, each with one number that is given."""
    values = {"w": np.ones((4, 3), np.float32), "mask": np.zeros((2, 3), np.float32)}
    values["w"][2, 1], values["mask"][1, 2] = weight, mask
    nodes = [
        Node(
            "layer", "MatMul", OpKind.MATMUL,
            (Port("x"), Port("w", constant="w", layout=WeightLayout((0,), (1,)))), (Port("a"),),
        ),
        Node("add", "Add", OpKind.ADD, (Port("a"), Port("mask", constant="mask")), (Port("y"),)),
    ]  # fmt: skip
    constants = {
        name: Constant(name, "float32", array.shape, lambda array=array: array) for name, array in values.items()
    }
    return Graph("tests", nodes, constants)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, None),
        ({"mask": -np.inf}, None),
        ({"weight": np.nan, "mask": np.nan}, r"'w' has the value nan at \[2, 1\]"),
        ({"weight": -np.inf}, r"'w' has the value -inf at \[2, 1\]"),
        ({"mask": np.nan}, r"'mask' has the value nan at \[1, 2\]"),
    ],
)
def test_constants(given: dict[str, float], message: str | None) -> None:
    error = bad_weight(graph(**given))
    if message is None:
        assert error is None
    else:
        with pytest.raises(ValidationError, match=message):
            raise error or AssertionError


def test_without_an_origin_the_error_stays_as_it_is() -> None:
    error = NotFiniteError("It is infinite.")
    items = [{"x": np.ones(2, np.float32), "more": "text"}, np.arange(3), None]
    with pytest.raises(NotFiniteError) as caught, origin_told(graph(mask=-np.inf), lambda: items):
        raise error
    assert caught.value is error


def test_items_of_several_inputs() -> None:
    items = [(np.ones(2), np.ones(2)), [np.ones(2), np.array([1, np.inf])]]
    with (
        pytest.raises(NotFiniteError, match=r"^Item 1 of the dataset holds infinite numbers; correct it.*It is inf"),
        origin_told(graph(), lambda: items),
    ):
        raise NotFiniteError("It is infinite.")
