"""What is looked at in a run besides its plan, for those who ask: times, what rounding loses, and ranges."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from attrs import Factory, define, frozen

from nncf_core.damage import Damage, measured
from nncf_core.demands import Demands
from nncf_core.graph import Graph
from nncf_core.transformations import CompressConstant, InsertQuantizer, Transformation


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


@define
class Observation:
    """Notes about a run.

    :param measures: whether it is measured what rounding does to weights, which takes about as long as rounding.
    :param verifies: whether what is needed to verify the model is kept.
    :param damages: one for each weight that was compressed, in order.
    :param ranges: one for each quantizer of activations, in order.
    :param seconds: how long steps took, by what they are.
    :param demands: what constants are to be.
    :param options: the backend's own options.
    :param prepared: whether the model was prepared for quantizers before the first edit.
    :param quantizers: the edits that inserted them.
    :param rewrites: edits of other kinds, such as factors and biases.
    """

    measures: bool = True
    verifies: bool = False
    damages: list[Damage] = Factory(list)
    ranges: list[Range] = Factory(list)
    seconds: dict[str, float] = Factory(dict)
    demands: Demands = Factory(Demands)
    options: Mapping[str, Any] = Factory(dict)
    prepared: bool = False
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
        self.demands.begin(graph)
        for edit in measured(edits, graph, self.damages) if self.measures else edits:
            if self.verifies:
                self.demands.take(edit, graph)
            if isinstance(edit, InsertQuantizer):
                self.ranges.append(Range.of(edit))
                self.quantizers.append(edit)
            elif not isinstance(edit, CompressConstant):
                self.rewrites += 1
            yield edit
