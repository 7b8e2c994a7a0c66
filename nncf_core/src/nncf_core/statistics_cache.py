"""Statistics that a run finds in a folder, or leaves there for the next."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Generic, TypeVar

from attrs import define, frozen

from nncf_core.errors import StatisticsCacheError
from nncf_core.graph import Graph
from nncf_core.origins import Origin
from nncf_core.statistics import Statistics, StatisticsRequest, file_in

T = TypeVar("T")


@frozen
class StatisticsCache:
    """The file of a round's statistics, and what they must be of."""

    file: Path
    origin: Origin

    @classmethod
    def of(cls, path: Path | None, graph: Graph, algorithm: str, round_index: int) -> StatisticsCache | None:
        """The cache of a round; ``None`` where no path is given."""
        if path is None:
            return None
        return cls(file_in(path, algorithm, round_index), Origin.of(graph, algorithm, round_index))

    def read(self, requests: Sequence[StatisticsRequest], most: int | None, least: int | None) -> Statistics:
        """The statistics.

        :param most: how many items they may be of; ``None``: any number.
        :param least: how many items they must be of at least; ``None``: any number.
        :raises StatisticsCacheError: when they are of something else, of other items, or not those that are asked for.
        """
        found = Statistics.load(self.file)
        assert found.origin is not None
        difference = self.origin.difference(found.origin)
        if difference is None and most is not None and found.items > most:
            difference = f"they are of {found.items} items of a dataset, subset_size is {most}"
        if difference is None and least is not None and found.items < least:
            difference = f"they are of {found.items} items of a dataset, {least} are wanted"
        missing = [request.key for request in requests if request not in found and request not in found.unseen]
        if difference is None and missing:
            difference = f"they lack {missing[0]}{f' and {len(missing) - 1} more' if missing[1:] else ''}"
        if difference is not None:
            raise StatisticsCacheError(
                f"The statistics in {self.file} are not those of this run: {difference}. Remove the file to collect "
                "them anew, or give another statistics_path."
            )
        return found

    def write(self, statistics: Statistics) -> None:
        """Leave statistics there.

        :raises InvalidPathError: when the file cannot be written.
        """
        statistics.origin = self.origin
        statistics.save(self.file)


@define
class Counted(Generic[T]):
    """Items, and how many of them were taken."""

    _items: Iterable[T]
    count: int = 0

    def __iter__(self) -> Iterator[T]:
        for item in self._items:
            self.count += 1
            yield item
