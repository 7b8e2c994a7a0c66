"""The controller of movement sparsity."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nncf_core.errors import ParameterNotSupportedError
from nncf_core.graph import Graph
from nncf_core.log import nncf_logger
from nncf_core.numerics.arrays import Array, space_of
from nncf_core.training.contracts import MaskHandle, TrainedModel
from nncf_core.training.control import CompressionStage
from nncf_core.training.sparsity import TrainedMaskController
from nncf_core.training.statistics import MovementSparsityStatistics, NNCFStatistics
from nncf_core.transformations import MaskKind
from nncf_movement_sparsity.groups import Group, groups_in, has_attention
from nncf_movement_sparsity.loss import ImportanceLoss
from nncf_movement_sparsity.parameters import MovementSettings
from nncf_movement_sparsity.scheduler import MovementScheduler

FIRST = 0.001
"""Share of elements that the first threshold removes."""

_NONE = -3.0e38
"""A threshold that all scores exceed."""


class MovementSparsityController(TrainedMaskController):
    """Raises the threshold that scores have to exceed; in the end heads and channels are removed as a whole."""

    name = "movement_sparsity"

    def __init__(self, trained: TrainedModel, graph: Graph, params: MovementSettings) -> None:
        super().__init__(trained, graph, MaskKind.SCORED, params.compression_lr_multiplier)
        self._params, self._graph = params.params, graph
        self._loss = ImportanceLoss(list(self._masks.values()))
        self._threshold = _NONE
        self._scheduler = MovementScheduler(self, params.params)
        for mask in self._masks.values() if trained.is_new else ():
            mask.threshold(_NONE)
        self.warn(trained, self._idle())

    def _idle(self) -> list[str]:
        """What is allowed, and leads nowhere."""
        if not self._params.enable_structured_masking or not has_attention(self._graph):
            return []
        if any(group.of_heads for group in groups_in(self._graph, self._masks)):
            return []
        return [
            "enable_structured_masking removes no heads, since no attention is recognised whose queries, keys, values "
            "and output are four layers with masks: write it as scaled_dot_product_attention, or as a product, a "
            "softmax and a product, leave none of the four out, or set enable_structured_masking to false"
        ]

    @property
    def loss(self) -> ImportanceLoss:
        """What draws scores down."""
        return self._loss

    @property
    def has_rate(self) -> bool:
        """How much becomes zero is an outcome of threshold and loss."""
        return False

    def set_sparsity_level(self, sparsity_level: float) -> None:
        """Refuse.

        :raises ParameterNotSupportedError: always.
        """
        raise ParameterNotSupportedError(
            "movement_sparsity has no sparsity level to set: importance_regularization_factor and "
            "final_importance_threshold lead to one."
        )

    def initial_threshold(self) -> float:
        """Just below the score that a thousandth of all elements do not exceed."""
        parts = []
        for mask in self._masks.values():
            scores, shape = mask.parameters().detach(), mask.weight().shape
            xp = space_of(scores).xp
            parts.append(xp.reshape(xp.broadcast_to(_enlarged(scores, shape), shape), (-1,)))
        if not parts:
            return 0.0
        xp = space_of(parts[0]).xp
        numbers = xp.sort(xp.concat(parts))
        found = float(numbers[int(FIRST * numbers.shape[0])])
        return found - 1e-6 * max(abs(found), 1e-3)

    def set_threshold(self, threshold: float, factor: float) -> None:
        """Set the threshold and the factor of the loss."""
        self._threshold, self._loss.factor = threshold, factor
        for mask in self._masks.values():
            mask.threshold(threshold)

    def finish(self) -> None:
        """Resolve structure, and leave masks as they are."""
        if self._params.enable_structured_masking:
            for group in groups_in(self._graph, self._masks):
                self._resolve(group)
        self.freeze()
        if self._masks and self.held_sparsity() == 0:
            nncf_logger.warning(
                "movement_sparsity: the warm-up is over, and no weight has zeros: raise "
                "importance_regularization_factor or final_importance_threshold, or the learning rate of scores."
            )

    def _end_loss(self) -> None:
        self._loss.factor = 0.0

    def _resolve(self, group: Group) -> None:
        """Keep units of which any weight keeps something, as a whole; remove the others from all weights."""
        producers = [self._masks[name] for name in group.producers]
        consumer = self._masks[group.consumer]
        kept = _kept_units(consumer.mask(), 1, group)
        for producer in producers:
            kept = kept | _kept_units(producer.mask(), 0, group)
        fitted = [
            (mask, _fitted(mask, kept, axis, group)) for mask, axis in [*((p, 0) for p in producers), (consumer, 1)]
        ]
        if any(value is None for _, value in fitted):
            nncf_logger.info(
                "%s and %s keep their masks: scores of another structure cannot remove whole heads or channels.",
                ", ".join(group.producers),
                group.consumer,
            )
            return
        for mask, value in fitted:
            mask.assign(value)

    def compression_stage(self) -> CompressionStage:
        """Fully compressed behind the warm-up, where the model has zeros then."""
        if self.held_sparsity() == 0:
            return CompressionStage.UNCOMPRESSED
        return CompressionStage.FULLY_COMPRESSED if self.frozen else CompressionStage.PARTIALLY_COMPRESSED

    def statistics(self, quickly_collected_only: bool = False) -> NNCFStatistics:
        """Shares of zeros, threshold and factor."""
        found = MovementSparsityStatistics(self.model_statistics(), None, self._threshold, self._loss.factor)
        return NNCFStatistics.of(self.name, found)

    def get_state(self) -> dict[str, Any]:
        """The state of all sparsity controllers, and the threshold."""
        return {**super().get_state(), "threshold": self._threshold}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from a state."""
        super().load_state(state)
        self._threshold = state["threshold"]


def _enlarged(scores: Array, shape: tuple[int, ...]) -> Array:
    """Scores of blocks, once for each element."""
    xp = space_of(scores).xp
    for axis, (n, m) in enumerate(zip(shape, scores.shape, strict=True)):
        if m not in (1, n):
            scores = xp.repeat(scores, n // m, axis=axis)
    return scores


def _kept_units(mask: Array, axis: int, group: Group) -> Array:
    """Which units a weight keeps anything of.

    :param axis: of the weight that units lie along.
    """
    xp = space_of(mask).xp
    by_channel = xp.any(mask != 0, axis=1 - axis)
    return xp.any(xp.reshape(by_channel, (group.units, group.unit)), axis=1)


def _fitted(mask: MaskHandle, kept: Array, axis: int, group: Group) -> Array | None:
    """Whole units in the shape of a weight's scores; ``None`` when these do not tell units apart."""
    xp = space_of(kept).xp
    channels = xp.reshape(xp.broadcast_to(kept[:, None], (group.units, group.unit)), (-1,))
    shape = mask.parameters().shape
    if channels.shape[0] % shape[axis]:
        return None
    blocks = xp.reshape(channels, (shape[axis], -1))
    some, every = xp.any(blocks, axis=1), xp.all(blocks, axis=1)
    if bool(xp.any(some != every)):
        return None
    along = some[:, None] if axis == 0 else some[None, :]
    return xp.broadcast_to(along, shape)
