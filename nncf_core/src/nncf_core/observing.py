"""What is looked at in a run besides its plan, for those who ask: times, what rounding loses, and ranges."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator

import numpy as np
from attrs import Factory, define, frozen

from nncf_core.damage import Damage, measured
from nncf_core.graph import Graph
from nncf_core.numerics.kernels import decompress
from nncf_core.numerics.tensor import CompressedTensor
from nncf_core.transformations import CompressConstant, InsertQuantizer, ReplaceConstant, Transformation

_VALUES = 4096
"""Numbers of a constant that are kept."""


@frozen
class Range:
    """What a quantizer of activations can represent.

    :param target: the point that it was inserted at.
    :param format: its number format.
    :param channels: how many ranges it has; 1: one for the whole tensor.
    :param low: the smallest number; of several ranges the smallest of all.
    :param high: the largest number, likewise.
    """

    target: str
    format: str
    channels: int
    low: float
    high: float

    @classmethod
    def of(cls, edit: InsertQuantizer) -> Range:
        """The range of a quantizer."""
        quantizer = edit.quantizer
        low, high = quantizer.low, quantizer.high
        return cls(str(edit.target), quantizer.format, int(np.size(low)), float(np.min(low)), float(np.max(high)))


@frozen(eq=False)
class Values:
    """Some of the numbers of a tensor.

    :param shape: of the tensor.
    :param numbers: evenly spaced over the tensor in row-major order, float32.
    """

    shape: tuple[int, ...]
    numbers: np.ndarray

    @classmethod
    def of(cls, array: np.ndarray) -> Values:
        """Those of an array."""
        # an odd distance meets all columns of a matrix
        return cls(array.shape, array.reshape(-1)[:: max(array.size // _VALUES, 1) | 1].copy())

    @property
    def largest(self) -> float:
        """The largest magnitude."""
        return float(np.abs(self.numbers).max(initial=0.0))

    def distance(self, array: np.ndarray) -> float:
        """How far an array is off at most, as it is or with its last two axes exchanged: some models store it so."""
        ways = [array] if array.ndim < 2 else [array, array.swapaxes(-1, -2)]
        found = [Values.of(way) for way in ways if way.shape == self.shape]
        return min((float(np.abs(each.numbers - self.numbers).max(initial=0.0)) for each in found), default=np.inf)


@define
class Observation:
    """Notes about a run.

    :param measures: whether it is measured what rounding does to weights, which takes about as long as rounding.
    :param verifies: whether what is needed to verify the model is kept.
    :param damages: one for each weight that was compressed, in order.
    :param ranges: one for each quantizer of activations, in order.
    :param seconds: how long steps took, by what they are.
    :param stored: some of the numbers that compressed constants stand for, by their names.
    :param quantizers: the edits that inserted them.
    :param rewrites: edits of other kinds, such as factors and biases.
    """

    measures: bool = True
    verifies: bool = False
    damages: list[Damage] = Factory(list)
    ranges: list[Range] = Factory(list)
    seconds: dict[str, float] = Factory(dict)
    stored: dict[str, Values] = Factory(dict)
    quantizers: list[InsertQuantizer] = Factory(list)
    rewrites: int = 0
    _last: float = Factory(time.perf_counter)

    def lap(self, step: str) -> None:
        """Say what has been done since the last time, or since the beginning."""
        now = time.perf_counter()
        self.seconds[step] = self.seconds.get(step, 0.0) + now - self._last
        self._last = now

    def passing(self, edits: Iterable[Transformation], graph: Graph) -> Iterator[Transformation]:
        """Let edits pass, and look at them."""
        for edit in measured(edits, graph, self.damages) if self.measures else edits:
            if isinstance(edit, InsertQuantizer):
                self.ranges.append(Range.of(edit))
                self.quantizers.append(edit)
            elif isinstance(edit, CompressConstant):
                if self.verifies:
                    self.stored[edit.constant] = values_of(edit.tensor.on_host())
            else:
                self.rewrites += 1
                if isinstance(edit, ReplaceConstant):
                    self.stored.pop(edit.constant, None)
            yield edit


def values_of(tensor: CompressedTensor) -> Values:
    """Some of the numbers that codes stand for."""
    return Values.of(decompress(tensor, np.float32))
