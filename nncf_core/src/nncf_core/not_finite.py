"""Where activations that are not finite come from: a weight of the model, or an item of the dataset."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from nncf_core.errors import NotFiniteError, ValidationError
from nncf_core.graph import Graph
from nncf_core.numerics.arrays import all_finite
from nncf_core.numerics.blocks import bad_element, bad_position


@contextmanager
def origin_told(graph: Graph, items: Callable[[], Iterable[Any]]) -> Iterator[None]:
    """Let errors of activations that are not finite name the weight or the item that makes them so.

    :param graph: of the model that gave them; its weights are read only where there is such an error.
    :param items: gives the items of the dataset once more.
    :raises NotFiniteError: with what is known in place of the error.
    """
    try:
        yield
    except NotFiniteError as error:
        found = bad_weight(graph)
        if found is not None:
            raise found from error
        told = _infinite_item(graph, items())
        if told is None:
            raise
        raise NotFiniteError(f"{told}; correct it, or leave the item out. {error}") from error


def bad_weight(graph: Graph) -> ValidationError | None:
    """The error for the first weight that is not finite, or other constant that holds NaN; ``None``: there is none.

    Infinities of other constants may be meant, as in a mask.
    """
    for constant in graph.constants.values():
        users = graph.users(constant.name) if constant.is_float else ()
        if not users:
            continue
        values = np.asarray(constant.read())
        is_weight = any(node.inputs[port].layout is not None for node, port in users)
        if bad_position(values) is not None and (is_weight or np.isnan(values.astype(np.float32)).any()):
            return bad_element(values, constant.name)
        constant.release()
    return None


def _infinite_item(graph: Graph, items: Iterable[Any]) -> str | None:
    """The first item that holds an infinite number, and its input, for people."""
    taken = dict.fromkeys(port.tensor for node in graph for port in node.inputs if port.constant is None)
    names = [name for name in taken if name and graph.producer(name) is None]
    for index, item in enumerate(items):
        for name, array in _arrays(item, names):
            if not all_finite(array):
                where = f" in the input {name!r}" if name else ""
                return f"Item {index} of the dataset holds infinite numbers{where}"
    return None


def _arrays(item: Any, names: list[str]) -> Iterator[tuple[str, Any]]:
    """The arrays of numbers of an item, with the names of their inputs as far as they are known."""
    if isinstance(item, Mapping):
        given = [(str(name), value) for name, value in item.items()]
    elif isinstance(item, (tuple, list)):
        given = list(zip(names if len(names) == len(item) else [""] * len(item), item, strict=True))
    else:
        given = [(names[0] if len(names) == 1 else "", item)]
    for name, value in given:
        if isinstance(value, np.ndarray) and value.dtype.kind not in "fV":
            continue
        if hasattr(value, "dtype") and hasattr(value, "shape"):
            yield name, value
