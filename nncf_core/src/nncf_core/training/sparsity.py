"""What the algorithms that make weights zero have in common."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from attrs import frozen

from nncf_core.contracts import Context, is_excluded
from nncf_core.graph import Constant, Graph, OpKind
from nncf_core.numerics.arrays import space_of
from nncf_core.report import weight_constants
from nncf_core.training.contracts import MaskHandle, TrainedModel
from nncf_core.training.control import CompressionAlgorithmController, CompressionScheduler, CompressionStage
from nncf_core.training.sparsity_schedules import TOLERANCE, ConstantScheduler, SparsityScheduler
from nncf_core.training.statistics import SparsifiedLayerSummary, SparsifiedModelStatistics
from nncf_core.transformations import MaskKind

KINDS = (OpKind.CONV, OpKind.CONV_TRANSPOSE, OpKind.MATMUL, OpKind.EMBEDDING)
"""Operators whose weights may get zeros."""

EXCLUSIVE = ("magnitude_sparsity", "rb_sparsity", "const_sparsity", "movement_sparsity", "filter_pruning")
"""Algorithms that mask weights: a weight has one mask."""


def excluded_by_mask(name: str) -> dict[str, str]:
    """What an algorithm that masks weights cannot be in the same config with."""
    reason = "both mask weights, and a weight has one mask; keep one of the sections"
    return {other: reason for other in EXCLUSIVE if other != name}


@frozen
class BatchNormAdaptation:
    """How many samples normalization sees after weights were made zero.

    :param num_bn_adaptation_samples: ``0``: none.
    """

    num_bn_adaptation_samples: int = 2000


@frozen
class Initializer:
    """What is initialised when the compression begins.

    :param batchnorm_adaptation: ``None``: nothing.
    """

    batchnorm_adaptation: BatchNormAdaptation | None = None

    def run(self, trained: TrainedModel) -> None:
        """Adapt normalization, where that is asked for and the training begins."""
        wanted = self.batchnorm_adaptation
        if wanted is not None and wanted.num_bn_adaptation_samples and trained.is_new:
            trained.adapt_batch_norm(wanted.num_bn_adaptation_samples)


INITIALIZER_SCHEMA: Mapping[str, Any] = {
    "description": "What is initialised when the compression begins.",
    "type": "object",
    "properties": {
        "batchnorm_adaptation": {
            "description": "Statistics of normalization for the model as it is.",
            "type": "object",
            "properties": {
                "num_bn_adaptation_samples": {
                    "description": "Number of samples; 0: none.",
                    "type": "integer",
                    "minimum": 0,
                    "default": 2000,
                }
            },
            "additionalProperties": False,
        }
    },
    "additionalProperties": False,
}


def sparsifiable(graph: Graph, context: Context, kinds: Iterable[OpKind] = KINDS) -> list[Constant]:
    """The weights that may get zeros, in graph order: floating-point ones of which no user is to be left out.

    What the backend cannot mask is told and left out, where there will be a training.
    """
    found: dict[str, Constant] = {}
    for node in graph.of_kind(kinds):
        for _, port in node.weights:
            constant = graph.constants[str(port.constant)]
            users = [user for user, _ in graph.users(constant.name)]
            left_out = constant.name in context.ignored or any(is_excluded(user, context.ignored) for user in users)
            if constant.name in found or left_out:
                continue
            if not (constant.is_float or constant.stored_as_float):
                continue
            reason = context.mask_refusal(constant.name) if context.training else None
            if reason is not None:
                context.note(f"{constant.name} gets no zeros: {reason}.")
                continue
            found[constant.name] = constant
    return list(found.values())


def zeros_in(handle: MaskHandle) -> float:
    """How many elements a mask makes zero."""
    mask = handle.mask()
    xp = space_of(mask).xp
    return float(xp.sum(xp.astype(mask == 0, xp.float32)))


class SparsityController(CompressionAlgorithmController):
    """A controller of masks with a schedule.

    :param trained: the model in training.
    :param graph: of the model before.
    :param kind: of the algorithm's masks.
    """

    nothing = "no weight gets zeros: ignored_scopes, target_scopes, or its kinds of layers, leave all of them out"
    """What is told where there is no mask."""

    def __init__(self, trained: TrainedModel, graph: Graph, kind: MaskKind) -> None:
        super().__init__(trained.model)
        self._masks = {name: mask for name, mask in trained.masks().items() if mask.kind is kind}
        self._elements = sum(constant.size for constant in weight_constants(graph))
        self._scheduler: CompressionScheduler = ConstantScheduler()
        self._frozen = False

    def warn(self, trained: TrainedModel, idle: Sequence[str] = ()) -> None:
        """Tell of settings that lead nowhere; without any mask, of that."""
        super().warn(trained, idle if self._masks else [self.nothing])

    @property
    def scheduler(self) -> CompressionScheduler:
        """What the training script tells of its epochs."""
        return self._scheduler

    @property
    def frozen(self) -> bool:
        """Whether masks stay as they are."""
        return self._frozen

    def set_sparsity_level(self, sparsity_level: float) -> None:
        """Ask for a share of zeros, from 0 to below 1; frozen masks stay as they are."""
        raise NotImplementedError

    def freeze(self) -> None:
        """Leave masks as they are from now on."""
        self._frozen = True

    def held_sparsity(self) -> float:
        """The share of zeros among the weights with masks."""
        elements = sum(_size(mask) for mask in self._masks.values())
        return sum(zeros_in(mask) for mask in self._masks.values()) / elements if elements else 0.0

    @property
    def has_rate(self) -> bool:
        """It can be set."""
        return True

    @property
    def compression_rate(self) -> float:
        """The share of zeros among the weights with masks."""
        return self.held_sparsity()

    @compression_rate.setter
    def compression_rate(self, value: float) -> None:
        """Ask for a share of zeros."""
        self.set_sparsity_level(value)

    def disable_scheduler(self) -> None:
        """The level changes only when it is set."""
        level = getattr(self._scheduler, "current_sparsity_level", 0.0)
        old, self._scheduler = self._scheduler, ConstantScheduler(level)
        self._scheduler.current_step, self._scheduler.current_epoch = old.current_step, old.current_epoch

    def compression_stage(self) -> CompressionStage:
        """Fully compressed once the schedule asks for its target, and the model holds it."""
        scheduler, held = self._scheduler, self.held_sparsity()
        if held == 0:
            return CompressionStage.UNCOMPRESSED
        if not isinstance(scheduler, SparsityScheduler):
            return CompressionStage.FULLY_COMPRESSED
        asked = scheduler.current_sparsity_level >= scheduler.target_level
        holds = held + TOLERANCE >= scheduler.target_level
        return CompressionStage.FULLY_COMPRESSED if asked and holds else CompressionStage.PARTIALLY_COMPRESSED

    def model_statistics(self) -> SparsifiedModelStatistics:
        """Shares of zeros."""
        zeros = {name: zeros_in(mask) for name, mask in self._masks.items()}
        total = self._elements or 1
        layers = tuple(
            SparsifiedLayerSummary(
                name,
                tuple(mask.weight().shape),
                zeros[name] / _size(mask),
                100 * _size(mask) / total,
            )
            for name, mask in self._masks.items()
        )
        return SparsifiedModelStatistics(sum(zeros.values()) / total, self.held_sparsity(), layers)

    def get_state(self) -> dict[str, Any]:
        """The scheduler's, the loss's, and whether masks are frozen."""
        return {**super().get_state(), "frozen": self._frozen}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from a state."""
        super().load_state(state)
        if state["frozen"]:
            self.freeze()

    @property
    def target_level(self) -> float | None:
        """What the schedule asks for now."""
        return getattr(self._scheduler, "current_sparsity_level", None)


class TrainedMaskController(SparsityController):
    """A controller of masks whose parameters are trained, with a term of the loss.

    :param multiplier: gradients of the parameters are multiplied by it; ``None``: they are left as they are.
    """

    def __init__(self, trained: TrainedModel, graph: Graph, kind: MaskKind, multiplier: float | None) -> None:
        super().__init__(trained, graph, kind)
        for mask in self._masks.values():
            mask.scale_gradients(1.0 if multiplier is None else multiplier)

    def freeze(self) -> None:
        """From now on masks are those of evaluation, and there is no term of the loss."""
        if self.frozen:
            return
        super().freeze()
        self._end_loss()
        for mask in self._masks.values():
            mask.freeze()

    def _end_loss(self) -> None:
        raise NotImplementedError


def _size(mask: MaskHandle) -> int:
    size = 1
    for n in mask.weight().shape:
        size *= int(n)
    return size
