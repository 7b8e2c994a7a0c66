"""AWQ (Lin et al. 2023, https://arxiv.org/abs/2306.00978), with data and without.

A channel whose activations are large, or whose weights are small beside others of their group, loses more than others
when weights are rounded. Its weights are multiplied by a factor before, and what gives the activations is divided by
it: the output channel of a layer, the scale of a normalization, or an operator of its own where that is worth it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any, ClassVar

import ml_dtypes
import numpy as np

from nncf_awq.parameters import PERCENT, SCHEMA, AwqParameters, Settings, resolve
from nncf_core.channel_scaling import Share, fits
from nncf_core.contracts import Context
from nncf_core.errors import NotFiniteError
from nncf_core.graph import Constant, Graph
from nncf_core.numerics.work import Call, in_order
from nncf_core.statistics import Statistics, StatisticsRequest
from nncf_core.transformations import InsertMultiply, ReplaceConstant, TargetPoint, Transformation

if TYPE_CHECKING:  # every run loads this module; only its own runs load what it works with
    from nncf_awq.choice import Choice
    from nncf_awq.places import Place

_WORTH_IT = 1.02
"""How many times less a layer must lose."""

_WORTH_A_PRODUCT = 1.5
"""How many times less, where an operator of its own divides the activations in every inference."""

_AHEAD = 8

_KINDS = ("mean", "mean_square")
"""Statistics of each channel: searches for scales behind this want both."""


class Awq:
    """Moves factors for channels from activations into weights that are going to be rounded to few bits."""

    name: ClassVar[str] = "awq"
    parameters: ClassVar[type] = AwqParameters
    tolerates_rounding: ClassVar[bool] = True

    def schema(self) -> Mapping[str, Any]:
        """JSON schema of the config section."""
        return SCHEMA

    def rounds(self, graph: Graph, params: AwqParameters) -> int:
        """One round."""
        return 1

    def requests(
        self, graph: Graph, params: AwqParameters, context: Context, round_index: int
    ) -> Sequence[StatisticsRequest]:
        """The mean square of each channel, and the mean for those behind; nothing without data."""
        settings = resolve(params)
        if not _uses_data(params, context) or settings.scheme is None:
            return ()
        from nncf_awq.places import find

        return [_request(place, kind) for place in find(graph, context, settings).found for kind in _KINDS]

    def transformations(
        self, graph: Graph, statistics: Statistics, params: AwqParameters, context: Context, round_index: int
    ) -> Iterator[Transformation]:
        """New values of the constants on both sides of each tensor.

        :raises NotFiniteError: when activations are not finite.
        """
        from nncf_awq.places import find

        settings = resolve(params)
        if settings.scheme is None:
            context.note(f"AWQ does nothing for {params.mode}: it is for formats of at most 4 bits.")
            return
        if params.percent_to_apply != PERCENT:
            context.note("AWQ scales all channels as far as it helps: percent_to_apply has no effect.")
        places = find(graph, context, settings, products=_uses_data(params, context))
        factors: dict[str, list[np.ndarray]] = {}
        gains: dict[str, list[str]] = {}
        scaled: list[float] = []
        inserted: list[InsertMultiply] = []
        behind = Statistics(items=statistics.items)
        for place, choice in self._choices(graph, statistics, places.found, params, settings, context):
            if choice is None or not _is_worth_it(place, choice):
                behind = behind.renewed(_behind(place, statistics))
                continue
            behind = behind.renewed(_behind(place, statistics, choice.factors))
            scaled.append(choice.gain)
            reason = f"{place.tensor}: weights lose {choice.gain:.2f} times less"
            for share in place.shares:
                factors.setdefault(share.constant.name, []).append(share.factors(choice.factors))
                gains.setdefault(share.constant.name, []).append(reason)
            if place.product is not None:
                inserted.append(InsertMultiply(place.product, 1 / choice.factors, _product_name(place), reason))
        for name, found in factors.items():
            constant = graph.constants[name]
            yield ReplaceConstant(name, _scaled(constant, found), "AWQ, " + ", ".join(gains[name]))
            constant.release()
        yield from inserted
        context.carry(behind)
        _tell(context, len(places.found), scaled, len(inserted), places.left_out)

    def _choices(
        self,
        graph: Graph,
        statistics: Statistics,
        places: Sequence[Place],
        params: AwqParameters,
        settings: Settings,
        context: Context,
    ) -> Iterator[tuple[Place, Choice | None]]:
        """Factors for each tensor, in order, the work spread over the executor."""
        from nncf_awq.choice import Rounding, choose

        data = _uses_data(params, context)

        def call(place: Place) -> Call:
            assert settings.scheme is not None
            square = _seen(statistics, place) if data and _request(place) in statistics else None
            channels = _channels(place.weights[0])
            if square is None and place.product is not None:
                return Call(_nothing, ())  # what no sample reaches is as without data
            if not fits(place.shares, channels) or (square is not None and square.size != channels):
                return Call(_nothing, ())
            exact = any(share.constant.dtype not in ("float32", "float64") for share in place.shares)
            rounding = Rounding(settings.scheme, place.group_size, settings.codebook)
            return Call(choose, (place.weights, square, rounding, settings.exponents, exact))

        choices = in_order(context.executor, (call(place) for place in places), _AHEAD)
        with closing(choices):
            shown = context.progress.track(places, "Searching for AWQ's factors", len(places))
            yield from zip(shown, choices, strict=True)


def _uses_data(params: AwqParameters, context: Context) -> bool:
    return context.has_data and params.prefer_data_aware_scaling


def _request(place: Place, kind: str = "mean_square") -> StatisticsRequest:
    return StatisticsRequest(place.point, kind, -1)


def _is_worth_it(place: Place, choice: Choice) -> bool:
    enough = choice.gain >= (_WORTH_IT if place.product is None else _WORTH_A_PRODUCT)
    return enough and all(_holds(share, choice.factors) for share in place.shares)


def _product_name(place: Place) -> str:
    assert place.product is not None
    return f"{place.product.node}/nncf_awq"


def _behind(place: Place, statistics: Statistics, factors: np.ndarray | None = None) -> Statistics:
    """What layers will take of a tensor; nothing without data."""
    requests = [_request(place, kind) for kind in _KINDS]
    if factors is None or not all(request in statistics for request in requests):
        return statistics.of(requests)
    target = place.point if place.product is None else TargetPoint(_product_name(place))
    first, second = (statistics.divided(request, factors, target) for request in requests)
    return first.renewed(second)


def _seen(statistics: Statistics, place: Place) -> np.ndarray:
    square = statistics[_request(place)]
    if not np.isfinite(square).all():
        raise NotFiniteError(
            f"The tensor {place.tensor!r} holds NaN or infinite values for some items of the dataset; look at the "
            "data, or leave out the nodes that take it with an ignored scope."
        )
    return square


def _nothing() -> None:
    return None


def _channels(share: Share) -> int:
    assert share.layout is not None
    return share.constant.shape[share.layout.reduction_axes[0]]


def _holds(share: Share, factors: np.ndarray) -> bool:
    """Whether a constant's type holds its values times the factors; only types of few digits have a narrow range."""
    if share.constant.dtype in ("float32", "float64"):
        return True
    largest = float(np.abs(share.constant.read().astype(np.float32)).max()) * float(share.factors(factors).max())
    return largest <= float(ml_dtypes.finfo(np.dtype(share.constant.dtype)).max)  # type: ignore[no-untyped-call]


def _scaled(constant: Constant, factors: Sequence[np.ndarray]) -> np.ndarray:
    """A constant's values times factors, of which each product of two numbers is rounded once at most."""
    wide = np.float64 if constant.dtype == "float64" else np.float32
    product = factors[0]
    for factor in factors[1:]:
        product = product * factor
    return np.asarray(constant.read() * product.astype(wide), wide)


def _tell(context: Context, tensors: int, gains: list[float], products: int, left_out: Mapping[str, str]) -> None:
    more = f", {products} of them by an operator of its own" if products else ""
    mean = np.exp(np.mean(np.log(np.minimum(gains, 1e6)))) if gains else 1.0
    less = f"; their layers' weights lose {mean:.2f} times less" if gains else ""
    context.note(f"AWQ scales the channels of {len(gains)} of {tensors} tensors{more}{less}.")
    for reason in dict.fromkeys(left_out.values()):
        names = [name for name, why in left_out.items() if why == reason]
        shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
        context.note(f"AWQ leaves weights as they are, since {reason}: {shown}.")
