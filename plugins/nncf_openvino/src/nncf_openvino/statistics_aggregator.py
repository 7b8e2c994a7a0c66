"""Statistics of activations, collected in one pass on the CPU."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from nncf_core.errors import UnsupportedDatasetError
from nncf_core.graph import Graph
from nncf_core.statistics import Statistics, StatisticsRequest

if TYPE_CHECKING:
    from nncf_openvino.working import WorkingModel


class OpenVINOStatisticsAggregator:
    """Runs a model that gives the requested tensors, item by item; only aggregates are kept."""

    framework: ClassVar[str] = "openvino"

    def collect(
        self, model: WorkingModel, graph: Graph, requests: Sequence[StatisticsRequest], inputs: Iterable[Any]
    ) -> Statistics:
        """Run the model on each item and aggregate.

        :param inputs: each item a mapping from input names to arrays, a tuple or list in the order of the
            inputs, or the array of the only input.
        :raises UnsupportedDatasetError: when there is no item, or an item does not fit the model's inputs.
        """
        from nncf_openvino.extraction import extract
        from nncf_openvino.running import session_for

        points = list(dict.fromkeys(request.target for request in requests))
        session = session_for(extract(model, (), points))
        expected = session.expected
        statistics = Statistics()
        count = 0
        for item in inputs:
            try:
                arrays = session.run(feed_for(item, expected))
            except UnsupportedDatasetError:
                raise
            except (RuntimeError, TypeError, ValueError) as error:
                raise UnsupportedDatasetError(
                    f"Item {count} of the dataset does not fit the model, whose inputs are {expected}: {error}"
                ) from None
            for request in requests:
                statistics.aggregator(request).update(arrays[str(request.target)])
            count += 1
        if count == 0:
            raise UnsupportedDatasetError("The dataset has no items; statistics need at least one.")
        return statistics


def feed_for(item: Any, expected: Mapping[str, str]) -> dict[str, np.ndarray]:
    """Arrays by input name, from an item of a dataset.

    :param expected: type and shape of each input, for messages.
    :raises UnsupportedDatasetError: when the item has not one array for each input.
    """
    names = list(expected)
    if isinstance(item, Mapping):
        named = dict(item)
    elif isinstance(item, (tuple, list)):
        named = dict(zip(names, item, strict=False)) if len(item) == len(names) else {}
    else:
        named = {names[0]: item} if len(names) == 1 else {}
    if set(named) != set(names):
        given = f"the keys {sorted(map(str, item))}" if isinstance(item, Mapping) else f"a {type(item).__name__}"
        raise UnsupportedDatasetError(
            f"An item of the dataset is {given}; the model's inputs are {dict(expected)}. Give a dict of arrays, "
            "or pass a transform_func to nncf.Dataset that makes one."
        )
    return {name: np.asarray(value) for name, value in named.items()}
