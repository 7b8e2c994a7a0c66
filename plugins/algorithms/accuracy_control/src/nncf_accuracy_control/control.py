"""One run of accuracy control, from the first validation to the model that is given back.

The model is quantized before anything is validated, so that from then on there is a best model, whatever happens.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from attrs import define, field, frozen

from nncf_accuracy_control import sensitivity
from nncf_accuracy_control.evaluation import BadFunctionError, Evaluator, Outcome
from nncf_accuracy_control.groups import Group, count, groups_of
from nncf_accuracy_control.measures import Evidence, Measure, measure_for
from nncf_accuracy_control.parameters import ControlSettings
from nncf_accuracy_control.ranking import Ranked, ranked
from nncf_accuracy_control.search import Prediction, fewest, is_worth, unneeded
from nncf_accuracy_control.tuning import tuned
from nncf_core.advanced import RestoreMode
from nncf_core.contracts import Context
from nncf_core.errors import (
    NNCFError,
    UnsupportedBackendError,
    UnsupportedModelError,
    ValidationFunctionError,
    sentence,
    told,
)
from nncf_core.graph import Graph
from nncf_core.hardware import QuantizationSetup
from nncf_core.log import nncf_logger
from nncf_core.trials import Trial, Trials

_PROBED = 16
"""Items that the function is asked about twice, at most, to see whether it says the same."""

_MUCH = 1 / 3
"""Share of the metric that is lost, from which on groups are looked at alone."""

_TRIES = 16
"""Groups that are looked at once more, whether they need to be reverted beside the others."""


@frozen
class Validated:
    """A quantized model whose metric is known.

    :param reverted: indices of the groups that it lacks.
    """

    trial: Trial
    metric: float
    reverted: frozenset[int] = frozenset()


@frozen
class Ranking:
    """Groups, and how models are compared.

    :param base: the measure of the model with all edits.
    """

    order: Sequence[Ranked]
    measure: Measure
    base: float


@define
class Control:
    """What a run knows so far."""

    trials: Trials
    params: ControlSettings
    context: Context
    evaluator: Evaluator = field(init=False)
    original: Outcome | None = None
    validated: list[Validated] = field(factory=list)
    ranking: Ranking | None = None

    def __attrs_post_init__(self) -> None:
        self.evaluator = Evaluator(self.trials, self.trials.length, self.context.progress)

    def run(self) -> Trial:
        """Validate, rank, search; the best model that was validated.

        :raises ValidationFunctionError: when the function fails, or gives what is no metric, or anything else fails
            once there is a model to give back.
        :raises InvalidPathError: when a folder cannot be written to.
        """
        self._save(self.trials.trial(), "quantized")
        folder = self._report_folder() or self._intermediate_folder()
        if folder is not None:
            sensitivity.check(folder)
        try:
            self._search()
        except BadFunctionError as error:
            raise self._failure(f"validation_fn {sentence(error)}") from error.__cause__
        except KeyboardInterrupt:
            if not self.validated:
                raise
            nncf_logger.warning("Interrupted: this is the best model that was validated so far.")
        except Exception as error:
            if isinstance(error, NNCFError) and not self.validated:
                raise
            raise self._failure(f"Accuracy control fails: {told(error)}") from error
        try:
            self._conclude(self._best())
        except KeyboardInterrupt:
            nncf_logger.warning("Interrupted: the model is given back without the sensitivity report.")
        return self._best().trial

    def _search(self) -> None:
        whole = self.trials.trial()
        self.original = self.evaluator.everything(self.trials.original())
        quantized = self.evaluator.everything(whole)
        self._know(Validated(whole, quantized.metric))
        advanced, wants_report = self.params.advanced_parameters, self._report_folder() is not None
        is_enough = self._is_enough(quantized.metric)
        ranks = wants_report or not (is_enough or advanced.max_num_iterations == 0)
        self._check_function(ranks)
        if not ranks:
            return
        measure = self._measure(whole, Evidence(self.original, quantized))
        if is_enough:
            self._rank(measure)
            return
        if advanced.tune_hyperparams and self._tune(measure):
            if wants_report:
                self._rank(measure)
            return
        self._rank(measure)
        self._revert(measure)

    def _measure(self, whole: Trial, evidence: Evidence) -> Measure:
        given = self.params.advanced_parameters.ranking_subset_size
        return measure_for(self.trials, whole, evidence, self.evaluator, self.params.subset_size, given)

    def _check_function(self, ranks: bool) -> None:
        """Ask about a few items twice, or, where all of them are to be ranked on, once more about all.

        :param ranks: whether the function has to take a few, for groups will be ranked.
        :raises BadFunctionError: when it does not, or does not say the same.
        """
        assert self.original is not None
        given, items = self.params.advanced_parameters.ranking_subset_size or 0, self.evaluator.items
        number = items if given >= items else min(max(items // 20, 1), _PROBED)
        indices, deployed = range(number), self.trials.original().deployed()
        try:
            first = self.original if number == items else self.evaluator.some(deployed, indices)
            again = self.evaluator.some(deployed, indices)
        except BadFunctionError as error:
            if number == items:
                raise
            if not ranks:
                return
            raise BadFunctionError(
                f"{str(error).rstrip('.')} (on {number} of {items} items). Quantizers are ranked on few items: let it "
                "take any number of them, or set ranking_subset_size of the advanced_accuracy_restorer_parameters to "
                f"{items}, with which it always gets all."
            ) from error.__cause__
        self._same(f"{number} items", first.metric, again.metric)
        if self.original.values is not None and again.values is not None:
            for index, (a, b) in enumerate(zip(self.original.values, again.values, strict=False)):
                self._same(f"item {index}", float(a), float(b))

    def _same(self, what: str, first: float, again: float) -> None:
        tolerance = max(1e-5 * max(abs(first), abs(again)), 0.1 * self.params.max_drop)
        if abs(first - again) > tolerance:
            raise BadFunctionError(
                f"is not deterministic: for the same model and {what} it gives {first:.6g} and {again:.6g}. Fix its "
                "random seed, and do not shuffle or augment the data."
            )

    def _tune(self, measure: Measure) -> bool:
        """Try other parameters; go on with them where they are better, and tell whether they are enough."""
        before = self.validated[-1]
        base = measure.prepare(before.trial)()
        found = tuned(self.trials, measure, base, self.context)
        if not found.changed:
            self.context.note("No other parameters of quantization measure better.")
            return False
        whole = found.trials.trial()
        after = Validated(whole, self.evaluator.everything(whole).metric)
        self.context.note(f"Tuned {', '.join(found.changed)}: metric {after.metric:.6g} after {before.metric:.6g}.")
        if after.metric > before.metric:
            self._know(after)
            self.trials = found.trials
        return self._is_enough(after.metric)

    def _rank(self, measure: Measure) -> None:
        groups = self._groups()
        base = measure.prepare(self.trials.trial())()
        workers = self.params.advanced_parameters.num_ranking_workers
        assert self.original is not None
        lost = self.original.metric - self.validated[-1].metric
        alone = lost > _MUCH * abs(self.original.metric)
        order = ranked(self.trials, groups, measure, base, self._with_weights, alone, workers, self.context)
        if measure.calls:
            # after many calls, once more the first
            self._same("items", base, measure.prepare(self.trials.trial())())
        self.ranking = Ranking(order, measure, base)

    def _groups(self) -> list[Group]:
        try:
            setup = self.context.quantization_setup(str(self.params.target_device))
        except UnsupportedBackendError:
            setup = QuantizationSetup()  # weights alone
        graph: Graph = self.trials.graph
        found = groups_of(graph, self.trials.edits, setup)
        return [group for group in found if group.reverted(self._with_weights)]

    def _revert(self, measure: Measure) -> None:
        """Find the fewest groups of the ranking, verify, and give back what is not needed."""
        assert self.ranking is not None
        assert self.original is not None
        order = self.ranking.order
        if not order:
            return
        known = Prediction()
        known.add(self.ranking.base, self.validated[-1].metric)
        known.add(measure.original, self.original.metric)
        measured: dict[frozenset[int], float] = {}

        def measure_of(reverted: frozenset[int]) -> float:
            if reverted not in measured:
                measured[reverted] = measure.prepare(self._without(reverted))()
            return measured[reverted]

        def first(number: int) -> frozenset[int]:
            return frozenset(each.index for each in order[:number])

        begun, limit = self.evaluator.full, self.params.advanced_parameters.max_num_iterations
        number = fewest(
            len(order),
            limit,
            lambda n: measure_of(first(n)),
            lambda n: self._validate(first(n)),
            self._is_enough,
            known,
        )
        used = self.evaluator.full - begun
        if number is None or number < 2 or used >= limit:
            return
        idle = unneeded(
            [each.index for each in order[:number]], measure_of, lambda m: self._is_enough(known.metric(m)), _TRIES
        )
        if idle and is_worth(used, number - len(idle), len(idle), len(order)):
            self._validate(first(number) - idle)

    def _validate(self, reverted: frozenset[int]) -> float:
        trial = self._without(reverted)
        metric = self.evaluator.everything(trial).metric
        self._know(Validated(trial, metric, reverted))
        return metric

    def _without(self, reverted: frozenset[int]) -> Trial:
        assert self.ranking is not None
        groups = [each.group for each in self.ranking.order if each.index in reverted]
        return self.trials.trial(frozenset().union(*(group.reverted(self._with_weights) for group in groups)))

    def _know(self, found: Validated) -> None:
        assert self.original is not None
        self.validated.append(found)
        nncf_logger.info(
            "Validation %d: metric %.6g, drop %.6g, %d of %d quantizers.",
            self.evaluator.full,
            found.metric,
            self.params.drop(self.original.metric, found.metric),
            _kept(found.trial),
            count(found.trial.trials.edits),
        )

    @property
    def _with_weights(self) -> bool:
        return self.params.advanced_parameters.restore_mode != RestoreMode.ONLY_ACTIVATIONS

    def _is_enough(self, metric: float) -> bool:
        assert self.original is not None
        return self.params.allows(self.original.metric, metric)

    def _best(self) -> Validated:
        """The model with the most quantizers of those that are good enough; the best where none is."""
        enough = [each for each in self.validated if self._is_enough(each.metric)]
        if enough:
            return max(enough, key=lambda each: (_kept(each.trial), each.metric))
        return max(self.validated, key=lambda each: (each.metric, _kept(each.trial)))

    def _conclude(self, best: Validated) -> None:
        assert self.original is not None
        original, drop = self.original.metric, self.params.drop(self.original.metric, best.metric)
        total, kept = count(best.trial.trials.edits), _kept(best.trial)
        self.context.note(
            f"Metric {best.metric:.6g} after {original:.6g}, {kept} of {total} quantizers kept, after "
            f"{self.evaluator.full} validations."
        )
        if not self._is_enough(best.metric):
            nncf_logger.warning(
                "The %s drop of the metric is %.6g, more than max_drop %.6g; this is the best model that was found.",
                self.params.drop_type,
                drop,
                self.params.max_drop,
            )
        if self.ranking is None:
            return
        measure = self.ranking.measure
        reverted = best.reverted if best.trial.trials is self.trials else frozenset[int]()
        found = sensitivity.rows(self.trials, self.ranking.order, reverted)
        summary = sensitivity.Summary(
            measure.title,
            measure.items,
            original,
            self.validated[0].metric,
            best.metric,
            drop,
            self.evaluator.full,
            self.evaluator.partial,
            total,
            kept,
        )
        nncf_logger.info("%s", sensitivity.table(found, summary))
        folder = self._report_folder() or self._intermediate_folder()
        if folder is not None:
            try:
                sensitivity.write(folder, found, summary)
            except Exception as error:  # of files, and of matplotlib: no reason to lose the model
                nncf_logger.warning("There is no sensitivity report, or not all of it: %s", sentence(error))

    def _failure(self, what: str) -> ValidationFunctionError:
        """The error that carries the best model so far.

        :param what: what failed, as sentences.
        """
        best = self._best() if self.validated else None
        trial = self.trials.trial() if best is None else best.trial
        try:
            path = self._save(trial, "best")
        except Exception as error:  # such as a disk that is full: the error has the model all the same
            nncf_logger.warning("The best model so far was not saved: %s", sentence(error))
            path = None
        which = "the one that is all quantized, not validated" if best is None else f"with the metric {best.metric:.6g}"
        where = "" if path is None else f", and in {path}"
        message = f"{what} The best model so far, {which}, is in error.best_model{where}."
        return ValidationFunctionError(message, trial.exported(), None if best is None else best.metric)

    def _save(self, trial: Trial, stem: str) -> Path | None:
        folder = self._intermediate_folder()
        if folder is not None:
            try:
                return self.trials.save(trial, folder, stem)
            except UnsupportedModelError as error:  # modules have no file format of their own
                nncf_logger.info("No model is left in %s: %s", folder, error)
        return None

    def _report_folder(self) -> Path | None:
        given = self.params.advanced_parameters.sensitivity_report_dir
        return None if given is None else Path(given)

    def _intermediate_folder(self) -> Path | None:
        given = self.params.advanced_parameters.intermediate_model_dir
        return None if given is None else Path(given)


def _kept(trial: Trial) -> int:
    return count(edit for index, edit in enumerate(trial.trials.edits) if index not in trial.dropped)
