"""Inputs for a model of which nobody gave any: random numbers within what the graph allows."""

from __future__ import annotations

from collections.abc import Mapping

import ml_dtypes  # noqa: F401 - registers the low-bit dtypes' names with numpy
import numpy as np

from nncf_core.graph import Graph, OpKind, Port
from nncf_core.running import feeds_of

_LENGTH = 8
"""Elements along an axis whose length is free: tokens of a sequence, for instance."""

_SIDE = 64
"""Pixels along an axis whose length is free, of inputs of four axes."""


def made_inputs(graph: Graph) -> dict[str, np.ndarray] | None:
    """An array for each input of a model, always the same; ``None`` where nothing is known of the rank of one.

    Free axes have one sample and 8 tokens, or 64 × 64 pixels; what a model remembers is empty. Integers that rows of a
    table are taken by are random numbers of rows, masks are ones, positions count from 0, other integers are 0.
    Floating-point numbers are normal.

    :return: by the names under which models of the framework are fed.
    """
    rows = _rows(graph)
    generator = np.random.default_rng(0)
    made = {}
    for name, port in feeds_of(graph).items():
        if port.shape is None or port.dtype is None:
            return None
        made[name] = _made(name.lower(), port, rows.get(port.tensor), generator)
    return made


def _made(name: str, port: Port, rows: int | None, generator: np.random.Generator) -> np.ndarray:
    assert port.shape is not None
    shape = _shape(name, port.shape)
    dtype = np.dtype(port.dtype)
    if "mask" in name or dtype == np.bool_:
        return np.ones(shape, dtype)
    if "position" in name and dtype.kind in "iu":
        return np.broadcast_to(np.arange(shape[-1] if shape else 1), shape).astype(dtype)
    if dtype.kind in "iu":
        return generator.integers(0, rows, shape).astype(dtype) if rows else np.zeros(shape, dtype)
    return generator.standard_normal(shape).astype(dtype)


def _shape(name: str, shape: tuple[int | None, ...]) -> tuple[int, ...]:
    free = 0 if "past" in name else _SIDE if len(shape) == 4 else _LENGTH
    return tuple(size if size is not None else 1 if axis == 0 else free for axis, size in enumerate(shape))


def _rows(graph: Graph) -> Mapping[str, int]:
    """For each input that reaches the indices of a table: rows of the smallest table."""
    found: dict[str, int] = {}
    for node in graph.of_kind({OpKind.EMBEDDING}):
        tables = [(graph.constants[port.constant], port.layout) for _, port in node.weights if port.constant]
        sizes = [
            constant.shape[layout.channel_axes[0]] for constant, layout in tables if layout and layout.channel_axes
        ]
        waiting = [port.tensor for port in node.inputs if port.constant is None]
        seen: set[str] = set()
        while waiting:
            tensor = waiting.pop()
            if tensor in seen or not tensor:
                continue
            seen.add(tensor)
            found[tensor] = min([*sizes, found.get(tensor, sizes[0] if sizes else 1)])
            producer = graph.producer(tensor)
            if producer is not None and producer.kind is not OpKind.EMBEDDING:
                waiting += [port.tensor for port in producer.inputs if port.constant is None]
    return found
