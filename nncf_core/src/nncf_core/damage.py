"""What rounding does to each weight, measured while edits pass: for reports, and for those who ask."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import numpy as np
from attrs import frozen

from nncf_core.graph import Graph
from nncf_core.numerics.arrays import to_host
from nncf_core.numerics.kernels import decompress
from nncf_core.transformations import CompressConstant, Transformation

BINS = 48
"""Bars of a histogram."""


@frozen
class Damage:
    """What became of a weight.

    :param target: name of the constant.
    :param users: names of the nodes that use it.
    :param snr: signal-to-noise ratio, ``10·log10(Σ w² / Σ (w − ŵ)²)``, in dB; infinite where nothing is lost.
    :param low: the least value before.
    :param high: the largest value before.
    :param before: how many values lie in each of :data:`BINS` equal parts from ``low`` to ``high``.
    :param after: the same of what the codes stand for; what lies outside counts for the part at the end.
    """

    target: str
    users: tuple[str, ...]
    snr: float
    low: float
    high: float
    before: tuple[int, ...]
    after: tuple[int, ...]


def measured(edits: Iterable[Transformation], graph: Graph, found: list[Damage]) -> Iterator[Transformation]:
    """Let edits pass, and append what each compression does to its weight."""
    for edit in edits:
        if isinstance(edit, CompressConstant):
            found.append(_damage(edit, graph))
        yield edit


def _damage(edit: CompressConstant, graph: Graph) -> Damage:
    constant = graph.constants[edit.constant]
    before = to_host(constant.array()).astype(np.float32, copy=False)
    after = decompress(edit.tensor.on_host(), np.float32)
    low, high = float(before.min()), float(before.max())
    signal = float(np.einsum("i,i->", before.reshape(-1), before.reshape(-1), dtype=np.float64))
    lost = (before - after).reshape(-1)
    noise = float(np.einsum("i,i->", lost, lost, dtype=np.float64))
    users = tuple(dict.fromkeys(node.name for node, _ in graph.users(constant.name)))
    result = Damage(
        constant.name,
        users,
        math.inf if noise == 0 else 10 * math.log10(max(signal, 1e-300) / noise),
        low,
        high,
        _histogram(before, low, high),
        _histogram(after, low, high),
    )
    constant.release()
    return result


def _histogram(values: np.ndarray, low: float, high: float) -> tuple[int, ...]:
    ends = (low, high) if low < high else (low - 0.5, low + 0.5)
    counts, _ = np.histogram(values.clip(*ends), BINS, ends)
    return tuple(int(count) for count in counts)
