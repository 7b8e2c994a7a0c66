"""A certificate: a model as it was written does in its own runtime what the edits of its run say.

Four checks, each on the file as it is opened again:

- *stored*: constants hold the codes, scales, zero points and numbers of the edits bit for bit, all others those of the
  original;
- *run*: the runtime takes the model, and gives finite numbers that depend on the input where the original does;
- *quantizers*: each gives what our own arithmetic makes of its input;
- *layers*: each layer with a compressed weight gives what it gives with the numbers that the codes stand for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from attrs import asdict, define, evolve, frozen

from nncf_core.contracts import Model
from nncf_core.dataset import Dataset
from nncf_core.demands import inserted_by
from nncf_core.errors import (
    NNCFError,
    UnsupportedDatasetError,
    UnsupportedModelError,
    ValidationError,
    VerificationError,
    sentence,
)
from nncf_core.graph import Graph
from nncf_core.holding import held
from nncf_core.made_inputs import made_inputs
from nncf_core.misfits import InputType, by_runtime, misfit, renumbered, type_of
from nncf_core.observing import Observation
from nncf_core.progress import Progress, SilentProgress
from nncf_core.registry import Backend, registry
from nncf_core.rounds import prepared
from nncf_core.running import Look, feeds_of, output_points, room_for
from nncf_core.transformations import TargetPoint
from nncf_core.verifying import UncheckedError, check_layers, check_quantizers, chosen_layers, layers_of, places_of

ITEMS = 2
"""Items of a dataset that models are run on."""

RANDOM = "on random inputs"
"""How a model was run of which nobody gave data."""

_AHEAD = 256 << 20
"""Bytes of tensors that are looked at together."""

_TOO_LARGE = "too large to be run in the memory that is free"

_FAILURES = (NNCFError, RuntimeError, MemoryError)
"""What running a model may raise."""


@frozen
class Check:
    """One check.

    :param name: ``stored``, ``run``, ``quantizers`` or ``layers``.
    :param passed: ``None``: it could not be made.
    :param text: what was found, or why it could not be made.
    """

    name: str
    passed: bool | None
    text: str


@frozen
class Certificate:
    """What verification found.

    :param snr: of the outputs against those of the original model, in dB, the worst; ``None`` where it is not known.
    """

    checks: tuple[Check, ...]
    snr: float | None = None

    @property
    def passed(self) -> bool:
        """Whether nothing was found to be wrong."""
        return all(check.passed is not False for check in self.checks)

    @property
    def faults(self) -> tuple[str, ...]:
        """What is wrong."""
        return tuple(check.text for check in self.checks if check.passed is False)

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {"passed": self.passed, "snr": self.snr, "checks": [asdict(check) for check in self.checks]}

    def __str__(self) -> str:
        """Lines for people."""
        words = {True: "yes", False: "NO", None: "not checked"}
        return "\n".join(f"{check.name}: {words[check.passed]}, {check.text}" for check in self.checks)


def verify(
    original: Model | Path,
    emitted: Path,
    notes: Observation,
    dataset: Dataset[Any, Any] | None = None,
    progress: Progress | None = None,
) -> Certificate:
    """Check a model that a run has written.

    :param original: what the run was given.
    :param notes: of the run, made with ``verifies``.
    :param dataset: the model is run on its first items; without one on :func:`~nncf_core.made_inputs.made_inputs`.
    :raises UnsupportedDatasetError: when the original does not run on one of these items.
    """
    backend = registry().backend_for(emitted)
    progress = progress or SilentProgress()
    try:
        model = backend.builder.open(emitted, {})
        graph = backend.builder.build(model)
    except NNCFError as error:
        return Certificate((Check("run", False, f"the written model cannot be opened: {error}"),))
    before = _Original(backend, original)
    checks = [_stored(graph, notes, before)]
    items, origin = _items(graph, dataset)
    obstacle = _obstacle(backend, graph, items)
    layers, places = layers_of(graph), places_of(graph, notes.quantizers)
    chosen = chosen_layers(layers)
    look = Look(backend, model, graph, items if obstacle is None else ())
    of_layers = partial(check_layers, look, chosen, len(layers), progress)
    if obstacle is not None:
        return Certificate((*checks, Check("run", None, obstacle), _made("layers", of_layers)))
    points = [point for place in places for point in (place.before, place.after)]
    points += [point for layer in chosen for point in layer.points]
    run, snr = _run(look, points, before, origin)
    checks.append(run)
    if run.passed:
        if notes.quantizers:
            checks.append(_made("quantizers", partial(check_quantizers, look, places, len(notes.quantizers))))
        checks.append(_made("layers", of_layers))
    # a layer that is as it should be may lose everything at two bits; factors and biases are no layers' own; what a run
    # without codes and quantizers takes away, such as channels, is meant
    known = checks[-1].passed is not None and not notes.rewrites
    rounds = bool(layers or notes.demands.compresses or notes.quantizers)
    if snr is not None and snr < 0 and origin != RANDOM and rounds and not known:
        checks[1] = evolve(run, passed=False)
    return Certificate(tuple(checks), snr)


def _made(name: str, check: Callable[[], tuple[str | None, str]]) -> Check:
    """A check of parts, which some models cannot be divided in."""
    try:
        fault, text = check()
    except MemoryError:
        return Check(name, None, f"they are {_TOO_LARGE}")
    except UncheckedError as error:
        return Check(name, None, str(error))
    except Exception as error:  # a backend need not take its own parts for models
        return Check(name, None, f"parts of the model cannot be run alone: {error}")
    return Check(name, None if not text else fault is None, fault or text or "there are none")


@define
class _Original:
    """The model that a run was given, opened when it is asked for."""

    backend: Backend
    source: Model | Path

    def edited(self, notes: Observation) -> Graph:
        """As it was before the first edit."""
        builder, options = self.backend.builder, notes.options
        model = builder.open(self.source, options)
        return builder.build(prepared(self.backend, model, options) if notes.prepared else model)

    def shows(self, notes: Observation) -> bool:
        """Whether the backend's graph shows the numbers that an edit of the run brings, once it is made here."""
        builder, edit = self.backend.builder, notes.demands.example
        if edit is None:
            return False
        model = builder.open(self.source, notes.options)
        model = prepared(self.backend, model, notes.options) if notes.prepared else model
        graph = builder.build(model)
        known = set(graph.constants)
        try:
            after = builder.build(self.backend.inserter.apply(model, graph, [edit], notes.options))
        except NNCFError:  # it was made behind others
            return False
        new = [constant for name, constant in after.constants.items() if name not in known]
        return any(each.is_in(constant) for each in inserted_by(edit) for constant in new)

    def look(self, items: Sequence[Any]) -> Look:
        """At it on some items."""
        model = self.backend.builder.open(self.source, {})
        return Look(self.backend, model, self.backend.builder.build(model), items)

    @property
    def name(self) -> str:
        """For people."""
        return str(self.source) if isinstance(self.source, Path) else "the original model"


def _stored(graph: Graph, notes: Observation, before: _Original) -> Check:
    """Whether constants hold what the edits say, and all others what they held."""
    found = held(notes.demands, graph, before.edited(notes))
    if found.fault is not None:
        return Check("stored", False, found.fault)
    if found.unseen and before.shows(notes):
        return Check(
            "stored", False, f"{notes.demands.inserted[0].what} was not written, nor were others that edits brought"
        )
    return Check("stored", None if found.renamed else True, str(found))


def _items(graph: Graph, dataset: Dataset[Any, Any] | None) -> tuple[list[Any], str]:
    """What to run on, and what it is."""
    if dataset is not None:
        items = list(islice(dataset.get_inference_data(), ITEMS))
        return items, f"on {len(items)} items of the dataset"
    made = made_inputs(graph)
    return ([] if made is None else [made]), RANDOM


def _obstacle(backend: Backend, graph: Graph, items: Sequence[Any]) -> str | None:
    """Why a model is not run."""
    if backend.aggregator is None:
        return f"no installed plugin runs {backend.builder.title} models"
    if not items:
        return "nothing is known of the shape of an input: give --dataset"
    if not room_for(graph):
        return f"the model is {_TOO_LARGE}"
    return None


def _run(look: Look, points: Sequence[TargetPoint], original: _Original, origin: str) -> tuple[Check, float | None]:
    """Whether the runtime takes the model and what it gives is any good.

    :param points: that will be looked at.
    """
    title = look.backend.builder.title
    try:
        _look_ahead(look, points)
        given = look.outputs()
    except _FAILURES as error:
        if isinstance(error, MemoryError):
            return Check("run", None, f"the model is {_TOO_LARGE}"), None
        reference = original.look(look.items)
        if not room_for(reference.graph):
            return Check("run", None, f"it does not run, and the original is {_TOO_LARGE}: {error}"), None
        if _outputs(reference) is not None:
            return Check("run", False, f"{title} runs the original, but not what was written: {error}"), None
        if origin != RANDOM:
            _raise_for_item(reference, original.name)
        if isinstance(error, UnsupportedDatasetError):
            return Check("run", None, "the model does not run on random inputs: give --dataset"), None
        return Check("run", None, f"the original does not run either: {error}"), None
    # most runtimes take longer to load a model than data-free methods to compress it: on random inputs, whose ratio
    # says little, the original is run in case of doubt
    if origin == RANDOM and not any(map(_doubtful, given)):
        return _compared(given, None, origin)
    reference = original.look(look.items)
    if not room_for(reference.graph):
        return _compared(given, None, origin)
    expected = _outputs(reference)
    if expected is None and origin != RANDOM:
        _raise_for_item(reference, original.name)
    return _compared(given, expected, origin)


def _raise_for_item(reference: Look, name: str) -> None:
    """Name the first item that the original does not run on.

    :raises UnsupportedDatasetError: when there is one.
    :raises UnsupportedModelError: when the runtime does not take the original, whatever it is given.
    """
    expected = {each: type_of(port) for each, port in feeds_of(reference.graph).items()}
    for index, item in enumerate(reference.items):
        try:
            evolve(reference, items=[item], seen={}).outputs()
        except MemoryError:
            return
        except _FAILURES as error:
            if isinstance(error, UnsupportedModelError):
                raise UnsupportedModelError(
                    f"{name} cannot be run on any item, so that the dataset is not at fault. {sentence(error)} Correct "
                    "the model, or export it again."
                ) from error
            message = renumbered(str(error), index)
            if isinstance(error, UnsupportedDatasetError) and message.startswith("Item "):
                raise UnsupportedDatasetError(message) from error.__cause__
            given = {each: InputType.of(array) for each, array in item.items()} if isinstance(item, Mapping) else {}
            raise misfit(index, given, expected, by_runtime(error), name) from error


def _doubtful(arrays: Mapping[str, np.ndarray]) -> bool:
    """Whether outputs hold what is not finite, or one number only."""
    floats = [array.astype(np.float64) for array in arrays.values() if array.dtype.kind in "fV" and array.size]
    return any(not np.isfinite(array).all() or (array.size > 1 and np.ptp(array) == 0) for array in floats)


def _look_ahead(look: Look, points: Sequence[TargetPoint]) -> None:
    outputs = output_points(look.graph).values()
    try:
        look.ahead([*outputs, *points], _AHEAD)
    except ValidationError:  # some point cannot be looked at
        look.ahead(outputs, _AHEAD)


def _outputs(look: Look) -> Outputs | None:
    """What a model gives; ``None`` where it does not run."""
    try:
        return look.outputs()
    except _FAILURES:
        return None


Outputs: TypeAlias = list[dict[str, np.ndarray]]
"""For each item arrays by name."""


def _compared(given: Outputs, expected: Outputs | None, origin: str) -> tuple[Check, float | None]:
    """Whether outputs are any good, and how near they come to those of the original."""
    ratios: list[float] = []
    overflown: str | None = None
    for index, arrays in enumerate(given):
        for name, array in arrays.items():
            reference = _reference(name, arrays, None if expected is None else expected[index])
            if array.dtype.kind not in "fV" or not array.size:
                continue
            values = array.astype(np.float64)
            usual = reference is None or bool(np.isfinite(reference).all())
            if not np.isfinite(values).all():
                if usual:
                    return Check("run", False, f"the output {name!r} holds NaN or infinite numbers {origin}"), None
                overflown = name
            elif reference is not None and usual and reference.shape == values.shape:
                if np.ptp(values) == 0 and np.ptp(reference) > 0:
                    return Check("run", False, f"the output {name!r} is {values.flat[0]:.6g} everywhere {origin}"), None
                ratios.append(_snr(reference, values))
    if overflown is not None:
        text = f"it runs {origin}; the output {overflown!r} holds NaN or infinite numbers, as that of the original does"
        return Check("run", True, text), min(ratios, default=None)
    if not ratios:
        return Check("run", True, f"it runs {origin}"), None
    worst = min(ratios)
    if not np.isfinite(worst):
        return Check("run", True, f"it runs {origin}, and its outputs are those of the original"), None
    shown = f"it runs {origin}, its outputs have {worst:.1f} dB"
    return Check("run", True, shown if worst >= 0 else f"{shown}: more error than signal"), worst


def _reference(name: str, arrays: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray] | None) -> Any:
    """The original's output of a name, or its only one."""
    if expected is None:
        return None
    found = expected.get(name)
    if found is None and len(arrays) == len(expected) == 1:
        found = next(iter(expected.values()))
    return None if found is None else found.astype(np.float64)


def _snr(reference: np.ndarray, values: np.ndarray) -> float:
    """``10·log10(Σ y² / Σ (y − ŷ)²)``."""
    noise = float(((reference - values) ** 2).sum())
    return float("inf") if noise == 0 else 10 * float(np.log10(max(float((reference**2).sum()), 1e-300) / noise))


def raise_faults(certificate: Certificate, path: Path) -> None:
    """Say what is wrong, where something is.

    :param path: what was to be written.
    :raises VerificationError: when something is.
    """
    if not certificate.passed:
        raise VerificationError(
            f"{path} was not written, since it failed its verification: {'; '.join(certificate.faults)}. Report this "
            "with the config; --no-verify writes the model all the same."
        )
