"""Statistics that algorithms ask for: read from a file, or collected in one pass over the data or part by part."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from itertools import chain, islice
from pathlib import Path
from typing import Any

from attrs import frozen

from nncf_core.collecting import Rest
from nncf_core.contracts import DividingInserter, Model, SamplingInserter, traces
from nncf_core.cuts import parts_of
from nncf_core.dataset import Dataset
from nncf_core.errors import UnsupportedBackendError, UnsupportedDatasetError, ValidationError
from nncf_core.grams import MATRICES as MATRICES
from nncf_core.graph import Graph, OpKind
from nncf_core.progress import Progress
from nncf_core.refining import layer_inputs
from nncf_core.registry import Backend
from nncf_core.statistics import Statistics, StatisticsRequest
from nncf_core.statistics_cache import Counted, StatisticsCache
from nncf_core.transformations import TargetPoint, point_of, tensor_at

MOST = 1 << 27
"""Bytes of a part's statistics, and of the tensors that they are of, unless one tensor alone takes more.

Those of two parts may be in memory: of one that is used, and of the next.
"""

_ROWS = 2048
"""Vectors of each tensor that are about in memory at a time."""

_SHOWN = 5


@frozen
class Round:
    """Who asks for statistics, and of how much.

    :param name: of the algorithm; of several, their names with a plus between them.
    :param index: of its round.
    :param samples: number of samples that are looked at; ``None``: all.
    :param path: where statistics are read, or left for the next run; ``None``: nowhere.
    :param rough: whether they may be of rounded activations, see
        :attr:`~nncf_core.contracts.Algorithm.tolerates_rounding`.
    :param asked_by: name of the algorithm whose work this one does, which the user's config names.
    """

    name: str
    index: int = 0
    samples: int | None = None
    path: Path | None = None
    rough: bool = False
    asked_by: str | None = None


@frozen
class Gathering:
    """What statistics of a run come from.

    :param note: tells the user something, see :class:`~nncf_core.contracts.Context`.
    :param training: whether the model is to be trained, for messages.
    """

    backend: Backend
    options: Mapping[str, Any]
    dataset: Dataset[Any, Any] | None
    progress: Progress
    note: Callable[[str], None]
    training: bool = False

    def statistics(
        self, asking: Round, model: Model, graph: Graph, requests: tuple[StatisticsRequest, ...]
    ) -> Statistics:
        """The statistics of a model.

        :raises UnsupportedDatasetError: when there is no data, or none that the model takes.
        :raises UnsupportedBackendError: when nothing collects statistics of such models.
        :raises StatisticsCacheError: when the file's are of something else.
        """
        cache = StatisticsCache.of(asking.path, graph, asking.name, asking.index)
        if cache is not None and cache.file.exists():
            return cache.read(requests, asking.samples, self.length(asking))
        statistics = self._part_by_part(asking, model, graph, requests) if asking.rough else None
        if statistics is None:
            statistics = self.in_one_pass(asking, model, graph, requests)
        if cache is not None:
            cache.write(statistics)
        return statistics

    def check(self, name: str) -> None:
        """Whether an algorithm can have statistics.

        :raises UnsupportedDatasetError: when there is no data.
        :raises UnsupportedBackendError: when nothing collects statistics of such models.
        """
        if self.dataset is None:
            given = "attach a loader with nncf.torch.register_default_init_args" if self.training else "pass a dataset"
            raise UnsupportedDatasetError(f"Algorithm {name!r} needs calibration data; {given}.")
        if self.backend.aggregator is None:
            raise UnsupportedBackendError(
                f"Algorithm {name!r} needs statistics of activations with these settings, and no installed plugin "
                f"collects them for {self.backend.builder.title} models."
            )

    def items(self, asking: Round) -> Iterator[Any]:
        """Items of the dataset, as many as are looked at; raises what :meth:`check` does."""
        self.check(asking.asked_by or asking.name)
        assert self.dataset is not None
        return islice(self.dataset.get_inference_data(), asking.samples)

    def length(self, asking: Round) -> int | None:
        """How many items there are to look at; ``None`` where that is not known."""
        if self.dataset is None:
            return None
        return min((n for n in (asking.samples, self.dataset.get_length()) if n is not None), default=None)

    def in_one_pass(
        self, asking: Round, model: Model, graph: Graph, requests: tuple[StatisticsRequest, ...]
    ) -> Statistics:
        """Collect statistics while the whole model runs."""
        items = Counted(self.items(asking))
        assert self.backend.aggregator is not None
        shown = self.progress.track(items, "Collecting statistics", self.length(asking))
        statistics = self.backend.aggregator.collect(model, graph, requests, shown)
        statistics.items = items.count
        return self.reached(statistics, requests)

    def rest(
        self,
        asking: Round,
        model: Model,
        graph: Graph,
        requests: tuple[StatisticsRequest, ...],
        seen: Statistics,
    ) -> Statistics:
        """The statistics of all items, of which the first were seen before.

        :param seen: statistics of the requests; it is changed.
        """
        self.check(asking.asked_by or asking.name)
        assert self.dataset is not None
        assert self.backend.aggregator is not None
        length = self.length(asking)
        # by their numbers items that are passed over are not made into inputs
        numbers = None if self.dataset.get_length() is None else list(range(seen.items, length or 0))
        start = seen.items if numbers is None else 0
        stop = None if asking.samples is None or numbers is not None else asking.samples
        later = iter(islice(self.dataset.get_inference_data(numbers), start, stop))
        for item in later:
            items = Counted(chain([item], later))
            shown = self.progress.track(items, "Collecting statistics", None if length is None else length - seen.items)
            found = self.backend.aggregator.collect(model, graph, requests, Rest(shown, seen.items))
            found.items = items.count
            seen.merge(found)
        return self.reached(seen, requests)

    def reached(self, statistics: Statistics, requests: Sequence[StatisticsRequest]) -> Statistics:
        """Statistics without those of tensors that no item reaches, such as what experts take; a note tells of them."""
        statistics = statistics.reached(requests)
        points = sorted({str(request.target) for request in statistics.unseen if not request.held_out})
        if points:
            shown = ", ".join(points[:_SHOWN]) + (f" and {len(points) - _SHOWN} more" if points[_SHOWN:] else "")
            self.note(f"No item of the dataset reaches {shown}: what is known without data decides there.")
        return statistics

    def _part_by_part(
        self, asking: Round, model: Model, graph: Graph, requests: tuple[StatisticsRequest, ...]
    ) -> Statistics | None:
        """The same while parts of the model run; ``None`` where that brings nothing, or is not possible.

        It is faster where rounded activations are, and otherwise takes as long, with no more than a few tensors in
        memory.
        """
        items = self.items(asking)
        by_tensor = requests_by_tensor(graph, requests, asking.name)
        sizes = bytes_of(graph, by_tensor)
        # a traced program that stands in for a model has other names
        divides = not traces(self.backend.builder)
        worth_it = isinstance(self.backend.inserter, SamplingInserter) or sum(sizes.values()) > MOST
        parts = divided(self.backend, model, graph, by_tensor) if divides and worth_it else None
        if parts is None or not by_tensor.keys() <= _tensors(parts[1]):
            return None
        from nncf_core.calibration import Calibration  # most runs need none
        from nncf_core.spool import Spool

        statistics = Statistics()
        with tempfile.TemporaryDirectory(prefix="nncf_") as folder:
            calibration = Calibration(
                self.backend,
                self.options,
                *parts,
                by_tensor,
                parts_of(parts[1], sizes, MOST),
                propagates=False,
                spool=Spool(Path(folder)),
                progress=self.progress,
            )
            with closing(calibration.looks(items)) as looks:
                for look in looks:
                    statistics = statistics.renewed(look.statistics)
            calibration.spool.clear()
        return self.reached(statistics, requests)


def requests_by_tensor(
    graph: Graph, requests: Iterable[StatisticsRequest], algorithm: str
) -> dict[str, tuple[StatisticsRequest, ...]]:
    """Requests by the name of the tensor that they speak of.

    :param algorithm: who asks, for the message.
    :raises ValidationError: when there is no such tensor.
    """
    found: dict[str, dict[StatisticsRequest, None]] = {}
    for request in requests:
        tensor = tensor_at(graph, request.target)
        if tensor is None:
            raise ValidationError(
                f"Algorithm {algorithm!r} asks for statistics at {request.target}, where the model has no tensor: "
                "this is a fault of the plugin; report it there."
            )
        found.setdefault(tensor, {})[request] = None
    return {tensor: tuple(wanted) for tensor, wanted in found.items()}


def bytes_of(graph: Graph, requests: Mapping[str, tuple[StatisticsRequest, ...]]) -> dict[str, int]:
    """Bytes that each tensor takes with its statistics, by what layers take of it."""
    channels: dict[str, int] = {}
    for node in graph:
        for _, port in node.weights:
            if port.constant is not None and port.layout is not None and port.layout.reduction_axes:
                size = graph.constants[port.constant].shape[port.layout.reduction_axes[0]]
                channels.update((each.tensor, size) for each in layer_inputs(graph, port.constant))
    return {
        tensor: 4 * channels.get(tensor, 1) * _ROWS
        + sum(4 * channels.get(tensor, 1) ** 2 for request in wanted if request.kind in MATRICES)
        for tensor, wanted in requests.items()
    }


def divided(backend: Backend, model: Model, graph: Graph, tensors: Iterable[str]) -> tuple[Model, Graph] | None:
    """A model that can be cut in parts, and that does not change while this one does; and its graph.

    :param tensors: what will be looked at. The layers that take it are there, too.
    :return: ``None`` where there is no such model.
    """
    if any(node.kind is OpKind.CONTROL_FLOW or node.scope for node in graph):
        return None  # bodies take tensors from anywhere
    inserter = backend.inserter
    if isinstance(inserter, DividingInserter):
        found = inserter.divisible(model)
    else:
        found = inserter.extract(model, (), list(dict.fromkeys(_ends(graph, set(tensors)))))
    return None if found is None else (found, backend.builder.build(found))


def _tensors(graph: Graph) -> set[str]:
    return {port.tensor for node in graph for port in (*node.inputs, *node.outputs)}


def _ends(graph: Graph, tensors: set[str]) -> Iterator[TargetPoint]:
    """The layers that take tensors; of tensors that none takes, the tensors themselves."""
    taken: set[str] = set()
    for node in graph:
        own = {port.tensor for port in node.inputs if port.tensor in tensors} if node.weights else None
        if own:
            taken |= own
            yield TargetPoint(node.name)
    yield from (point_of(graph, tensor) for tensor in sorted(tensors - taken))
