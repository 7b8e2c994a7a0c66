"""Where channels can be scaled: tensors that layers with low-bit weights take."""

from __future__ import annotations

from collections.abc import Iterator

from attrs import field, frozen

from nncf_awq.parameters import Settings
from nncf_core.channel_scaling import ChannelScaling, Role, Share, tensors
from nncf_core.contracts import Context, is_excluded
from nncf_core.graph import Constant, Graph, OpKind
from nncf_core.transformations import TargetPoint, point_of

_DTYPES = ("float64", "float32", "float16", "bfloat16")

_SMALLEST_GROUP = 32  # what weight_compression adjusts a group size to, at least


@frozen
class Place:
    """A tensor whose channels can be scaled.

    :param tensor: its name; the channels are its last axis.
    :param point: where it is looked at.
    :param before: constants that divide it.
    :param after: constants that undo that.
    :param weights: those of them that will have few bits.
    :param group_size: of these weights.
    :param product: where an operator of its own divides the tensor; ``None`` when constants do.
    """

    tensor: str
    point: TargetPoint
    before: tuple[Share, ...]
    after: tuple[Share, ...]
    weights: tuple[Share, ...]
    group_size: int
    product: TargetPoint | None = None

    @property
    def shares(self) -> tuple[Share, ...]:
        """All constants that change."""
        return (*self.before, *self.after)


@frozen
class Places:
    """All tensors that can be scaled, in graph order.

    :param left_out: why weights that will have few bits are left as they are, by name.
    """

    found: tuple[Place, ...]
    left_out: dict[str, str] = field(factory=dict)


def find(graph: Graph, context: Context, settings: Settings, products: bool = True) -> Places:
    """Tensors that are taken by layers whose weights will have few bits, and by nothing that could not undo a factor.

    Such are weights of matrix products but the last one, as ``weight_compression`` chooses them. Where neither a layer
    before nor a normalization can take in factors, an operator of its own may divide what one layer takes.

    :param products: whether there may be such operators.
    """
    scaling = ChannelScaling(graph, context.ignored, through_products=True)
    chosen, left_out = _weights(graph, context.ignored, settings)
    every = _places(graph, context, scaling, chosen)
    places = tuple(place for place in every if products or place.product is None)
    reached = {share.constant.name for place in places for share in place.weights}
    for name in chosen:
        if name not in reached:
            left_out[name] = "what gives their input takes in no factors"
    return Places(places, left_out)


def _places(graph: Graph, context: Context, scaling: ChannelScaling, chosen: dict[str, int]) -> Iterator[Place]:
    for node, port in tensors(graph):
        tensor = port.tensor
        if scaling.axes_behind(node, tensor) != 0:
            continue
        after = scaling.after(tensor, 0) or ()
        weights = tuple(share for share in after if share.role is Role.INPUTS)
        before = scaling.before(tensor, 0) if _all_chosen(weights, chosen) else None
        product = None
        if not before:
            points, after = scaling.layers(tensor, 0, context)
            weights, before = after, ()
            if len(points) != 1 or not _all_chosen(weights, chosen):
                continue
            product = points[0]
        shares = (*before, *after)
        if all(share.constant.dtype in _DTYPES for share in shares):
            size = chosen[weights[0].constant.name]
            yield Place(tensor, point_of(graph, tensor), before, after, weights, size, product)


def _all_chosen(weights: tuple[Share, ...], chosen: dict[str, int]) -> bool:
    return bool(weights) and all(share.constant.name in chosen for share in weights)


def _weights(graph: Graph, ignored: frozenset[str], settings: Settings) -> tuple[dict[str, int], dict[str, str]]:
    """Group sizes of the weights that will have few bits; and why others are left as they are."""
    chosen: dict[str, int] = {}
    left_out: dict[str, str] = {}
    head = None
    for node in graph.of_kind([OpKind.MATMUL]):
        for _, port in node.weights:
            assert port.constant is not None
            assert port.layout is not None
            constant = graph.constants[port.constant]
            if not constant.is_float or len(constant.shape) < 2 or not constant.size:
                continue
            head = constant.name
            if constant.name in ignored or any(is_excluded(user, ignored) for user, _ in graph.users(constant.name)):
                continue
            size = _group_size(constant, port.layout.reduction_axes, settings)
            if port.layout.batch_axes:
                left_out[constant.name] = "they are batches of matrices"
            elif len(graph.users(constant.name)) > 1:
                left_out[constant.name] = "more than one operator uses them"
            elif size is not None:
                chosen[constant.name] = size
    if head is not None and not settings.all_layers:
        chosen.pop(head, None)
        left_out.pop(head, None)
    return chosen, left_out


def _group_size(constant: Constant, reduction_axes: tuple[int, ...], settings: Settings) -> int | None:
    """The group size; ``None`` where the weight gets another format or stays as it is."""
    size = settings.group_size
    if len(reduction_axes) != 1:
        return None
    channels = constant.shape[reduction_axes[0]]
    if size == -1 or channels % size == 0:
        return size
    while size & (size - 1):
        size &= size - 1  # the largest power of two within
    while size >= _SMALLEST_GROUP and channels % size:
        size //= 2
    return size if size >= _SMALLEST_GROUP else None
