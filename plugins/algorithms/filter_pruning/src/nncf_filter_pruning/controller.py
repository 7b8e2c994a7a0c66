"""The controller of filter pruning."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from nncf_core.editing import edited
from nncf_core.errors import ParameterNotSupportedError, ValidationError
from nncf_core.graph import Graph
from nncf_core.numerics.arrays import to_host
from nncf_core.training.contracts import MaskHandle, TrainedModel
from nncf_core.training.control import (
    CompressionAlgorithmController,
    CompressionScheduler,
    CompressionStage,
    share_of,
)
from nncf_core.training.statistics import FilterPruningStatistics, NNCFStatistics
from nncf_core.transformations import FoldMask
from nncf_filter_pruning import legr
from nncf_filter_pruning.choice import chosen, importances, loaded
from nncf_filter_pruning.coupling import Coupling, couple
from nncf_filter_pruning.effects import Costs, Removal, masked_constants, masks, none_of, shrinking
from nncf_filter_pruning.parameters import FilterPruningSettings
from nncf_filter_pruning.ranking import Ranking
from nncf_filter_pruning.schedules import ConstantScheduler, PruningScheduler


class FilterPruningController(CompressionAlgorithmController):
    """Chooses channels anew whenever the schedule asks for another level, and shrinks the model in the end.

    :param trained: the model in training.
    :param graph: of the model before.
    """

    name = "filter_pruning"

    def __init__(self, trained: TrainedModel, graph: Graph, params: FilterPruningSettings) -> None:
        super().__init__(trained.model)
        self._params = params.params
        handles = trained.masks()
        self._coupling = _with_masks(couple(graph), handles, self._params.prune_batch_norms)
        channels = [channel for cluster in self._coupling.clusters for channel in cluster.channels]
        names = masked_constants(self._coupling, channels, self._params.prune_batch_norms)
        self._masks = {name: handles[name] for name in names}
        self._costs = Costs(self._coupling)
        self._removal = none_of(self._coupling)
        self._frozen = False
        self._coefficients = loaded(self._coupling, self._params)
        self._scheduler: CompressionScheduler = PruningScheduler(self, self._params, params.pruning_init)
        self.warn(trained, self._idle())
        if trained.is_new:
            if self._params.learned and self._coefficients is None:
                self._coefficients = self._learned(trained)
            self.set_pruning_level(params.pruning_init)
            params.initializer.run(trained)

    def _idle(self) -> list[str]:
        """What is allowed, and leads nowhere."""
        if not self._coupling.clusters:
            return [
                "no filter can be pruned: ignored_scopes, target_scopes, prune_first_conv or prune_downsample_convs "
                "leave all layers out"
            ]
        if not self._params.target:
            return ["nothing is to be pruned: give a pruning_target"]
        if self._params.learned and not self._params.all_weights:
            return ["learned_ranking compares filters of all layers although all_weights is false: set it to true"]
        return []

    @property
    def scheduler(self) -> CompressionScheduler:
        """What the training script tells of its epochs."""
        return self._scheduler

    @property
    def coupling(self) -> Coupling:
        """Which channels go together."""
        return self._coupling

    def set_pruning_level(self, pruning_level: float) -> None:
        """Ask for a share of filters, or of operations, to be pruned, from 0 to below 1; frozen masks stay as they are.

        :raises ValidationError: when it is out of range.
        """
        level = share_of("pruning_level", pruning_level)
        if not self._frozen:
            self._put(chosen(self._coupling, self._params, self._weight, level, self._coefficients))

    def freeze(self) -> None:
        """Leave masks as they are from now on."""
        self._frozen = True

    def _put(self, removal: Removal) -> None:
        self._removal = removal
        wanted = masks(removal)
        for name, handle in self._masks.items():
            mask = wanted.get(name, np.ones((1,) * len(handle.shape), np.float32))
            handle.assign(_like(np.broadcast_to(mask, handle.shape).astype(bool), handle))

    def _weight(self, name: str) -> np.ndarray:
        return to_host(self._masks[name].weight())

    def _learned(self, trained: TrainedModel) -> dict[str, tuple[float, float]]:
        tuner, settings = trained.tuner, self._params.legr_params
        if tuner is None:
            raise ParameterNotSupportedError(
                "A learned ranking needs a short training to judge candidates by: give train_steps_fn, validate_fn and "
                "val_loader to nncf.torch.register_default_init_args, or load_ranking_coeffs_path."
            )
        layers = importances(self._coupling, self._params, self._weight)

        def score(coefficients: Mapping[str, tuple[float, float]]) -> float:
            level = settings.max_pruning
            if self._params.by_operations:
                level = min(level, Ranking(self._coupling).largest_operations())
            self._put(chosen(self._coupling, self._params, self._weight, level, coefficients))
            return tuner.score_after(settings.train_steps)

        found = legr.search(layers, score, settings)
        if self._params.save_ranking_coeffs_path is not None:
            legr.save(found, Path(self._params.save_ranking_coeffs_path))
        return found

    @property
    def has_rate(self) -> bool:
        """It can be set."""
        return True

    @property
    def compression_rate(self) -> float:
        """The share of filters that are pruned, or of operations where the target is one."""
        return self.pruned_operations if self._params.by_operations else self.pruned_filters

    @compression_rate.setter
    def compression_rate(self, value: float) -> None:
        """Ask for a level; masks are no longer frozen."""
        self._frozen = False
        self.set_pruning_level(value)

    @property
    def maximal_compression_rate(self) -> float:
        """The largest level that can be reached."""
        if self._params.by_operations:
            return Ranking(self._coupling).largest_operations()
        sizes = [len(cluster.channels) for cluster in self._coupling.clusters]
        return 1 - len(sizes) / sum(sizes) if sizes else 0.0

    @property
    def pruned_filters(self) -> float:
        """The share of channels that are pruned, of those that can be; joined ones count once."""
        total = sum(len(cluster.channels) for cluster in self._coupling.clusters)
        return float(self._removal.gone.sum()) / total if total else 0.0

    @property
    def pruned_operations(self) -> float:
        """The share of operations that are pruned."""
        before = self._costs.operations(none_of(self._coupling))
        return 1 - self._costs.operations(self._removal) / before if before else 0.0

    def disable_scheduler(self) -> None:
        """The level changes only when it is set."""
        level = getattr(self._scheduler, "current_pruning_level", 0.0)
        old, self._scheduler = self._scheduler, ConstantScheduler(level)
        self._scheduler.current_step, self._scheduler.current_epoch = old.current_step, old.current_epoch
        self._frozen = False

    def compression_stage(self) -> CompressionStage:
        """Fully compressed once the schedule asks for its target."""
        scheduler = self._scheduler
        begun = bool(self._removal.gone.any())
        if isinstance(scheduler, PruningScheduler) and scheduler.current_pruning_level < scheduler.target_level:
            return CompressionStage.PARTIALLY_COMPRESSED if begun else CompressionStage.UNCOMPRESSED
        return CompressionStage.FULLY_COMPRESSED if begun else CompressionStage.UNCOMPRESSED

    def statistics(self, quickly_collected_only: bool = False) -> NNCFStatistics:
        """Filters, operations and parameters, before and now, and filters of each layer."""
        costs, nothing = self._costs, none_of(self._coupling)
        rows: list[tuple[str, Any]] = [
            ("Pruning level of filters that can be pruned", self.pruned_filters),
            ("Target of the schedule now", getattr(self._scheduler, "current_pruning_level", 0.0)),
            ("Filters", costs.filters(nothing)),
            ("Filters that are left", costs.filters(self._removal)),
            ("Operations of layers", round(costs.operations(nothing))),
            ("Operations that are left", round(costs.operations(self._removal))),
            ("Parameters", costs.parameters(nothing)),
            ("Parameters that are left", costs.parameters(self._removal)),
        ]
        rows += [
            (layer.node.name, f"{int(self._removal.stays(layer.output).sum())} of {len(layer.output)} filters")
            for layer in self._coupling.layers
            if layer.own and layer.output.any()
        ]
        return NNCFStatistics.of(self.name, FilterPruningStatistics(tuple(rows)))

    def get_state(self) -> dict[str, Any]:
        """The scheduler's, which channels are pruned, and coefficients of a learned ranking."""
        return {
            **super().get_state(),
            "pruned": np.flatnonzero(self._removal.gone).tolist(),
            "frozen": self._frozen,
            "coefficients": None if self._coefficients is None else {k: list(v) for k, v in self._coefficients.items()},
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from a state."""
        super().load_state(state)
        gone = np.zeros(self._coupling.size, bool)
        pruned = [int(channel) for channel in state["pruned"]]
        if pruned and max(pruned) >= len(gone):
            raise ValidationError("The state of filter_pruning is of another model.")
        gone[pruned] = True
        self._removal, self._frozen = Removal(self._coupling, gone), bool(state["frozen"])
        found = state["coefficients"]
        self._coefficients = None if found is None else {name: (pair[0], pair[1]) for name, pair in found.items()}

    def strip_model(self, model: Any, do_copy: bool = False) -> Any:
        """The model without what is pruned; it is a new one."""
        folded = [FoldMask(name, "masked for good") for name in self._masks]
        return edited(model, [*folded, *shrinking(self._removal)])


def _with_masks(coupling: Coupling, handles: Mapping[str, MaskHandle], batch_norms: bool) -> Coupling:
    """The clusters whose constants have masks."""
    for cluster in coupling.clusters:
        for name, shape in masked_constants(coupling, cluster.channels, batch_norms).items():
            handle = handles.get(name)
            if handle is None or any(n > 1 and m != n for n, m in zip(shape, handle.shape, strict=True)):
                coupling = coupling.without([cluster], "it was left out when the compression began")
                break
    return coupling


def _like(mask: np.ndarray, handle: MaskHandle) -> Any:
    """A mask as an array of the model's library, where the weight lies."""
    from nncf_core.numerics.arrays import space_of

    space = space_of(handle.weight())
    return space.xp.asarray(mask.tolist() if mask.ndim == 0 else mask.copy(), device=space.device)
