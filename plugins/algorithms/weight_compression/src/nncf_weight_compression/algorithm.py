"""Weight compression, round to nearest (NNCF's ``compress_weights``)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from functools import partial
from typing import Any, ClassVar

import numpy as np

from nncf_core.contracts import CompressionRequest, Context
from nncf_core.errors import ParameterNotSupportedError, UnsupportedDatasetError
from nncf_core.graph import Graph
from nncf_core.numerics.arrays import Array
from nncf_core.numerics.kernels import compress
from nncf_core.numerics.many import TensorWork, map_tensors
from nncf_core.numerics.tensor import CompressedTensor
from nncf_core.parameters import SensitivityMetric
from nncf_core.refining import PlannedConstant, layer_inputs
from nncf_core.statistics import Statistics, StatisticsRequest
from nncf_core.structuring import unstructure
from nncf_core.transformations import CompressConstant
from nncf_weight_compression.adaptive_codebook import fit_tables, importance_requests
from nncf_weight_compression.mixed_precision import least_sensitive, needs_data, requests_for, sensitivities
from nncf_weight_compression.parameters import SCHEMA, Settings, WeightCompressionParameters, backup_of, resolve
from nncf_weight_compression.selection import (
    Assignment,
    Weight,
    assign_backup,
    assign_primary,
    find_weights,
    warn_of_misfits,
    why_none,
)
from nncf_weight_compression.training import with_training


class WeightCompression:
    """Weights in low-bit formats, round to nearest.

    Ratio-defining weights get the primary format, a part of them the backup format when ``ratio`` is below
    1; embeddings, convolutions, recurrent layers and the head get the backup format. Data is needed where the
    sensitivity metric looks at activations, and used where codebooks are fitted.
    """

    name: ClassVar[str] = "weight_compression"
    parameters: ClassVar[type] = WeightCompressionParameters
    tolerates_rounding: ClassVar[bool] = True

    def schema(self) -> Mapping[str, Any]:
        """JSON schema of the config section."""
        return SCHEMA

    def effective(self, params: WeightCompressionParameters, has_data: bool) -> Mapping[str, Any]:
        """Defaults that depend on the mode and on whether there is data."""
        settings = resolve(params, has_data)
        return {
            "ratio": settings.ratio,
            "group_size": settings.group_size,
            "all_layers": settings.all_layers,
            "backup_mode": str(backup_of(params)),
            "sensitivity_metric": str(settings.metric),
            "advanced_parameters": unstructure(params.advanced_parameters),
        }

    def rounds(self, graph: Graph, params: WeightCompressionParameters) -> int:
        """One round."""
        return 1

    def requests(
        self, graph: Graph, params: WeightCompressionParameters, context: Context, round_index: int
    ) -> Sequence[StatisticsRequest]:
        """What the sensitivity metric and the fitting of codebooks look at in the inputs of layers.

        :raises UnsupportedDatasetError: when the metric needs data, and there is none.
        """
        settings = resolve(params, context.has_data)
        found: list[StatisticsRequest] = []
        if not (settings.mixed and needs_data(settings.metric)) and settings.adaptive is None:
            return found
        if settings.mixed and needs_data(settings.metric) and not context.has_data and not context.training:
            raise UnsupportedDatasetError(
                f"sensitivity_metric {settings.metric} needs calibration data; pass a dataset, or set "
                f"sensitivity_metric to {SensitivityMetric.WEIGHT_QUANTIZATION_ERROR}, which needs none."
            )
        assignments = assign_primary(find_weights(graph, context.ignored, settings), settings)
        # before the model runs on data
        _check_backend(assignments, context)
        weights = [each.weight for each in assignments if each.scheme is settings.primary]
        if settings.mixed:
            found += requests_for(weights, settings.metric, graph)
        if settings.adaptive is not None and context.has_data:
            found += importance_requests(weights, graph)
        return found

    def planned(
        self, graph: Graph, statistics: Statistics, params: WeightCompressionParameters, context: Context
    ) -> tuple[PlannedConstant, ...]:
        """The weights that are compressed, in graph order."""
        return tuple(
            PlannedConstant(
                a.weight.constant, a.weight.layout, _request(a), layer_inputs(graph, a.weight.constant.name)
            )
            for a in assign(graph, resolve(params, context.has_data), context, statistics)
        )

    def transformations(
        self,
        graph: Graph,
        statistics: Statistics,
        params: WeightCompressionParameters,
        context: Context,
        round_index: int,
    ) -> Iterator[CompressConstant]:
        """One :class:`CompressConstant` for each weight, in graph order.

        :raises ParameterNotSupportedError: when the backend cannot express a format.
        :raises InvalidGroupSizeError: when the group size does not divide a weight's channels.
        :raises ValidationError: when the rank of adapters is larger than that of a matrix.
        """
        settings = resolve(params, context.has_data)
        assignments = assign(graph, settings, context, statistics)
        if not assignments:
            context.warn(f"No weight is compressed: {why_none(graph, context.ignored)}.")
            return
        _check_backend(assignments, context)
        _tell_of_idle(graph, context)
        tables = _tables(assignments, settings, graph, statistics, context)
        description = f"Compressing weights to {settings.primary.name}"
        tensors = map_tensors(context.executor, (_work(each, tables) for each in assignments))
        shown = context.progress.track(assignments, description, len(assignments))
        with closing(tensors):
            for assignment, tensor in zip(shown, tensors, strict=True):
                constant = assignment.weight.constant
                constant.release()
                yield CompressConstant(constant.name, tensor, assignment.reason, training=assignment.training)


def _tell_of_idle(graph: Graph, context: Context) -> None:
    """A note of weights that no operator takes: where a graph comes of running a model, an example misses some."""
    idle = [c.name for c in graph.constants.values() if c.is_float and len(c.shape) > 1 and not graph.users(c.name)]
    if idle:
        context.note(
            f"{len(idle)} weights, such as {idle[0]}, stay as they are: no operator that was seen takes them. Where a "
            "model has parts that only some inputs reach, give backend_params an example_input that reaches all."
        )


def _tables(
    assignments: Sequence[Assignment], settings: Settings, graph: Graph, statistics: Statistics, context: Context
) -> dict[str, np.ndarray]:
    """The codebooks of the weights in the primary format, by the constant's name."""
    primary = [each for each in assignments if each.scheme is settings.primary]
    if settings.adaptive is not None:
        return fit_tables(primary, settings.adaptive, graph, statistics, context)
    if settings.codebook is None:
        return {}
    return {each.weight.constant.name: settings.codebook for each in primary}


def _work(assignment: Assignment, tables: Mapping[str, np.ndarray]) -> tuple[TensorWork[CompressedTensor], Array]:
    weight = assignment.weight
    work = partial(
        compress,
        scheme=assignment.scheme,
        reduction_axes=weight.layout.reduction_axes,
        group_axis=assignment.group_axis,
        group_size=assignment.group_size,
        codebook=tables.get(weight.constant.name),
        name=weight.constant.name,
    )
    return work, weight.constant.array()


def assign(graph: Graph, settings: Settings, context: Context, statistics: Statistics) -> list[Assignment]:
    """The format and group size of every weight that is compressed, in graph order; chosen once in a round."""
    kept = context.kept.get("assignments")
    if kept is None or kept[0] is not graph or kept[1] is not statistics:
        kept = context.kept["assignments"] = (graph, statistics, _assigned(graph, settings, context, statistics))
    found: list[Assignment] = kept[2]
    return found


def _assigned(graph: Graph, settings: Settings, context: Context, statistics: Statistics) -> list[Assignment]:
    weights = find_weights(graph, context.ignored, settings)
    primary = assign_primary(weights, settings)
    warn_of_misfits(weights, settings)
    kept, demoted = _mix(primary, settings, graph, statistics, context)
    others = [weight for weight in weights if not weight.ratio_defining]
    backup = [
        *assign_backup(demoted, settings, "sensitive to the primary format"),
        *assign_backup(others, settings, "embedding, convolution, recurrent or last layer"),
    ]
    order = {weight.constant.name: index for index, weight in enumerate(weights)}
    return with_training(sorted([*kept, *backup], key=lambda a: order[a.weight.constant.name]), settings)


def _mix(
    assignments: list[Assignment], settings: Settings, graph: Graph, statistics: Statistics, context: Context
) -> tuple[list[Assignment], list[Weight]]:
    """The assignments that stay, and the weights that go to the backup format."""
    if settings.ratio >= 1 or settings.uniform:
        return assignments, []
    candidates = [a.weight for a in assignments if a.scheme is settings.primary]
    sizes = {weight.constant.name: weight.constant.size for weight in candidates}
    # with ratio 0 no weight need be read
    scores = dict.fromkeys(sizes, 0.0)
    if settings.mixed:
        scores = sensitivities(candidates, settings.metric, graph, statistics, context)
    chosen = least_sensitive(scores, sizes, settings.ratio)
    demoted = [weight for weight in candidates if weight.constant.name not in chosen]
    names = {weight.constant.name for weight in demoted}
    return [a for a in assignments if a.weight.constant.name not in names], demoted


def _check_backend(assignments: Sequence[Assignment], context: Context) -> None:
    """Ask the backend before any work is done."""
    for assignment in assignments:
        constant = assignment.weight.constant
        reason = context.refusal(constant, _request(assignment))
        if reason is not None:
            raise ParameterNotSupportedError(
                f"Weight {constant.name!r} of node {assignment.weight.node.name!r} cannot be stored as "
                f"{assignment.scheme.name}{' and trained' if assignment.training else ''}: {reason}"
            )


def _request(assignment: Assignment) -> CompressionRequest:
    scheme, axis, size = assignment.scheme, assignment.group_axis, assignment.group_size
    return CompressionRequest(scheme.name, scheme.format.name, axis, size, assignment.training)
