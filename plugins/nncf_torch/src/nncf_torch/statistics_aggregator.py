"""Statistics of activations, collected in one pass."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from nncf_core.errors import UnsupportedDatasetError
from nncf_core.graph import Graph
from nncf_core.statistics import Statistics, StatisticsRequest

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
        """
        from nncf_torch.extraction import extract
        from nncf_torch.probing import tensors_at

        points = list(dict.fromkeys(request.target for request in requests))
        part = extract(model, (), points)
        statistics = Statistics()
        count = 0
        for item in inputs:
            try:
                arrays: Mapping[str, Any] = tensors_at(model, part, item)
            except UnsupportedDatasetError:
                raise
            except Exception as error:
                raise UnsupportedDatasetError(f"Item {count} of the dataset does not fit the model: {error}") from error
            for request in requests:
                if request.takes(count):
                    statistics.aggregator(request).update(arrays[str(request.target)])
            count += 1
        if count == 0:
            raise UnsupportedDatasetError("The dataset has no items; statistics need at least one.")
        return statistics
