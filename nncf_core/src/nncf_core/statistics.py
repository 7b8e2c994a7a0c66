"""Statistics of activations: what is asked for, and what was collected.

Memory does not grow with the number of samples, unless the tensors themselves are asked for. Two halves of a dataset
that are collected apart and merged give the same result as the whole, up to float64 rounding.
"""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from attrs import asdict, define, evolve, field, frozen

from nncf_core.aggregators import AGGREGATORS, Aggregator, Tensors, has_probability
from nncf_core.errors import StatisticsCacheError, ValidationError
from nncf_core.files import replacing, unwritable
from nncf_core.origins import Origin
from nncf_core.transformations import PointKind, TargetPoint

_VERSION = 1
_METADATA = "metadata"

_EVERY = 8
"""One item of so many is held out."""

__all__ = ["AGGREGATORS", "Aggregator", "Statistics", "StatisticsRequest"]


@frozen(cache_hash=True)
class StatisticsRequest:
    """One statistic of one tensor. Equal requests of several algorithms are collected once.

    :param target: the tensor.
    :param kind: name of the aggregator, a key of :data:`AGGREGATORS`.
    :param axis: axis that is kept; ``None`` reduces over all elements.
    :param probability: of a quantile, or the share of outliers on either side; between 0 and 1, and ``None`` for kinds
        that depend on none.
    :param batched: whether an item's tensor holds samples along its first axis, rather than being one sample. Kinds
        that speak of all elements do not depend on it.
    :param held_out: whether only every eighth item counts, see :meth:`takes`; none where there are fewer.
    :raises ValidationError: for unknown kinds, and a probability that is missing, out of range or without meaning.
    """

    target: TargetPoint
    kind: str = field()
    axis: int | None = None
    probability: float | None = field(default=None)
    batched: bool = False
    held_out: bool = False

    @kind.validator
    def _known(self, _: object, value: str) -> None:
        if value not in AGGREGATORS:
            raise ValidationError(f"Unknown statistic {value!r}; known are {', '.join(sorted(AGGREGATORS))}.")

    @probability.validator
    def _fits(self, _: object, value: float | None) -> None:
        if has_probability(self.kind) != (value is not None) or not 0 <= (value or 0) <= 1:
            wanted = "a probability between 0 and 1" if has_probability(self.kind) else "no probability"
            raise ValidationError(f"The statistic {self.kind!r} takes {wanted}, not {value!r}.")

    @property
    def key(self) -> str:
        """A stable textual key, used in files."""
        more = "" if self.probability is None else f":{self.probability!r}"
        more += (":batched" if self.batched else "") + (":held_out" if self.held_out else "")
        return f"{self.target}:{self.kind}:{'' if self.axis is None else self.axis}{more}"

    def takes(self, item: int) -> bool:
        """Whether an item of the dataset counts.

        :param item: its number, from 0.
        """
        return not self.held_out or item % _EVERY == _EVERY - 1

    def aggregator(self) -> Aggregator:
        """A new, empty aggregator for this request."""
        more: dict[str, Any] = {} if self.probability is None else {"probability": self.probability}
        if self.batched:
            more["batched"] = True
        return AGGREGATORS[self.kind](axis=self.axis, **more)


POWERS = {"mean": 1, "mean_square": 2}
"""With which power of a factor a statistic changes, when what it is of is multiplied by it."""


@define
class Statistics:
    """Aggregators by request.

    :param origin: what they are of; ``None`` where nobody said.
    :param items: number of the dataset's items that were seen; 0 where nobody counted.
    :param unseen: requests for tensors that no item brought anything for.
    """

    _aggregators: dict[StatisticsRequest, Aggregator] = field(factory=dict)
    origin: Origin | None = None
    items: int = 0
    unseen: frozenset[StatisticsRequest] = frozenset()

    def __getitem__(self, request: StatisticsRequest) -> np.ndarray:
        """The statistic.

        :raises ValidationError: when no item brought anything for it.
        """
        if request in self.unseen:
            raise ValidationError(
                f"No item of the dataset reaches {request.target}. Give data that does, or leave out the node with an "
                "ignored scope."
            )
        return self._aggregators[request].value

    def __contains__(self, request: object) -> bool:
        return request in self._aggregators

    def __iter__(self) -> Iterator[StatisticsRequest]:
        return iter(self._aggregators)

    def __len__(self) -> int:
        return len(self._aggregators)

    def aggregator(self, request: StatisticsRequest) -> Aggregator:
        """The aggregator of a request, made when it is asked for the first time."""
        if request not in self._aggregators:
            self._aggregators[request] = request.aggregator()
        return self._aggregators[request]

    def count(self, request: StatisticsRequest) -> int:
        """Number of vectors, or of samples, that a request's mean is of."""
        return int(self._aggregators[request].state.get("count", 0))

    def tensors(self, request: StatisticsRequest) -> tuple[np.ndarray, ...]:
        """What a request of the kind ``tensors`` kept: an array for each sample."""
        aggregator = self._aggregators[request]
        assert isinstance(aggregator, Tensors)
        return aggregator.tensors

    def divided(self, request: StatisticsRequest, factors: np.ndarray, target: TargetPoint) -> Statistics:
        """The means or mean squares of a tensor whose channels are divided by factors.

        :param request: of the tensor as it was, of the kind ``mean`` or ``mean_square``.
        :param factors: one for each channel.
        :param target: where the tensor will be.
        """
        state = self._aggregators[request].state
        found = type(self)({}, self.origin, self.items)
        moved = evolve(request, target=target)
        divisors = np.power(factors, POWERS[request.kind], dtype=np.float64)
        found.aggregator(moved).restore({**state, "sum": state["sum"] / divisors})
        return found

    def reached(self, requests: Iterable[StatisticsRequest]) -> Statistics:
        """Those of some requests that items brought something for; the others are :attr:`unseen`."""
        kept = {each: self._aggregators[each] for each in requests if each in self and self._aggregators[each].state}
        return type(self)(kept, self.origin, self.items, frozenset(each for each in requests if each not in kept))

    def renewed(self, later: Statistics) -> Statistics:
        """These and later ones; of requests in both, the later."""
        joined = {**self._aggregators, **later._aggregators}
        unseen = (self.unseen | later.unseen).difference(joined)
        return type(self)(joined, later.origin or self.origin, later.items or self.items, unseen)

    def of(self, requests: Collection[StatisticsRequest]) -> Statistics:
        """Those of some requests, as far as they are there."""
        kept = {request: found for request, found in self._aggregators.items() if request in requests}
        return type(self)(kept, self.origin, self.items, self.unseen.intersection(requests))

    def merge(self, other: Statistics) -> None:
        """Take into account what was collected elsewhere.

        :raises StatisticsCacheError: when it is of something else.
        """
        if self.origin is not None and other.origin is not None:
            difference = self.origin.difference(other.origin)
            if difference is not None:
                raise StatisticsCacheError(
                    f"The statistics to merge are of something else: {difference}. "
                    "Collect both with the same model and config."
                )
        self.origin = self.origin or other.origin
        self.items += other.items
        self.unseen = (self.unseen - other._aggregators.keys()) | (other.unseen - self._aggregators.keys())
        for request, aggregator in other._aggregators.items():
            self.aggregator(request).merge(aggregator)

    def arrays(self) -> dict[str, np.ndarray]:
        """All states as one flat mapping, e.g. for ``numpy.savez``."""
        return {
            f"{request.key}|{part}": array
            for request, aggregator in self._aggregators.items()
            for part, array in aggregator.state.items()
        }

    def restore(self, requests: tuple[StatisticsRequest, ...], arrays: Mapping[str, np.ndarray]) -> None:
        """Take over stored states for the given requests.

        :raises StatisticsCacheError: when a request has no stored state.
        """
        for request in requests:
            prefix = f"{request.key}|"
            state = {k[len(prefix) :]: v for k, v in arrays.items() if k.startswith(prefix)}
            if not state:
                raise StatisticsCacheError(f"The stored statistics hold nothing for {request.key}.")
            self.aggregator(request).restore(state)

    def save(self, path: Path | str) -> Path:
        """Write a file, aside first and then renamed.

        :param path: the file, whose name ends in ``.npz``; or a folder, which is made when it does not exist, for a
            file ``<algorithm>-<round>.npz``, where the pipeline looks for it.
        :return: the file.
        :raises StatisticsCacheError: when they do not say what they are of.
        :raises InvalidPathError: when the file cannot be written.
        """
        if self.origin is None:
            raise StatisticsCacheError(
                "These statistics do not say what they are of, so that no file may hold them: save those that "
                "nncf_core.pipeline.collect_statistics gives."
            )
        file = file_in(Path(path), self.origin.algorithm, self.origin.round_index)
        metadata = {
            "version": _VERSION,
            **asdict(self.origin),
            "items": self.items,
            "requests": [_described(request) for request in self],
            "unseen": sorted((_described(request) for request in self.unseen), key=str),
        }
        arrays = {_METADATA: np.frombuffer(json.dumps(metadata).encode(), np.uint8)}
        for index, aggregator in enumerate(self._aggregators.values()):
            arrays |= {f"{index}.{part}": array for part, array in aggregator.state.items()}
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            with replacing(file) as temporary, temporary.open("wb") as opened:
                np.savez(opened, **arrays)  # type: ignore[arg-type]
        except OSError as error:
            raise unwritable(file, error, "statistics to") from None
        return file

    @classmethod
    def load(cls, path: Path | str) -> Statistics:
        """Read a file that :meth:`save` wrote.

        :param path: the file, or a folder that holds one.
        :raises StatisticsCacheError: when there is none, or it is broken.
        """
        file = Path(path)
        if file.is_dir():
            found = sorted(file.glob("*.npz"))
            if len(found) != 1:
                names = ", ".join(each.name for each in found) or "none"
                raise StatisticsCacheError(
                    f"{file} must hold one file of statistics, or give its name; it holds {names}."
                )
            file = found[0]
        try:
            with file.open("rb") as opened, np.load(opened, allow_pickle=False) as stored:
                arrays = {name: stored[name] for name in stored.files}
            return cls._read(json.loads(arrays.pop(_METADATA).tobytes()), arrays)
        except FileNotFoundError:
            raise StatisticsCacheError(
                f"There is no file of statistics {file}; correct its name, or collect them."
            ) from None
        except (OSError, EOFError, LookupError, TypeError, ValueError, zipfile.BadZipFile, zlib.error) as error:
            raise StatisticsCacheError(f"{file} does not hold readable statistics: {error}. Remove it.") from None

    @classmethod
    def _read(cls, metadata: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Statistics:
        if metadata["version"] != _VERSION:
            raise ValueError(f"its version is {metadata['version']}, not {_VERSION}")
        parts = {name: metadata[name] for name in ("framework", "algorithm", "round_index", "constants")}
        unseen = frozenset(_request(described) for described in metadata.get("unseen", ()))
        found = cls(origin=Origin(nodes=tuple(metadata["nodes"]), **parts), items=int(metadata["items"]), unseen=unseen)
        for index, described in enumerate(metadata["requests"]):
            prefix = f"{index}."
            state = {name.removeprefix(prefix): a for name, a in arrays.items() if name.startswith(prefix)}
            if not state:
                raise ValueError(f"arrays of the request {index} are missing")
            found.aggregator(_request(described)).restore(state)
        return found


def file_in(path: Path, algorithm: str, round_index: int) -> Path:
    """The file of a round's statistics: the path itself where it names a file, or one in a folder."""
    return path if path.suffix == ".npz" else path / f"{algorithm}-{round_index}.npz"


_FIELDS = ("kind", "axis", "probability", "batched", "held_out")


def _described(request: StatisticsRequest) -> dict[str, Any]:
    target = request.target
    return {
        "target": [target.node, target.kind.value, target.port],
        **{name: getattr(request, name) for name in _FIELDS},
    }


def _request(described: Mapping[str, Any]) -> StatisticsRequest:
    node, kind, port = described["target"]
    # files of before there was a field lack it
    more = {name: described[name] for name in _FIELDS if name in described}
    return StatisticsRequest(TargetPoint(node, PointKind(kind), port), **more)
