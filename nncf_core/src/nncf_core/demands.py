"""What edits demand of the constants of a model, kept as digests, and whether a written model holds it bit for bit.

A digest takes 16 bytes, and a constant is let go before the next is read: no model is held twice.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
from attrs import Factory, define, evolve, frozen

from nncf_core.graph import Constant, Graph
from nncf_core.numerics.arrays import to_host
from nncf_core.numerics.formats import FORMATS, NumberFormat
from nncf_core.numerics.packing import pack, unpack
from nncf_core.numerics.tensor import CompressedTensor
from nncf_core.transformations import (
    Adapter,
    CompressConstant,
    FoldMask,
    InsertBias,
    InsertLowRank,
    InsertMask,
    InsertMultiply,
    ReplaceConstant,
    ResizeOutput,
    ShrinkConstant,
    Transformation,
)

_INSERTED = ("float32", "float16", "bfloat16", "float64")
"""Element types that backends cast inserted numbers to: that of the tensor they meet."""


def digest(array: np.ndarray) -> bytes:
    """Of the bytes of an array, in C order."""
    flat = np.ascontiguousarray(array).reshape(-1)
    return hashlib.blake2b(flat.view(np.uint8).data, digest_size=16).digest()


@frozen
class Codes:
    """The compressed form that a constant is to have.

    :param format: number format of the codes.
    :param shape: of what the codes stand for.
    :param scale_shape: of the scales, and of the zero points.
    :param global_scale: the factor of the whole tensor, 1 where there is none.
    :param parts: digests of codes, scales (as float32), zero points and table, by what they are.
    """

    format: NumberFormat
    shape: tuple[int, ...]
    scale_shape: tuple[int, ...]
    global_scale: float
    parts: Mapping[str, bytes]

    @classmethod
    def of(cls, tensor: CompressedTensor) -> Codes:
        """Of a tensor in the memory of the host."""
        factor = 1.0 if tensor.global_scale is None else float(np.float32(tensor.global_scale))
        parts = {name: digest(array) for name, array in _parts(tensor).items()}
        return cls(tensor.format, tuple(tensor.shape), tuple(tensor.scale.shape), factor, parts)

    def fault(self, tensor: CompressedTensor) -> str | None:
        """In what a tensor that was read back differs; ``None``: in nothing.

        Backends may exchange the last two axes, store signed codes as unsigned ones with the zero point in the middle,
        and give every row a scale where one serves them all.
        """
        ways = [tensor] if len(tensor.shape) < 2 else [tensor, _transposed(tensor)]
        fitting = [way for way in ways if tuple(way.shape) == self.shape]
        faults = [self._fault(way) for way in fitting] or [f"the shape {tensor.shape} in place of {self.shape}"]
        return None if None in faults else faults[0]

    def _fault(self, tensor: CompressedTensor) -> str | None:
        found = _in_format(tensor, self.format)
        if found is None:
            return f"codes in {tensor.format.name}, not in {self.format.name}"
        factor = 1.0 if found.global_scale is None else float(np.float32(found.global_scale))
        if factor != self.global_scale:
            return f"the global scale {factor:.9g} in place of {self.global_scale:.9g}"
        scale, points = _spread(found.scale, self.scale_shape), found.zero_point
        points = None if points is None else _spread(points, self.scale_shape)
        if scale is None or (points is None and found.zero_point is not None):
            return f"scales or zero points of the shape {found.scale.shape} in place of {self.scale_shape}"
        parts = _parts(evolve(found, scale=scale, zero_point=points))
        other = [name for name in self.parts.keys() | parts.keys() if not self._holds(name, parts.get(name))]
        return f"other {' and '.join(sorted(other))}" if other else None

    def _holds(self, name: str, array: np.ndarray | None) -> bool:
        return array is not None and self.parts.get(name) == digest(array)


def _parts(tensor: CompressedTensor) -> dict[str, np.ndarray]:
    parts = {"codes": tensor.codes, "scales": tensor.scale.astype(np.float32)}
    if tensor.zero_point is not None:
        parts["zero points"] = tensor.zero_point.astype(np.uint8)
    if tensor.codebook is not None:
        parts["table"] = tensor.codebook.astype(np.float32)
    return parts


def _unpacked(tensor: CompressedTensor) -> np.ndarray:
    return unpack(tensor.codes, tensor.format.bits, tensor.size, signed=False).reshape(tensor.shape)


def _transposed(tensor: CompressedTensor) -> CompressedTensor:
    """With its last two axes exchanged."""
    points = tensor.zero_point
    return evolve(
        tensor,
        shape=(*tensor.shape[:-2], tensor.shape[-1], tensor.shape[-2]),
        codes=pack(_unpacked(tensor).swapaxes(-1, -2), tensor.format.bits),
        scale=tensor.scale.swapaxes(-1, -2),
        zero_point=None if points is None else points.swapaxes(-1, -2),
    )


def _in_format(tensor: CompressedTensor, wanted: NumberFormat) -> CompressedTensor | None:
    """The same numbers in a format that differs in the sign alone; ``None``: these are others."""
    own = tensor.format
    if own.name == wanted.name:
        return tensor
    if not (own.family == wanted.family == "integer" and own.bits == wanted.bits):
        return None
    middle = np.uint8(1 << (own.bits - 1))
    points = np.full(tensor.scale.shape, middle) if tensor.zero_point is None else tensor.zero_point
    if wanted.signed and not (points == middle).all():
        return None
    codes = pack(_unpacked(tensor) ^ middle, own.bits)
    return evolve(tensor, format=FORMATS[wanted.name], codes=codes, zero_point=None if wanted.signed else points)


def _spread(values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray | None:
    """Scales in another shape; ``None`` where that would be other scales."""
    if values.shape == shape:
        return values
    if values.size == np.prod(shape, dtype=np.int64):
        return values.reshape(shape)
    if values.ndim != len(shape):
        return None
    first = values[tuple(slice(0, 1) if size == 1 else slice(None) for size in shape)]
    try:
        same = np.array_equal(np.broadcast_to(first, values.shape), values)
        return np.broadcast_to(first, shape) if same else None
    except ValueError:
        return None


@frozen
class Numbers:
    """The floating-point numbers that a constant is to have.

    :param digests: by names of element types, of what the numbers are once they are cast.
    """

    shape: tuple[int, ...]
    digests: Mapping[str, frozenset[bytes]]

    @classmethod
    def of(cls, value: np.ndarray, dtypes: Sequence[str]) -> Numbers:
        """Of numbers that are cast to one of some types."""
        found = {}
        with np.errstate(over="ignore"):
            for name in dtypes:
                dtype = np.dtype(name)
                # doubles become narrow in one step, or through float32
                ways = (value.astype(dtype), value.astype(np.float32).astype(dtype))
                found[name] = frozenset(map(digest, ways))
        return cls(tuple(value.shape), found)

    def fault(self, array: np.ndarray) -> str | None:
        """In what numbers that were read back differ; ``None``: in nothing. Axes of length 1 do not count."""
        if [size for size in array.shape if size != 1] != [size for size in self.shape if size != 1]:
            return f"the shape {array.shape} in place of {self.shape}"
        if array.dtype.name not in self.digests:
            return f"{array.dtype.name} in place of {' or '.join(self.digests)}"
        return None if digest(array) in self.digests[array.dtype.name] else "other numbers"


@frozen
class Inserted:
    """Numbers that an edit puts beside a node, in a constant whose name is the backend's.

    :param what: the edit, for people.
    """

    what: str
    numbers: Numbers | Codes

    def is_in(self, constant: Constant) -> bool:
        """Whether a constant holds them."""
        if isinstance(self.numbers, Codes):
            return constant.compressed is not None and self.numbers.fault(constant.compressed()) is None
        if constant.compressed is not None or constant.dtype not in self.numbers.digests:
            return False
        size = np.prod(self.numbers.shape, dtype=np.int64)
        if constant.size != size:
            return False
        ways = [constant.read()]
        ways += [way.T for way in ways if way.ndim == 2]
        found = any(self.numbers.fault(way) is None for way in ways)
        constant.release()
        return found


@define
class Demands:
    """What the edits of a run demand, of each constant the last of them.

    :param constants: by name.
    :param inserted: of constants that the edits bring.
    :param example: the first edit that brings one.
    :param shrunk: axes and the indices that are kept, of constants that are otherwise the original's.
    :param open: names of constants of which nothing can be told, such as masked ones.
    :param resized: whether sizes in the model change, which lie in constants of integers.
    :param users: names of the constants before the first edit, by what takes them. What prepares a model for quantizers
        may give it constants whose names differ each time.
    """

    constants: dict[str, Codes | Numbers] = Factory(dict)
    inserted: list[Inserted] = Factory(list)
    example: Transformation | None = None
    shrunk: dict[str, list[tuple[int, tuple[int, ...]]]] = Factory(dict)
    open: set[str] = Factory(set)
    resized: bool = False
    users: dict[tuple[str, int], str] = Factory(dict)

    def begin(self, graph: Graph) -> None:
        """Take the model before edits into account; only the first counts."""
        self.users = self.users or users_of(graph)

    @property
    def compresses(self) -> bool:
        """Whether there are codes among them."""
        return any(isinstance(demand, Codes) for demand in self.constants.values())

    def take(self, edit: Transformation, graph: Graph) -> None:
        """Take an edit into account.

        :param graph: the model before it.
        """
        if isinstance(edit, (CompressConstant, ReplaceConstant)):
            self._forget(edit.constant, graph)
            if isinstance(edit, CompressConstant):
                self.constants[edit.constant] = Codes.of(edit.tensor.on_host())
            else:
                dtype = graph.constants[edit.constant].dtype
                self.constants[edit.constant] = Numbers.of(to_host(edit.value), (dtype,))
        elif isinstance(edit, ShrinkConstant):
            if edit.constant in self.constants or graph.constants[edit.constant].compressed is not None:
                self.constants.pop(edit.constant, None)
                self.open.add(edit.constant)
            self.shrunk.setdefault(edit.constant, []).append((edit.axis, edit.kept))
        elif isinstance(edit, (InsertMask, FoldMask)):
            self.constants.pop(edit.constant, None)
            self.open.add(edit.constant)
        elif isinstance(edit, ResizeOutput):
            self.resized = True
        else:
            brought = inserted_by(edit)
            self.inserted += brought
            if brought and self.example is None:
                self.example = edit

    def _forget(self, name: str, graph: Graph) -> None:
        """What a constant was to be; one that an earlier round inserted is looked for no more."""
        self.open.discard(name)
        self.shrunk.pop(name, None)
        old = graph.constants[name]
        if self.inserted and self.constants.pop(name, None) is None:
            for each in self.inserted:
                if each.is_in(old):
                    self.inserted.remove(each)
                    break


def users_of(graph: Graph) -> dict[tuple[str, int], str]:
    """Names of constants by the node and the input that take them."""
    return {
        (node.name, index): port.constant for node in graph for index, port in enumerate(node.inputs) if port.constant
    }


def inserted_by(edit: Transformation) -> list[Inserted]:
    """What an edit puts beside a node."""
    if isinstance(edit, InsertBias):
        return [Inserted(f"the bias of the layer {edit.node!r}", _numbers(edit.value))]
    if isinstance(edit, InsertMultiply):
        return [Inserted(f"the factor at {edit.target}", _numbers(edit.factor))]
    if isinstance(edit, InsertLowRank):
        what = f"a matrix of the branch beside {edit.constant!r}"
        return [Inserted(what, _numbers(adapter)) for adapter in (edit.down, edit.up)]
    return []


def _numbers(value: Adapter) -> Numbers | Codes:
    if isinstance(value, CompressedTensor):
        return Codes.of(value.on_host())
    return Numbers.of(to_host(value), _INSERTED)
