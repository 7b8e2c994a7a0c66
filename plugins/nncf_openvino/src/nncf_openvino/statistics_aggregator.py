"""Statistics of activations, collected in one pass on the CPU."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from nncf_core.collecting import collect_items, digests_of, mapped, points_of, workers
from nncf_core.graph import Graph
from nncf_core.statistics import Statistics, StatisticsRequest

if TYPE_CHECKING:
    import numpy as np

    from nncf_openvino.working import WorkingModel


class OpenVINOStatisticsAggregator:
    """Runs a model that gives the requested tensors, item by item; only aggregates are kept."""

    framework: ClassVar[str] = "openvino"

    def collect(
        self, model: WorkingModel, graph: Graph, requests: Sequence[StatisticsRequest], inputs: Iterable[Any]
    ) -> Statistics:
        """Run the model on each item and aggregate.

        :param inputs: each item a mapping from inputs (their names, places or ports) to arrays, a tuple or list in the
            order of the inputs, or the array of the only input.
        :raises UnsupportedDatasetError: when there is no item, or an item does not fit the model's inputs.
        """
        from nncf_openvino.digesting import digesting, rank_at, told_by
        from nncf_openvino.extraction import extract
        from nncf_openvino.opening import reason_of
        from nncf_openvino.running import session_for
        from nncf_openvino.wide_convolutions import widen

        points = points_of(graph, requests)
        part = extract(model, (), list(dict.fromkeys(points.values())))
        widen(part.model)
        part, told = digesting(part, digests_of(requests, points, partial(rank_at, part)))
        session = session_for(part, workers()[0])
        failures = (RuntimeError, TypeError, ValueError)

        def run(feed: Mapping[str, np.ndarray]) -> Mapping[str, Any]:
            return told_by(session.views(feed), told)

        items = mapped(session.named, inputs)
        return collect_items(
            requests, items, run, session.expected, failures, points, reason_of, stateful=session.stateful
        )
