"""Even ranges before quantization, by factors that cost nothing (NNCF's SmoothQuant and channel alignment).

A tensor of activations gets one scale, however different its channels are. Where what gives the tensor and all that
take it hold constants for each channel, factors can move from one side to the other: ``x·W = (x/s)·(s·W)``. That is
cross-layer equalization (Nagel et al. 2019, https://arxiv.org/abs/1906.04721, section 4.1) with the ranges of
SmoothQuant.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from attrs import evolve

from nncf_core.contracts import Context
from nncf_core.errors import NotFiniteError
from nncf_core.graph import Graph, OpKind
from nncf_core.statistics import Statistics, StatisticsRequest
from nncf_core.transformations import InsertMultiply, ReplaceConstant, Transformation, point_of
from nncf_smooth_quant.parameters import SCHEMA, SmoothQuantSettings

if TYPE_CHECKING:  # every run loads this module; only its own runs load what it works with
    from nncf_smooth_quant.scaling import Scalable

_WORTH_A_PRODUCT = 3.0
"""How many times less noise a product of its own is worth."""

_STRENGTHS = (None, 0.15, 0.25, 0.5, 0.75, 0.95)

_KINDS = ("mean_min", "mean_max", "min", "max", "mean_square")


class SmoothQuant:
    """Moves factors for channels from activations into weights."""

    name: ClassVar[str] = "smooth_quant"
    parameters: ClassVar[type] = SmoothQuantSettings
    looks_ahead: ClassVar[bool] = True

    def schema(self) -> Mapping[str, Any]:
        """JSON schema of the config section."""
        return SCHEMA

    def alternatives(self, params: SmoothQuantSettings) -> Mapping[str, Sequence[SmoothQuantSettings]]:
        """Strengths for matrix products."""
        return {"alpha_matmul": [evolve(params, alpha_matmul=alpha) for alpha in _STRENGTHS]}

    def rounds(self, graph: Graph, params: SmoothQuantSettings) -> int:
        """One round."""
        return 1

    def requests(
        self, graph: Graph, params: SmoothQuantSettings, context: Context, round_index: int
    ) -> Sequence[StatisticsRequest]:
        """Range and mean square of each channel, and what says what the next section asks for."""
        from nncf_core.divided import needed

        tensors = _scalable(graph, params, context)
        own = [
            StatisticsRequest(point_of(graph, tensor.tensor), kind, tensor.axis)
            for tensor in tensors
            for kind in _KINDS
        ]
        # without these, there is nothing to look at
        return [*own, *needed(context.ahead, graph, _axes(tensors))] if own else []

    def transformations(
        self,
        graph: Graph,
        statistics: Statistics,
        params: SmoothQuantSettings,
        context: Context,
        round_index: int,
    ) -> Iterator[Transformation]:
        """New values of the constants on both sides of each tensor.

        :raises NotFiniteError: when a range is not finite.
        """
        from nncf_core.channel_scaling import fits
        from nncf_core.divided import behind
        from nncf_smooth_quant.choice import Ranges, choose

        factors: dict[str, list[np.ndarray]] = {}
        reasons: dict[str, list[str]] = {}
        inserted: list[InsertMultiply] = []
        evened: list[bool] = []  # whether it took a product
        divided: dict[str, np.ndarray] = {}
        tensors = _scalable(graph, params, context)
        for tensor in context.progress.track(tensors, "Equalizing channels", len(tensors)):
            point = point_of(graph, tensor.tensor)
            ranges = Ranges.seen(*(statistics[StatisticsRequest(point, kind, tensor.axis)] for kind in _KINDS))
            if not (np.isfinite(ranges.low).all() and np.isfinite(ranges.high).all()):
                raise NotFiniteError(
                    f"The tensor {tensor.tensor!r} holds NaN or infinite values for some items of the dataset; look at "
                    "the data, or leave out the nodes that take it with an ignored scope."
                )
            if not fits((*tensor.before, *tensor.after), ranges.low.size):
                continue
            chosen, gain = choose(tensor, ranges, params.alpha(tensor.kind))
            if gain <= (1 if tensor.after else _WORTH_A_PRODUCT):
                continue
            evened.append(bool(tensor.points) or not tensor.after)
            shares = (*tensor.before, *tensor.after)
            if not all(share.constant.dtype in ("float32", "float64") for share in shares):
                chosen = np.exp2(np.rint(np.log2(chosen)))  # few digits, which powers of two leave as they are
            for name in tensor.divided:
                divided[name] = divided.get(name, 1) * chosen
            for target in tensor.points:
                factor = (1 / chosen).reshape(-1, *[1] * tensor.behind)
                name = f"{target.node}/nncf_smooth_quant"
                inserted.append(InsertMultiply(target, factor, name, f"{gain:.1f} times less noise"))
            for share in shares:
                factors.setdefault(share.constant.name, []).append(share.factors(chosen))
                reasons.setdefault(share.constant.name, []).append(f"{tensor.tensor}: {gain:.1f} times less noise")
            if not tensor.after:
                factor = chosen.reshape(-1, *[1] * tensor.behind)
                yield InsertMultiply(
                    point, factor, f"{point.node}/evened", f"evens out channels: {gain:.1f} times less noise"
                )
        for name, found in factors.items():
            constant = graph.constants[name]
            value = constant.read().astype(np.float64)
            for factor in found:
                value = value * factor
            yield ReplaceConstant(name, value, "evens out channels of " + ", ".join(reasons[name]))
            constant.release()
        yield from inserted
        if not any(evened):  # operators that are new have statistics of their own
            context.carry(behind(statistics, context.ahead, graph, _axes(tensors), divided))
        if evened:
            products = f", of {sum(evened)} by a product" if any(evened) else ""
            context.note(f"Channels of {len(evened)} tensors are evened out before quantization{products}.")


def _axes(tensors: Sequence[Scalable]) -> dict[str, int]:
    """Axes of the channels of tensors that constants divide."""
    return {name: tensor.axis for tensor in tensors for name in tensor.divided}


def _scalable(graph: Graph, params: SmoothQuantSettings, context: Context) -> list[Scalable]:
    from nncf_smooth_quant.scaling import find

    setup = context.quantization_setup(str(params.target_device))
    # an operator of its own takes time: only where the user gives the strength
    inserting = frozenset(kind for kind in (OpKind.CONV, OpKind.MATMUL) if params.alpha(kind) is not None)
    return [
        tensor
        for tensor in find(graph, context, setup, inserting)
        if (alpha := params.alpha(tensor.kind)) is None or alpha >= 0
    ]
