"""Statistics of activations, collected in one pass."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from nncf_core.collecting import first_of
from nncf_core.errors import UnsupportedDatasetError
from nncf_core.graph import Graph
from nncf_core.misfits import by_runtime, misfit, unlike
from nncf_core.statistics import Statistics, StatisticsRequest
from nncf_core.transformations import PointKind, TargetPoint, tensor_at

if TYPE_CHECKING:
    from nncf_torch.graph_model import GraphModel
    from nncf_torch.module_model import ModuleModel


class TorchStatisticsAggregator:
    """Runs a model that gives the requested tensors, item by item; only aggregates are kept."""

    framework: ClassVar[str] = "torch"

    def collect(
        self,
        model: ModuleModel | GraphModel,
        graph: Graph,
        requests: Sequence[StatisticsRequest],
        inputs: Iterable[Any],
    ) -> Statistics:
        """Run the model on each item and aggregate.

        :param inputs: each item a tensor or array for the only input, a tuple of positional arguments, or a mapping
            of keyword arguments.
        :raises UnsupportedDatasetError: when there is no item, or an item does not fit the model's inputs.
        :raises ValidationError: when an item holds NaN.
        """
        from nncf_torch.extraction import extract
        from nncf_torch.fitting import check_fit, given_tensors, given_types, taken_types
        from nncf_torch.inputs import check_item, check_numbers
        from nncf_torch.probing import tensors_at

        points = {request.target: _watched(graph, request.target) for request in requests}
        part = extract(model, (), list(dict.fromkeys(points.values())))
        statistics = Statistics()
        first = count = first_of(inputs)
        for item in inputs:
            check_item(item, count)
            check_fit(model, item, count)
            check_numbers(given_tensors(model, item), count)
            try:
                arrays: Mapping[str, Any] = tensors_at(model, part, item)
            except MemoryError:
                raise
            except Exception as error:
                # what follows the first line is where in the traced program it happened, or all that would be right
                reason = str(error).partition("\n")[0].partition(", but expected one of")[0]
                reason = reason.removeprefix("The model does not run on its input: ")
                said = reason if isinstance(error, UnsupportedDatasetError) else by_runtime(reason)
                raise misfit(count, given_types(model, item), taken_types(model, graph), said) from error
            try:
                for request in requests:
                    # an item need not come by every point, such as those of experts that it is not for
                    name = str(points[request.target])
                    if request.takes(count) and name in arrays:
                        statistics.aggregator(request).update(arrays[name])
            except ValueError as error:
                raise misfit(count, given_types(model, item), taken_types(model, graph), unlike(error)) from error
            count += 1
        if count == first:
            raise UnsupportedDatasetError("The dataset has no items; statistics need at least one.")
        return statistics


def _watched(graph: Graph, point: TargetPoint) -> TargetPoint:
    """Where the tensor of a point is looked at.

    In a run that is watched, functions outside of layers are numbered as they come; where inputs take different ways
    through a model, only a layer that takes the tensor is sure to be the one that is meant.
    """
    tensor = tensor_at(graph, point) if graph.properties.get("trace") == "hooks" else None
    for node in () if tensor is None else graph.consumers(tensor):
        if node.weights:
            port = next(index for index, each in enumerate(node.inputs) if each.tensor == tensor)
            return TargetPoint(node.name, PointKind.INPUT, port)
    return point
