"""The algorithm ``lora_correction``: low-rank branches beside layers with weights of few bits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from attrs import evolve

from nncf_core.advanced import AdvancedLoraCorrectionParameters
from nncf_core.contracts import Context
from nncf_core.graph import Graph
from nncf_core.numerics.kernels import decompress
from nncf_core.refining import PlannedConstant, PlannedWeight
from nncf_core.statistics import Statistics, StatisticsRequest
from nncf_core.transformations import InsertLowRank
from nncf_weight_refinement.algorithms import WeightRefiner
from nncf_weight_refinement.layers import is_refinable, layer_of, requests_of
from nncf_weight_refinement.low_rank import fit_branch

_DAMPING = 0.2
"""A part of the mean of H's diagonal; of 0, 0.01, 0.05, 0.2 and 1 it lost least on text that was not sampled."""
_SHOWN = 5

_DEFAULTS = AdvancedLoraCorrectionParameters()

LORA_CORRECTION_SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "description": "Low-rank branches beside layers, which make up for a part of what rounding their weights costs.",
    "properties": {
        "adapter_rank": {
            "description": "Rank of the branches.",
            "type": "integer",
            "minimum": 1,
            "default": _DEFAULTS.adapter_rank,
        },
        "num_iterations": {
            "description": "How many times the two matrices are fitted to each other's integers.",
            "type": "integer",
            "minimum": 0,
            "default": _DEFAULTS.num_iterations,
        },
        "apply_regularization": {
            "description": "Whether errors of weights count where the samples have hardly any inputs, too.",
            "type": "boolean",
            "default": _DEFAULTS.apply_regularization,
        },
        "subset_size": {
            "description": "Number of samples of the dataset.",
            "type": "integer",
            "minimum": 1,
            "default": _DEFAULTS.subset_size,
        },
        "use_int8_adapters": {
            "description": "Whether the matrices are stored as integers of 8 bits.",
            "type": "boolean",
            "default": _DEFAULTS.use_int8_adapters,
        },
    },
}


def lora_correction(
    planned: PlannedWeight, statistics: Statistics, params: AdvancedLoraCorrectionParameters
) -> PlannedWeight:
    """A branch for what the codes so far leave."""
    layer = layer_of([planned], statistics, ("gram",))
    gram = layer.statistics.get("gram")
    if gram is None:
        return planned
    # without batch axes there is one matrix
    residual = (layer.target - layer.axes[0].matrices(decompress(layer.tensors[0], "float32")))[0]
    branch = fit_branch(
        residual,
        gram,
        params.adapter_rank,
        damping=_DAMPING if params.apply_regularization else 0.0,
        rounds=params.num_iterations,
        integers=params.use_int8_adapters,
    )
    if branch is None:
        return planned
    rank = branch.down.shape[0]
    kind = "8-bit integers" if params.use_int8_adapters else "floating-point numbers"
    edit = InsertLowRank(planned.edit.constant, branch.down, branch.up, f"corrects rounding, rank {rank}, {kind}")
    return evolve(planned, more=(*planned.more, edit))


class LoraCorrection(WeightRefiner):
    """Branches of low rank that make up for most of what rounding costs at the outputs of layers."""

    name = "lora_correction"
    parameters = AdvancedLoraCorrectionParameters
    section = LORA_CORRECTION_SCHEMA
    kinds = ("gram",)

    def requests(self, graph: Graph, params: Any, context: Context, round_index: int) -> Sequence[StatisticsRequest]:
        """Statistics of the inputs of all layers that can have a branch; a note says which cannot."""
        few = [plan for plan in context.planned if is_refinable(plan)]
        able = tuple(plan for plan in few if _takes(plan, context))
        left = [plan.constant.name for plan in few if not _takes(plan, context)]
        if left:
            names = ", ".join(left[:_SHOWN]) + (", ..." if len(left) > _SHOWN else "")
            context.note(
                f"lora_correction leaves out {len(left)} of {len(few)} weights, whose users are not all layers that "
                f"can have a branch beside them (products of activations with a matrix): {names}."
            )
        return requests_of(evolve(context, planned=able), self.kinds)

    def refined(
        self,
        weights: Sequence[PlannedWeight],
        graph: Graph,
        statistics: Statistics,
        params: Any,
        context: Context,
    ) -> Sequence[PlannedWeight]:
        """The weights, with branches."""
        return [
            lora_correction(weight, statistics, params)
            if is_refinable(weight.plan) and _takes(weight.plan, context)
            else weight
            for weight in weights
        ]


def _takes(plan: PlannedConstant, context: Context) -> bool:
    return context.takes_low_rank(plan.constant.name)
