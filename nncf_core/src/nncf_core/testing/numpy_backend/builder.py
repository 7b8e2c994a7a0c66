"""Opens, describes, gives back and saves the toy framework's models."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from nncf_core.errors import UnsupportedModelError
from nncf_core.graph import Constant, Graph, Node, OpKind, Port, WeightLayout
from nncf_core.numerics.tensor import CompressedTensor
from nncf_core.testing.numpy_backend.model import NumpyModel, Operation, Stored
from nncf_core.testing.numpy_backend.storage import read_model, write_model

_KINDS: Mapping[str, OpKind] = {
    "Embedding": OpKind.EMBEDDING,
    "MatMul": OpKind.MATMUL,
    "Add": OpKind.ADD,
    "Multiply": OpKind.MULTIPLY,
    "Relu": OpKind.RELU,
    "Identity": OpKind.SHAPE_ONLY,
    "Quantize": OpKind.QUANTIZE,
}


class NumpyGraphBuilder:
    """Reads :class:`~nncf_core.testing.numpy_backend.NumpyModel` and ``.npmodel`` files."""

    framework: ClassVar[str] = "numpy"
    title: ClassVar[str] = "NumPy"
    suffixes: ClassVar[tuple[str, ...]] = (".npmodel",)

    def accepts(self, model: object) -> bool:
        """Whether this is a model of the toy framework."""
        return isinstance(model, NumpyModel)

    def open(self, source: NumpyModel | Path | str, options: Mapping[str, Any]) -> NumpyModel:
        """The working model; it shares the arrays of the source."""
        model = read_model(Path(source)) if isinstance(source, (str, Path)) else source.copy()
        model.check()
        return model

    def build(self, model: NumpyModel) -> Graph:
        """The graph.

        :raises UnsupportedModelError: when shapes do not fit.
        """
        model.check()
        ports = {name: Port(name, spec.dtype, spec.shape) for name, spec in model.inputs.items()}
        ports |= {name: _constant_port(name, stored) for name, stored in model.constants.items()}
        nodes = []
        for operation in model.operations:
            inputs = tuple(_with_layout(operation, i, ports[name]) for i, name in enumerate(operation.inputs))
            ports[operation.output] = _output(operation, inputs)
            attributes = {"transpose_b": True} if operation.transpose_b else {}
            kind = _KINDS[operation.type]
            nodes.append(
                Node(operation.name, operation.type, kind, inputs, (ports[operation.output],), attributes=attributes)
            )
        constants = {name: _constant(name, stored) for name, stored in model.constants.items()}
        return Graph(self.framework, nodes, constants, outputs=frozenset(model.outputs))

    def export(self, model: NumpyModel, source: NumpyModel | Path | str) -> NumpyModel:
        """The working model itself."""
        return model

    def save(self, model: NumpyModel, path: Path) -> None:
        """Write a file."""
        write_model(model, Path(path))


def _constant(name: str, stored: Stored) -> Constant:
    if isinstance(stored, CompressedTensor):
        from nncf_core.numerics.kernels import decompress

        return Constant(
            name,
            stored.dtype,
            stored.shape,
            lambda: decompress(stored),
            stored_bytes=stored.nbytes,
            compressed=lambda: stored,
            compressed_format=stored.format.name,
            granularity="per channel" if stored.group_size == -1 else f"group size {stored.group_size}",
        )
    view = stored.view()
    view.flags.writeable = False
    return Constant(name, stored.dtype.name, stored.shape, lambda: view, stored_bytes=stored.nbytes)


def _constant_port(name: str, stored: Stored) -> Port:
    dtype = stored.dtype if isinstance(stored, CompressedTensor) else stored.dtype.name
    return Port(name, dtype, stored.shape, constant=name)


def _with_layout(operation: Operation, index: int, port: Port) -> Port:
    layout = None
    if port.constant is not None and port.shape is not None:
        layout = _layout(operation, index, len(port.shape))
    return Port(port.tensor, port.dtype, port.shape, port.constant, layout)


def _layout(operation: Operation, index: int, rank: int) -> WeightLayout | None:
    if operation.type == "Embedding" and index == 0:
        return WeightLayout(tuple(range(1, rank)), (0,))
    if operation.type == "MatMul" and rank >= 2:
        rows_are_summed = index == 1 and not operation.transpose_b
        summed, kept = (rank - 2, rank - 1) if rows_are_summed else (rank - 1, rank - 2)
        return WeightLayout((summed,), (kept,), tuple(range(rank - 2)))
    return None


def _output(operation: Operation, inputs: tuple[Port, ...]) -> Port:
    shapes = [port.shape for port in inputs]
    first, shape = shapes[0], shapes[0]
    second = shapes[1] if len(shapes) > 1 else None
    assert first is not None
    if operation.type == "Embedding":
        assert second is not None
        shape = (*second, *first[1:])
    elif second is not None and operation.type == "MatMul":
        rows = second[-1] if operation.transpose_b else second[-2]
        if None not in (first[-1], rows) and first[-1] != rows:
            raise UnsupportedModelError(f"Operation {operation.name!r} cannot multiply shapes {first} and {second}.")
        shape = (
            *_broadcast(operation, first[:-2], second[:-2]),
            first[-2],
            second[-2 if operation.transpose_b else -1],
        )
    elif second is not None and operation.type != "Quantize":
        shape = _broadcast(operation, first, second)
    return Port(operation.output, inputs[0].dtype, shape)


def _broadcast(operation: Operation, a: tuple[int | None, ...], b: tuple[int | None, ...]) -> tuple[int | None, ...]:
    rank = max(len(a), len(b))
    pairs = zip((1,) * (rank - len(a)) + a, (1,) * (rank - len(b)) + b, strict=True)
    result: list[int | None] = []
    for x, y in pairs:
        if None not in (x, y) and x != y and 1 not in (x, y):
            raise UnsupportedModelError(f"Operation {operation.name!r} cannot combine shapes {a} and {b}.")
        result.append(y if x == 1 else x)
    return tuple(result)


def array_of(value: np.ndarray, like: Stored) -> np.ndarray:
    """New values of a constant, in its own element type."""
    dtype = np.dtype(like.dtype) if isinstance(like, CompressedTensor) else like.dtype
    return np.ascontiguousarray(value).astype(dtype)
