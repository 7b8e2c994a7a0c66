"""Collects statistics of the toy framework's activations."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

from nncf_core.errors import UnsupportedDatasetError
from nncf_core.graph import Graph
from nncf_core.statistics import Statistics, StatisticsRequest
from nncf_core.testing.numpy_backend.inserter import NumpyTargetPointInserter
from nncf_core.testing.numpy_backend.model import NumpyModel


class NumpyStatisticsAggregator:
    """Runs a sub-model that gives the requested tensors, item by item."""

    framework: ClassVar[str] = "numpy"

    def collect(
        self, model: NumpyModel, graph: Graph, requests: Sequence[StatisticsRequest], inputs: Iterable[Any]
    ) -> Statistics:
        """Run the model on each item and aggregate.

        :raises UnsupportedDatasetError: when there is no item, or one does not fit the model's inputs.
        """
        points = list(dict.fromkeys(request.target for request in requests))
        part = NumpyTargetPointInserter().extract(model, (), points)
        unused = set(model.inputs) - set(part.inputs)
        statistics, count = Statistics(), 0
        for item in inputs:
            count += 1
            if isinstance(item, Mapping):
                # inputs that the part does not need
                item = {name: array for name, array in item.items() if name not in unused}
            tensors = part.run(item)
            for request in requests:
                if request.takes(count - 1):
                    statistics.aggregator(request).update(tensors[str(request.target)])
        if count == 0:
            raise UnsupportedDatasetError("The dataset has no items; statistics need at least one.")
        return statistics
