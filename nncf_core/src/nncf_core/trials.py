"""Models with some of a section's edits, for an algorithm that decides which of them are kept.

A trial is the user's model, prepared and edited anew. So an edit that is left out leaves no trace, on every backend.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from attrs import evolve, field, frozen

from nncf_core.concluding import concluded
from nncf_core.contracts import Context, Model, TunableAlgorithm, quantizes, samples, traces
from nncf_core.controlling import ControllingAlgorithm, DeployingInserter, Validation
from nncf_core.errors import UnsupportedBackendError, UnsupportedDatasetError, ValidationError
from nncf_core.files import unwritable
from nncf_core.graph import Graph
from nncf_core.log import without_repetition
from nncf_core.rounds import Consumer, Run, prepared, requests_of
from nncf_core.sections import Step
from nncf_core.statistics import Statistics, StatisticsRequest
from nncf_core.transformations import Transformation, point_of

_CHUNK = 64 << 20
"""Bytes of outputs that are held at a time."""


def decided(
    run: Run, source: Model | Path, steps: Sequence[Step], control: Step, validation: Validation | None
) -> Trial:
    """What a controlling step makes of the edits of the steps before it.

    :raises ValidationError: when there is no validation function.
    """
    if validation is None:
        raise ValidationError(
            f"Algorithm {control.algorithm.name!r} needs a metric: pass validation=Validation(function, dataset), see "
            "nncf_core.controlling, or call nncf.quantize_with_accuracy_control."
        )
    assert isinstance(control.algorithm, ControllingAlgorithm)
    trials = Trials.of(run, source, tuple(steps), validation)
    context = Context(run.executor, run.progress, note=run._note, quantization_setup=run._setup)
    with without_repetition():
        return control.algorithm.controlled(trials, control.params, context)


@frozen(eq=False)
class _Sharing(Run):
    """A run that collects no statistics twice that runs with other parameters have, too.

    :param known: statistics by what they are of.
    :param sections: all steps of the run, in order.
    :param others: parameters that later runs will have, by algorithm; what they ask for is collected along.
    """

    looks_ahead: ClassVar[bool] = False
    known: dict[tuple[Any, ...], Statistics] = field(factory=dict)
    sections: tuple[Step, ...] = ()
    others: dict[str, tuple[Any, ...]] = field(factory=dict)

    def _collected(
        self,
        step: Step,
        requests: tuple[StatisticsRequest, ...],
        model: Model,
        graph: Graph,
        context: Context,
        index: int,
    ) -> Statistics:
        if step.statistics_path is not None:
            return Run._collected(self, step, requests, model, graph, context, index)
        place = self.sections.index(step)
        before = tuple((each.algorithm.name, repr(each.params)) for each in self.sections[:place])
        size = samples(step.algorithm, step.params, index)
        key = (before, step.algorithm.name, repr(step.params) if index else "", index, size)
        found = self.known.setdefault(key, Statistics())
        missing = [request for request in requests if request not in found]
        if missing:
            for params in self.others.get(step.algorithm.name, ()) if not index else ():
                if samples(step.algorithm, params, index) == size:
                    missing += requests_of(evolve(step, params=params), graph, context, index)
            wanted = tuple(request for request in dict.fromkeys(missing) if request not in found)
            found = self.known[key] = found.renewed(Run._collected(self, step, wanted, model, graph, context, index))
        return found.of(frozenset(requests))


@frozen(eq=False)
class Trials:
    """Edits of the sections of a run, and what makes models of them.

    :param source: the user's model, or the path of one.
    :param sections: the steps that edit; trials differ in edits of the last.
    :param rounds: algorithm, graph before, and edits of each round of each section.
    """

    run: _Sharing
    source: Model | Path
    sections: tuple[Step, ...]
    validation: Validation
    rounds: tuple[tuple[str, Graph, tuple[Transformation, ...]], ...]

    @classmethod
    def of(cls, run: Run, source: Model | Path, sections: tuple[Step, ...], validation: Validation) -> Trials:
        """Run all sections, and keep their edits.

        :param run: where it is one of :meth:`rerun`, its statistics are used.
        """
        shared = run if isinstance(run, _Sharing) else _Sharing(**_fields(run))
        shared = evolve(shared, sections=sections)
        rounds: list[tuple[str, Graph, tuple[Transformation, ...]]] = []

        def consume(model: Model, name: str, graph: Graph, edits: Iterable[Transformation]) -> Model:
            kept = tuple(edits)
            rounds.append((name, graph, kept))
            return run.backend.inserter.apply(model, graph, kept, run.options)

        shared.execute(sections, shared.open(source), consume)
        return cls(shared, source, sections, validation, tuple(rounds))

    @property
    def algorithm(self) -> str:
        """Name of the algorithm whose edits are decided on."""
        return self.sections[-1].algorithm.name

    @property
    def graph(self) -> Graph:
        """The model before the edits that are decided on."""
        return next(graph for name, graph, _ in self.rounds if name == self.algorithm)

    @cached_property
    def edits(self) -> tuple[Transformation, ...]:
        """All edits of the last section, in order."""
        return tuple(edit for name, _, edits in self.rounds if name == self.algorithm for edit in edits)

    @property
    def length(self) -> int:
        """Number of items to validate on; counted where the dataset does not tell."""
        length = self.validation.dataset.get_length()
        length = sum(1 for _ in self.validation.dataset.get_data()) if length is None else length
        if length == 0:
            raise UnsupportedDatasetError("The validation dataset has no items; the metric needs at least one.")
        return length

    @property
    def is_parallel(self) -> bool:
        """Whether several models may be made at a time: what is traced runs in the process, one after the other."""
        return not traces(self.run.backend.builder)

    def trial(self, dropped: frozenset[int] = frozenset()) -> Trial:
        """The model without some edits.

        :param dropped: indices in :attr:`edits`.
        """
        return Trial(self, dropped)

    def original(self) -> Trial:
        """The model that the user gave."""
        return Trial(self, is_original=True)

    def rerun(self, changes: Mapping[str, Any]) -> Trials:
        """The same with other parameters.

        :param changes: parameters by the algorithm's name.
        """
        # files hold what the given parameters ask for
        sections = tuple(
            evolve(step, params=changes[step.algorithm.name], statistics_path=None)
            if step.algorithm.name in changes
            else step
            for step in self.sections
        )
        return Trials.of(self.run, self.source, sections, self.validation)

    def known_nodes(self) -> frozenset[str]:
        """Names of the nodes of the user's model, which it may have others than once it is prepared and edited."""
        return frozenset(node.name for node in self.run.backend.builder.build(self.original().model()))

    def announce(self) -> None:
        """Say that :meth:`rerun` will be called with alternatives, so that one pass collects for all of them."""
        for step in self.sections:
            if isinstance(step.algorithm, TunableAlgorithm):
                found = step.algorithm.alternatives(step.params).values()
                self.run.others[step.algorithm.name] = tuple(params for each in found for params in each)

    def save(self, trial: Trial, folder: Path, stem: str) -> Path:
        """Write a model into a folder, which is made when it does not exist.

        :raises InvalidPathError: when it cannot be written.
        """
        path = folder / f"{stem}{self.run.backend.builder.suffixes[0]}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise unwritable(path, error) from None
        self.run.backend.builder.save(trial.model(), path)
        return path


def _fields(run: Run) -> dict[str, Any]:
    return {
        name: getattr(run, name)
        for name in ("backend", "options", "dataset", "executor", "progress", "registry", "notes", "work_dir")
    }


@frozen(eq=False)
class Trial:
    """A model with some of the edits.

    :param dropped: indices in :attr:`Trials.edits` of those that it lacks.
    :param is_original: whether it is the user's own, without edits of any section.
    """

    trials: Trials
    dropped: frozenset[int] = frozenset()
    is_original: bool = False

    def rounds(self) -> Iterator[tuple[str, tuple[Transformation, ...]]]:
        """Algorithm and edits of each round."""
        index = 0
        for name, _, edits in () if self.is_original else self.trials.rounds:
            if name != self.trials.algorithm:
                yield name, edits
                continue
            yield name, tuple(edit for at, edit in enumerate(edits, index) if at not in self.dropped)
            index += len(edits)

    def carried_out(self, working: Model, consume: Consumer) -> tuple[Model, Graph]:
        """Edit a working model of the source; gives it, and the graph before the first edit.

        :param consume: carries out the edits of a round.
        """
        run = self.trials.run
        if not self.is_original and any(quantizes(step.algorithm) for step in self.trials.sections):
            working = prepared(run.backend, working, run.options)
        graph = first = run.backend.builder.build(working)
        fresh = True
        for name, edits in self.rounds():
            if edits:
                graph = graph if fresh else run.backend.builder.build(working)
                working, fresh = consume(working, name, graph, edits), False
        return working, first

    def model(self) -> Model:
        """A new working model, as the run would give it."""
        changed = {name for name, edits in self.rounds() if edits}
        return concluded(self.trials.run, self.trials.sections, self._edited(), changed)

    def _edited(self) -> Model:
        run = self.trials.run
        working, _ = self.carried_out(run.open(self.trials.source), run._apply)
        return working

    def exported(self) -> Model:
        """A model of the kind that the user gave."""
        return self.trials.run.backend.builder.export(self.model(), self.trials.source)

    def deployed(self) -> Any:
        """The model as users run it: what the validation function gets."""
        backend = self.trials.run.backend
        try:
            working = self.model()
            if isinstance(backend.inserter, DeployingInserter):
                return backend.inserter.deployed(working)
            return backend.builder.export(working, self.trials.source)
        except Exception as error:
            left = "" if not self.dropped else f" without {len(self.dropped)} of {len(self.trials.edits)} edits"
            which = "original model" if self.is_original else f"quantized model{left}"
            error.add_note(f"This was while the {which} was made and compiled for validation_fn.")
            raise

    def outputs(self, indices: Sequence[int]) -> Iterator[tuple[np.ndarray, ...]]:
        """What the model gives for items of the validation dataset, in ascending order.

        :raises UnsupportedDatasetError: when the dataset's ``transform_func`` does not make inputs of items.
        :raises UnsupportedBackendError: when no installed plugin runs models of the framework on items.
        """
        backend, working = self.trials.run.backend, self._edited()
        if backend.aggregator is None:
            raise UnsupportedBackendError(
                f"No installed plugin runs {backend.builder.title} models on data: install one that has a statistics "
                "aggregator."
            )
        graph = backend.builder.build(working)
        tensors = sorted(tensor for tensor in graph.outputs if graph.producer(tensor) is not None)
        if not tensors:
            raise UnsupportedBackendError(
                f"Outputs of this {backend.builder.title} model cannot be looked at, since inputs are its outputs: let "
                "the validation function give numbers of items."
            )
        requests = [StatisticsRequest(point_of(graph, tensor), "tensors") for tensor in tensors]
        items = iter(self.trials.validation.dataset.get_inference_data(sorted(indices)))
        size = 1  # of the next chunk, until the first item tells how large outputs are
        while chunk := list(islice(items, size)):
            found = backend.aggregator.collect(working, graph, requests, chunk)
            arrays = [found.tensors(request) for request in requests]
            yield from zip(*arrays, strict=True)
            size = max(_CHUNK // max(sum(each[0].nbytes for each in arrays), 1), 1)
