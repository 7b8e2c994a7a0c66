"""What the tests of an algorithm share: running it, step by step, on the toy backend."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from functools import partial
from itertools import islice
from typing import Any, ClassVar

import numpy as np
from attrs import frozen

from nncf_core.contracts import Algorithm, CompressionRequest, Context, Runner, samples
from nncf_core.graph import Constant, Graph
from nncf_core.numerics.formats import FORMATS
from nncf_core.statistics import Statistics, StatisticsRequest
from nncf_core.structuring import structure
from nncf_core.testing.cases import ModelCase
from nncf_core.testing.numpy_backend.aggregator import NumpyStatisticsAggregator
from nncf_core.testing.numpy_backend.builder import NumpyGraphBuilder
from nncf_core.testing.numpy_backend.inserter import NumpyTargetPointInserter
from nncf_core.testing.numpy_backend.model import NumpyModel
from nncf_core.testing.numpy_backend.samples import all_samples
from nncf_core.testing.suite import ConformanceError, Suite, expect, registry_with
from nncf_core.transformations import TargetPoint, Transformation


@frozen
class SectionArgument:
    """A config section, shown as its keys and values."""

    section: Mapping[str, Any]

    def __str__(self) -> str:
        return ",".join(f"{key}={value}" for key, value in self.section.items()) or "defaults"


@frozen
class Round:
    """What an algorithm did in a round.

    :param graph: the model at its beginning.
    """

    graph: Graph
    requests: tuple[StatisticsRequest, ...]
    edits: tuple[Transformation, ...]


class OnlyAsked(Statistics):
    """Statistics that answer what was requested, in this round or earlier, and nothing else."""

    def __getitem__(self, request: StatisticsRequest) -> np.ndarray:
        if request not in self:
            raise ConformanceError(
                f"transformations() read the statistic {request.key}, which requests() did not ask for"
            )
        return super().__getitem__(request)


class AlgorithmSuite(Suite):
    """An algorithm, config sections, and models to run it on."""

    algorithm: ClassVar[str]
    """Name of the algorithm."""

    plugin: ClassVar[object | None] = None
    """Module or object with the algorithm's hook; ``None``: an installed plugin brings it."""

    def sections(self) -> Sequence[Mapping[str, Any]]:
        """Config sections, without the key ``algorithm``, to try the algorithm with."""
        return ({},)

    def cases(self) -> Sequence[ModelCase]:
        """Models of the toy framework."""
        return all_samples()

    def arguments(self) -> Mapping[str, Sequence[Any]]:
        """Cases and sections."""
        return {"case": self.cases(), "section": [SectionArgument(section) for section in self.sections()]}

    @property
    def subject(self) -> Algorithm:
        """The algorithm under test."""
        known = registry_with(self.plugin).algorithms
        expect(
            self.algorithm in known,
            f"no plugin provides the algorithm {self.algorithm!r}; there are {sorted(known)}. Set `algorithm`, and "
            "`plugin` when it is not installed.",
        )
        return known[self.algorithm]

    def parameters_of(self, section: Mapping[str, Any]) -> Any:
        """An instance of the algorithm's parameters, as the pipeline makes it."""
        return structure(dict(section), self.subject.parameters, f"compression.{self.algorithm}")

    def run(
        self,
        model: NumpyModel,
        section: Mapping[str, Any],
        feeds: Sequence[Mapping[str, np.ndarray]],
        *,
        executor: Executor | None = None,
        ignored: frozenset[str] = frozenset(),
        refuse_all: bool = False,
    ) -> tuple[list[Round], NumpyModel]:
        """Run all rounds on a model, as the pipeline does; the model is not changed."""
        algorithm, params = self.subject, self.parameters_of(section)
        builder = NumpyGraphBuilder()
        # edits are carried out even where they are refused: a test looks at what was asked for
        inserter, asked = NumpyTargetPointInserter(), NumpyTargetPointInserter(frozenset(FORMATS if refuse_all else ()))
        working = builder.open(model, {})
        rounds: list[Round] = []
        graph = builder.build(working)
        statistics: Statistics = OnlyAsked()
        while len(rounds) < algorithm.rounds(graph, params):
            context = Context(
                executor,
                ignored=ignored,
                refusal=partial(_refusal, asked, graph),
                quantization_setup=inserter.quantization_setup,
                takes_bias=partial(inserter.takes_bias, working, graph),
                part=partial(_part, inserter, working),
                has_data=bool(feeds),
                takes_low_rank=partial(inserter.takes_low_rank, working, graph),
                shaped=partial(inserter.shaped, working, graph),
                trial=partial(inserter.trial, working, graph),
            )
            requests = tuple(algorithm.requests(graph, params, context, len(rounds)))
            if requests:
                items = islice(feeds, samples(algorithm, params, len(rounds)))
                statistics = statistics.renewed(NumpyStatisticsAggregator().collect(working, graph, requests, items))
            edits = tuple(algorithm.transformations(graph, statistics, params, context, len(rounds)))
            working = inserter.apply(working, graph, edits, {})
            rounds.append(Round(graph, requests, edits))
            graph = builder.build(working)
        return rounds, working


def _part(
    inserter: NumpyTargetPointInserter, model: NumpyModel, inputs: Sequence[TargetPoint], outputs: Sequence[TargetPoint]
) -> Runner:
    run, names = inserter.runner(inserter.extract(model, inputs, outputs)), frozenset(map(str, inputs))
    return lambda feed: run({name: array for name, array in feed.items() if name in names})


def _refusal(
    inserter: NumpyTargetPointInserter, graph: Graph, constant: Constant, request: CompressionRequest
) -> str | None:
    return inserter.refusal(graph, constant, request, {})
