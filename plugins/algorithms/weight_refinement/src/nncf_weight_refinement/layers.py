"""Planned weights as matrices, with what is known of the inputs that layers multiply with them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor

import numpy as np
from attrs import evolve, field, frozen

from nncf_core.contracts import Context
from nncf_core.errors import NotFiniteError, ValidationError
from nncf_core.numerics.formats import FORMATS
from nncf_core.numerics.tensor import CompressedTensor
from nncf_core.refining import PlannedConstant, PlannedWeight
from nncf_core.statistics import Statistics, StatisticsRequest
from nncf_weight_refinement.grouped import Axes, Grouped, compressed, grouped

_FEW_BITS = 4


@frozen
class Layer:
    """Weights that take the same inputs and have the same format, refined as one with the outputs of all.

    :param planned: the weights.
    :param tensors: their codes so far, in memory that numpy sees.
    :param axes: how each becomes matrices.
    :param statistics: values by kind, of the inputs of all layers that use the weights, their mean; without those of
        another size than the weights have inputs.
    :param held_out: the same of the samples that are held out; empty where there are none, or nobody asked for them.
    :param share: which part of the vectors these are of.
    :param executor: what independent work is spread over.
    """

    planned: tuple[PlannedWeight, ...]
    tensors: tuple[CompressedTensor, ...] = field(eq=False, repr=False)
    axes: tuple[Axes, ...]
    statistics: dict[str, np.ndarray] = field(eq=False, repr=False)
    held_out: dict[str, np.ndarray] = field(factory=dict, eq=False, repr=False)
    share: float = 0.0
    executor: Executor | None = field(default=None, eq=False, repr=False)

    @property
    def target(self) -> np.ndarray:
        """What the codes are to stand for, float32, [batch, outputs, inputs]."""
        return _joined([axes.matrices(weight.values()) for axes, weight in zip(self.axes, self.planned, strict=True)])

    @property
    def weight(self) -> Grouped:
        """The codes so far."""
        parts = [grouped(tensor, axes) for tensor, axes in zip(self.tensors, self.axes, strict=True)]
        zero_points = [part.zero_point for part in parts if part.zero_point is not None]
        return evolve(
            parts[0],
            levels=_joined([part.levels for part in parts]),
            scale=_joined([part.scale for part in parts]),
            zero_point=_joined(zero_points) if zero_points else None,
        )

    def refined(
        self, weight: Grouped, reason: str, target: np.ndarray | None = None, *, settled: bool = False
    ) -> list[PlannedWeight]:
        """The weights with other codes.

        :param target: what later codes are to stand for; ``None``: what these are.
        :param settled: whether codes make up for each other.
        """
        found, first = [], 0
        for planned, tensor, axes in zip(self.planned, self.tensors, self.axes, strict=True):
            last = first + axes.rows
            part = weight.of_outputs(slice(first, last))
            edit = evolve(
                planned.edit, tensor=compressed(part, tensor, axes), reason=joined(planned.edit.reason, reason)
            )
            aim = planned.target if target is None else axes.restore(target[:, first:last])
            found.append(evolve(planned, edit=edit, target=aim, settled=settled))
            first = last
        return found


def _joined(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Arrays [batch, outputs, ...] with the outputs of all."""
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)


def joined(reason: str, more: str) -> str:
    """A reason with one more."""
    return f"{reason}; {more}" if reason else more


def is_refinable(plan: PlannedConstant) -> bool:
    """Whether so few bits are planned that codes and scales are worth a search."""
    return FORMATS[plan.request.format].bits <= _FEW_BITS and bool(plan.layout.reduction_axes)


def requests_of(context: Context, kinds: Sequence[str], held_out: bool = False) -> list[StatisticsRequest]:
    """Statistics of the inputs of all planned weights that are refinable.

    :param held_out: whether those of samples that are held out are asked for besides.
    """
    found: dict[StatisticsRequest, None] = {}
    for plan in context.planned:
        if is_refinable(plan):
            found.update(dict.fromkeys(_requests(plan, kinds)))
            found.update(dict.fromkeys(_requests(plan, kinds, True) if held_out else ()))
    return list(found)


def refine_together(
    weights: Sequence[PlannedWeight],
    statistics: Statistics,
    kinds: Sequence[str],
    work: Callable[[Layer], Sequence[PlannedWeight]],
    name: str,
    keeps: bool,
    executor: Executor | None = None,
) -> list[PlannedWeight]:
    """Do the same to all weights that are refinable, to those of one format together; the others stay as they are.

    What a Gram matrix needs is done once then, and loops over inputs run once.

    :param weights: those that take the same tensor.
    :param kinds: statistics that the work looks at.
    :param name: of the algorithm, for messages.
    :param keeps: whether it goes on from the codes that there are.
    :param executor: what independent work is spread over.
    :raises ValidationError: when it would undo what an algorithm before it did.
    :raises NotFiniteError: when statistics are not finite.
    """
    groups: dict[object, list[int]] = {}
    for index, weight in enumerate(weights):
        if weight.more:
            raise ValidationError(
                f"The weight {weight.plan.constant.name!r} has a branch for what its codes lack: put the section "
                "lora_correction behind all others that change codes."
            )
        if weight.settled and not keeps:
            raise ValidationError(
                f"The codes of the weight {weight.plan.constant.name!r} make up for each other, and the section {name} "
                "would put the nearest ones in their place: put it before gptq and refinement."
            )
        if is_refinable(weight.plan):
            groups.setdefault(_form(weight), []).append(index)
    result = list(weights)
    for indices in groups.values():
        refined = work(layer_of([weights[index] for index in indices], statistics, kinds, executor))
        for index, weight in zip(indices, refined, strict=True):
            result[index] = weight
    return result


def _form(weight: PlannedWeight) -> object:
    """What weights have in common that are refined together."""
    tensor, plan = weight.edit.tensor, weight.plan
    if plan.layout.batch_axes or tensor.global_scale is not None or tensor.codebook is not None:
        return plan.constant.name
    inputs = tuple(plan.constant.shape[axis] for axis in plan.layout.reduction_axes)
    places = tuple((each.point, each.axis) for each in plan.inputs)
    return tensor.format, tensor.scale_dtype, tensor.zero_point is None, tensor.group_size, inputs, places


def layer_of(
    weights: Sequence[PlannedWeight],
    statistics: Statistics,
    kinds: Sequence[str],
    executor: Executor | None = None,
) -> Layer:
    """Planned weights with what statistics say of their inputs."""
    tensors = tuple(weight.edit.tensor.on_host() for weight in weights)
    axes = tuple(Axes.of(tensor.shape, each.plan.layout) for tensor, each in zip(tensors, weights, strict=True))
    found, apart = ({kind: _mean(weights[0].plan, axes[0], statistics, kind, of) for kind in kinds} for of in _PARTS)
    return Layer(
        tuple(weights),
        tensors,
        axes,
        {kind: value for kind, value in found.items() if value is not None},
        {kind: value for kind, value in apart.items() if value is not None},
        _share(weights[0].plan, statistics, kinds),
        executor,
    )


_PARTS = (False, True)
"""All samples, and those that are held out."""


def _requests(plan: PlannedConstant, kinds: Sequence[str], held_out: bool = False) -> list[StatisticsRequest]:
    return [StatisticsRequest(each.point, kind, each.axis, held_out=held_out) for each in plan.inputs for kind in kinds]


def _share(plan: PlannedConstant, statistics: Statistics, kinds: Sequence[str]) -> float:
    whole, apart = (
        sum(statistics.count(request) for request in _requests(plan, kinds, of) if request in statistics)
        for of in _PARTS
    )
    return apart / whole if whole else 0.0


def _mean(plan: PlannedConstant, axes: Axes, statistics: Statistics, kind: str, held_out: bool) -> np.ndarray | None:
    requests = _requests(plan, (kind,), held_out)
    seen = [_finite(request, plan, statistics) for request in requests if request in statistics]
    fitting = [value for each in seen if (value := _of_inputs(each, plan, axes)) is not None]
    if not fitting:
        return None
    if len(fitting) == 1:
        return fitting[0]
    mean: np.ndarray = sum(fitting[1:], start=fitting[0]) / np.float32(len(fitting))
    return mean


def _finite(request: StatisticsRequest, plan: PlannedConstant, statistics: Statistics) -> np.ndarray:
    value = statistics[request]
    if not np.isfinite(value).all():
        raise NotFiniteError(
            f"What the weight {plan.constant.name!r} is multiplied with, at {request.target}, holds NaN or infinite "
            "values for some items of the dataset, or numbers so large that their squares are beyond float32; look at "
            "the data, or leave out the node with an ignored scope."
        )
    return value


def _of_inputs(value: np.ndarray, plan: PlannedConstant, axes: Axes) -> np.ndarray | None:
    """A statistic of channels as one of inputs, which may be channels at several places of a kernel."""
    sizes = [axes.shape[axis] for axis in axes.inputs]
    if value.ndim == 2:
        return value if len(value) == int(np.prod(sizes)) else None
    channel = plan.layout.reduction_axes[0]
    if value.size != axes.shape[channel]:
        return None
    along = [size if axis == channel else 1 for axis, size in zip(axes.inputs, sizes, strict=True)]
    return np.broadcast_to(value.reshape(along), sizes).reshape(-1)
