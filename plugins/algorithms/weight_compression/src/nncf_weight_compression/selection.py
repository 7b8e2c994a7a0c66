"""Which weights are compressed, in which of the two formats, and with which group size."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from attrs import evolve, frozen

from nncf_core.angles import angle_products
from nncf_core.contracts import is_excluded
from nncf_core.errors import InvalidGroupSizeError, ValidationError
from nncf_core.graph import Constant, Graph, Node, OpKind, WeightLayout
from nncf_core.log import nncf_logger
from nncf_core.numerics.formats import Scheme
from nncf_core.parameters import GroupSizeFallbackMode
from nncf_core.transformations import Training
from nncf_weight_compression.parameters import Settings

_KINDS = (OpKind.MATMUL, OpKind.CONV, OpKind.CONV_TRANSPOSE, OpKind.EMBEDDING, OpKind.RECURRENT)


@frozen
class Weight:
    """A constant with the role it has for its first user.

    :param ratio_defining: whether it may get the primary format, and counts for ``ratio``.
    """

    constant: Constant
    node: Node
    layout: WeightLayout
    ratio_defining: bool = False


@frozen
class Assignment:
    """How one weight is to be compressed, and why; and whether it is to be trained then."""

    weight: Weight
    scheme: Scheme
    group_size: int
    reason: str
    training: Training | None = None

    @property
    def group_axis(self) -> int | None:
        """The axis that is divided into groups; ``None`` when the whole channel shares a scale."""
        return None if self.group_size == -1 else self.weight.layout.reduction_axes[-1]


def find_weights(graph: Graph, ignored: frozenset[str], settings: Settings) -> list[Weight]:
    """Weights that can be compressed, each constant once, in graph order.

    Ratio-defining are those of matrix multiplications; unless ``all_layers`` is set, without the last one in
    topological order (the head), which is as sensitive as the embeddings. Where the head shares its weight
    with an embedding or is ignored, no other layer takes its place. Frequencies that positions are multiplied with
    (:mod:`nncf_core.angles`) stay as they are.
    """
    angles = angle_products(graph)
    found: dict[str, Weight] = {}
    head: str | None = None
    for node in graph.of_kind(_KINDS):
        if node.name in angles:
            continue
        for index, port in node.weights:
            assert port.constant is not None
            assert port.layout is not None
            constant = graph.constants[port.constant]
            if not constant.is_float or len(constant.shape) < 2:
                continue
            if node.kind is OpKind.MATMUL:
                head = constant.name
            if constant.name in found or _is_ignored(graph, constant, ignored):
                continue
            if constant.size == 0:
                raise ValidationError(
                    f"The weight {constant.name!r} of node {node.name!r}, input {index}, has shape "
                    f"{list(constant.shape)}, so no elements. Repair the model, or exclude the node with ignored_scope."
                )
            found[constant.name] = Weight(constant, node, port.layout)
    return [evolve(w, ratio_defining=_is_ratio_defining(w, head, settings)) for w in found.values()]


def why_none(graph: Graph, ignored: frozenset[str]) -> str:
    """Why no weight of a model is compressed."""
    weights = {port.constant for node in graph.of_kind(_KINDS) for _, port in node.weights if port.constant}
    known = [graph.constants[name] for name in weights]
    floats = [constant for constant in known if constant.is_float and len(constant.shape) > 1]
    if not known:
        return "the model has no layers with weights"
    if not floats:
        return "no weight is a floating-point number of several axes; they may have been compressed before"
    if all(_is_ignored(graph, constant, ignored) for constant in floats):
        return "the ignored scope leaves out all of them"
    return "these settings leave out all of them"


def _is_ignored(graph: Graph, constant: Constant, ignored: frozenset[str]) -> bool:
    # compressing a shared constant changes every user of it
    return constant.name in ignored or any(is_excluded(node, ignored) for node, _ in graph.users(constant.name))


def _is_ratio_defining(weight: Weight, head: str | None, settings: Settings) -> bool:
    if settings.uniform:
        return True
    if weight.node.kind is OpKind.MATMUL:
        return settings.all_layers or weight.constant.name != head
    return settings.all_layers and weight.node.kind is OpKind.EMBEDDING and len(weight.layout.reduction_axes) == 1


def assign_primary(weights: Sequence[Weight], settings: Settings) -> list[Assignment]:
    """The primary format for every ratio-defining weight whose channels the group size divides.

    Weights that the fallback mode leaves out get no assignment (IGNORE), or the backup format (ADJUST).

    :raises InvalidGroupSizeError: with fallback mode ERROR, when the group size does not divide.
    """
    result: list[Assignment] = []
    misfits: list[Weight] = []
    for weight in weights:
        if not weight.ratio_defining:
            continue
        if _fits(weight, settings.group_size):
            result.append(Assignment(weight, settings.primary, settings.group_size, "primary format"))
            continue
        misfits.append(weight)
        if settings.fallback is GroupSizeFallbackMode.ADJUST:
            result.extend(_adjusted(weight, settings))
    if misfits and settings.fallback is GroupSizeFallbackMode.ERROR:
        raise InvalidGroupSizeError(_misfit_message(misfits, settings))
    return result


def warn_of_misfits(weights: Sequence[Weight], settings: Settings) -> None:
    """Tell which weights the fallback mode IGNORE leaves as they are."""
    if settings.fallback is not GroupSizeFallbackMode.IGNORE:
        return
    misfits = [weight for weight in weights if weight.ratio_defining and not _fits(weight, settings.group_size)]
    if misfits:
        names = ", ".join(weight.constant.name for weight in misfits)
        nncf_logger.warning(
            "Group size %d does not divide the channels of: %s. They stay as they are.",
            settings.group_size,
            names,
        )


def _channels(weight: Weight) -> int:
    return weight.constant.shape[weight.layout.reduction_axes[-1]]


def _fits(weight: Weight, group_size: int) -> bool:
    return group_size == -1 or (len(weight.layout.reduction_axes) == 1 and _channels(weight) % group_size == 0)


def _adjusted(weight: Weight, settings: Settings) -> Iterable[Assignment]:
    """A smaller power of two that divides the channels, else the backup format.

    Unlike the reference's, it is never larger than what was asked for.
    """
    size = largest_power_of_two_divisor(_channels(weight), settings.group_size)
    if len(weight.layout.reduction_axes) == 1 and size >= settings.min_adjusted_group_size:
        reason = f"primary format, group size adjusted from {settings.group_size} to divide {_channels(weight)}"
        yield Assignment(weight, settings.primary, size, reason)
    else:
        yield from assign_backup(
            [weight], settings, f"no group size of {settings.min_adjusted_group_size} or more fits"
        )


def largest_power_of_two_divisor(channels: int, limit: int) -> int:
    """The largest power of two that divides ``channels`` and is at most ``limit``."""
    size = channels & -channels
    while size > limit:
        size //= 2
    return size


def _misfit_message(misfits: Sequence[Weight], settings: Settings) -> str:
    listed = "; ".join(f"{w.constant.name} (node {w.node.name}): {_channels(w)}" for w in misfits[:10])
    more = f" and {len(misfits) - 10} more" if len(misfits) > 10 else ""
    shared = min(largest_power_of_two_divisor(_channels(w), settings.group_size) for w in misfits)
    return (
        f"Group size {settings.group_size} does not divide the channel counts of {len(misfits)} weights: "
        f"{listed}{more}. Choose a group size that does (such as {shared}), -1, exclude these nodes with "
        "ignored_scope, or set advanced_parameters.group_size_fallback_mode to ADJUST or IGNORE."
    )


def assign_backup(weights: Iterable[Weight], settings: Settings, reason: str) -> Iterable[Assignment]:
    """The backup format; nothing when there is none. A group size that does not fit becomes a whole channel,
    or, where the format fixes it, leaves the weight as it is."""
    if settings.backup is None:
        return
    for weight in weights:
        size = settings.backup_group_size
        if not _fits(weight, size):
            if settings.backup.fixed_group_size is not None:
                nncf_logger.warning(
                    "Weight %s stays as it is: groups of %d do not divide it.", weight.constant.name, size
                )
                continue
            size = -1
        yield Assignment(weight, settings.backup, size, f"backup format: {reason}")
