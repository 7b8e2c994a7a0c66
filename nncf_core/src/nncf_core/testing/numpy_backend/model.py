"""The toy framework: models as lists of operators, and what it means to run them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

import numpy as np
from attrs import define, field, frozen

from nncf_core.errors import UnsupportedDatasetError, UnsupportedModelError
from nncf_core.numerics.kernels import decompress
from nncf_core.numerics.quantizer import FLOAT8, Quantizer
from nncf_core.numerics.tensor import CompressedTensor

Stored: TypeAlias = "np.ndarray | CompressedTensor"


@frozen
class Input:
    """What a model takes: ``None`` stands for a dimension of any size."""

    dtype: str
    shape: tuple[int | None, ...]


@frozen
class Operation:
    """One operator with one output.

    :param name: unique in the model.
    :param type: a key of :data:`OPERATORS`.
    :param inputs: names of inputs, constants, and outputs of earlier operations.
    :param output: name of the tensor that it makes.
    :param transpose_b: of a ``MatMul``: the second operand has its last two axes swapped.
    :param axis: of a ``Quantize``: the axis along which scales differ.
    """

    name: str
    type: str
    inputs: tuple[str, ...]
    output: str
    transpose_b: bool = False
    axis: int | None = None


@define(eq=False)
class NumpyModel:
    """A model. Constants may be compressed; they are decompressed whenever they are used.

    :param inputs: by name.
    :param operations: in the order in which they run.
    :param constants: by name.
    :param outputs: names of tensors.
    """

    inputs: dict[str, Input]
    operations: list[Operation]
    constants: dict[str, Stored] = field(factory=dict)
    outputs: list[str] = field(factory=list)

    def copy(self) -> NumpyModel:
        """A model that may be changed on its own; arrays, which nobody writes to, are shared."""
        return NumpyModel(dict(self.inputs), list(self.operations), dict(self.constants), list(self.outputs))

    def constant(self, name: str) -> np.ndarray:
        """The values of a constant."""
        stored = self.constants[name]
        return decompress(stored) if isinstance(stored, CompressedTensor) else stored

    def run(self, feed: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Outputs by name.

        :raises UnsupportedDatasetError: when the feed does not fit the inputs.
        """
        tensors = {name: self._given(feed, name, spec) for name, spec in self.inputs.items()}
        for operation in self.operations:
            operands = [tensors[n] if n in tensors else self.constant(n) for n in operation.inputs]
            tensors[operation.output] = OPERATORS[operation.type](operation, *operands)
        return {name: tensors[name] for name in self.outputs}

    def _given(self, feed: Mapping[str, np.ndarray], name: str, spec: Input) -> np.ndarray:
        if not isinstance(feed, Mapping) or set(feed) != set(self.inputs):
            given = sorted(feed) if isinstance(feed, Mapping) else type(feed).__name__
            raise UnsupportedDatasetError(f"The model takes arrays by name, {sorted(self.inputs)}; given: {given}.")
        array = np.asarray(feed[name])
        fits = len(spec.shape) == array.ndim and all(
            want in (None, have) for want, have in zip(spec.shape, array.shape, strict=True)
        )
        if array.dtype.name != spec.dtype or not fits:
            raise UnsupportedDatasetError(
                f"Input {name!r} takes {spec.dtype} of shape {spec.shape}; given: {array.dtype.name} of {array.shape}."
            )
        return array

    def check(self) -> None:
        """See that every tensor is made once, before it is used.

        :raises UnsupportedModelError: when not.
        """
        known = [*self.inputs, *self.constants]
        for operation in self.operations:
            if operation.type not in OPERATORS:
                raise UnsupportedModelError(f"Operation {operation.name!r} is of the unknown type {operation.type!r}.")
            for tensor in operation.inputs:
                if tensor not in known:
                    raise UnsupportedModelError(
                        f"Operation {operation.name!r} uses {tensor!r}, which is not made before."
                    )
            known.append(operation.output)
        twice = {name for name in known if known.count(name) > 1}
        missing = set(self.outputs) - set(known)
        if twice or missing:
            raise UnsupportedModelError(f"Tensors made twice: {sorted(twice)}; outputs not made: {sorted(missing)}.")


def _matmul(operation: Operation, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    second = b.swapaxes(-1, -2) if operation.transpose_b else b
    product: np.ndarray = np.matmul(a.astype(np.float32), second.astype(np.float32))
    return product.astype(a.dtype)


def _quantize(
    operation: Operation, x: np.ndarray, scale: np.ndarray, zero_point: np.ndarray, ends: np.ndarray
) -> np.ndarray:
    lo, hi = (int(n) for n in ends)
    float8 = next((name for name, dtype in FLOAT8.items() if dtype == ends.dtype), None)
    return Quantizer(scale, zero_point, lo, hi, operation.axis, float8).apply(x)


OPERATORS: Mapping[str, Callable[..., np.ndarray]] = {
    "Embedding": lambda _, table, indices: table[indices],
    "MatMul": _matmul,
    "Add": lambda _, a, b: np.add(a, b).astype(a.dtype),
    "Multiply": lambda _, a, b: np.multiply(a, b).astype(a.dtype),
    "Threshold": lambda _, x, limit: np.where(np.abs(x) > limit, x, 0).astype(x.dtype),
    "Relu": lambda _, x: np.maximum(x, np.zeros((), x.dtype)),
    "Identity": lambda _, x: x,
    "Quantize": _quantize,
}
"""What each type of operator computes."""
