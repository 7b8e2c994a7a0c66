"""The controller of RB sparsity."""

from __future__ import annotations

from math import prod

from nncf_core.graph import Graph
from nncf_core.training.contracts import TrainedModel
from nncf_core.training.control import share_of
from nncf_core.training.regularization import SparsityLoss, groups_of
from nncf_core.training.sparsity import TrainedMaskController
from nncf_core.training.sparsity_schedules import SparsityScheduler
from nncf_core.training.statistics import NNCFStatistics, RBSparsityStatistics
from nncf_core.transformations import MaskKind
from nncf_rb_sparsity.parameters import SCHEDULE, RBSettings


class RBSparsityController(TrainedMaskController):
    """Lets the schedule set what the loss leads to."""

    name = "rb_sparsity"

    def __init__(self, trained: TrainedModel, graph: Graph, params: RBSettings) -> None:
        super().__init__(trained, graph, MaskKind.SAMPLED, params.compression_lr_multiplier)
        groups = groups_of(self._masks, of_all=params.params.sparsity_level_setting_mode == "global")
        scheduler = SparsityScheduler(self, params.params, SCHEDULE, params.sparsity_init)
        self._loss = SparsityLoss(groups, scheduler.current_sparsity_level)
        self._scheduler = scheduler
        self.warn(trained, params.params.idle(SCHEDULE, params.sparsity_init, lag=1))

    @property
    def loss(self) -> SparsityLoss:
        """What leads to the share of zeros."""
        return self._loss

    def set_sparsity_level(self, sparsity_level: float) -> None:
        """Let the loss lead to another share of zeros from now on."""
        self._loss.target = share_of("sparsity_level", sparsity_level)

    def _end_loss(self) -> None:
        self._loss.enabled = False

    def statistics(self, quickly_collected_only: bool = False) -> NNCFStatistics:
        """Shares of zeros, and the mean probability of an element to be zero."""
        zeros, elements = 0.0, 0
        for mask in self._masks.values():
            scores = mask.parameters().detach()
            zeros += float((1 / (1 + 2.718281828459045**scores)).sum())
            elements += prod(scores.shape)
        probability = zeros / elements if elements else 0.0
        found = RBSparsityStatistics(self.model_statistics(), self.target_level, probability)
        return NNCFStatistics.of(self.name, found)
