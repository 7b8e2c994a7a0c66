"""The work of algorithms that refine what another does to weights: better codes, as statistics come."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from attrs import frozen

from nncf_core.calibration import Look
from nncf_core.checking import named
from nncf_core.contracts import Context, RefiningAlgorithm, is_excluded
from nncf_core.errors import PluginError
from nncf_core.graph import Graph
from nncf_core.refining import PlannedConstant, PlannedWeight
from nncf_core.sections import Step
from nncf_core.statistics import Statistics, StatisticsRequest
from nncf_core.transformations import CompressConstant, Transformation


@frozen
class Refinement:
    """Steps that refine the edits of the one before them.

    :param steps: in the order in which each weight goes through them, each with its context.
    :param graph: of the model that statistics are of.
    :param planned: what will be compressed, in the order of the edits.
    :param requests: statistics that the steps ask for, by the name of the tensor.
    :param scoped: the graph whose nodes ignored scopes name; by default ``graph``.
    """

    steps: tuple[tuple[Step, Context], ...]
    graph: Graph
    planned: tuple[PlannedConstant, ...]
    requests: Mapping[str, tuple[StatisticsRequest, ...]]
    scoped: Graph | None = None

    def edits(
        self,
        edits: Iterable[Transformation],
        looks: Iterable[Look],
        give: Callable[[Sequence[Transformation]], None],
    ) -> Iterator[Transformation]:
        """The edits, refined, in the order in which statistics come.

        :param edits: those of the algorithm before; made when they are taken.
        :param looks: statistics of one part of the model after the other; the next is taken when the weights that the
            one before was for are done.
        :param give: takes what has become of the weights that a look was for.
        """
        source, held = iter(edits), dict[str, CompressConstant]()
        plans = {plan.constant.name: plan for plan in self.planned}
        waiting = {name: wanted for name, plan in plans.items() if (wanted := self._tensors(plan))}
        statistics, seen = Statistics(), set[str]()
        for look in looks:
            seen.update(look.tensors)
            statistics = statistics.renewed(look.statistics)
            ready = [name for name, tensors in waiting.items() if tensors <= seen]
            while any(name not in held for name in ready):
                edit = next(source, None)
                if edit is None:
                    lacking = next(name for name in ready if name not in held)
                    raise PluginError(f"An algorithm planned to compress {lacking!r}, and yields no edit of it.")
                if isinstance(edit, CompressConstant) and edit.constant in waiting:
                    held[edit.constant] = edit
                else:
                    # what has no layer's input, like an embedding, is done as it comes
                    yield from self._refined(plans, [edit], Statistics())
            own = [held.pop(name) for name in ready]
            made = look.edits if look.edits is not None else tuple(self._refined(plans, own, statistics))
            yield from made
            give(made)
            for name in ready:
                del waiting[name]
            needed = frozenset().union(*waiting.values())
            statistics = statistics.of({request for tensor in needed for request in self.requests[tensor]})
        for edit in (*held.values(), *source):
            yield from self._refined(plans, [edit], Statistics())

    def _tensors(self, plan: PlannedConstant) -> frozenset[str]:
        """The tensors that a weight's statistics are of."""
        return frozenset(each.tensor for each in plan.inputs if each.tensor in self.requests)

    def _refined(
        self, plans: Mapping[str, PlannedConstant], edits: Sequence[Transformation], statistics: Statistics
    ) -> Iterator[Transformation]:
        """Edits after all steps; those of weights that take the same tensor go through them together."""
        groups: dict[object, list[PlannedWeight]] = {}
        for edit in edits:
            if isinstance(edit, CompressConstant) and edit.constant in plans:
                plan = plans[edit.constant]
                key = frozenset(each.tensor for each in plan.inputs) or edit.constant
                groups.setdefault(key, []).append(PlannedWeight(plan, edit))
            else:
                yield edit
        for group in groups.values():
            weights: Sequence[PlannedWeight] = group
            for step, context in self.steps:
                weights = self._step(step, context, weights, statistics)
            for weight in weights:
                weight.plan.constant.release()
                yield weight.edit
                yield from weight.more

    def _step(
        self, step: Step, context: Context, weights: Sequence[PlannedWeight], statistics: Statistics
    ) -> list[PlannedWeight]:
        """Weights after a step; those that it is to ignore stay as they are."""
        algorithm = step.algorithm
        assert isinstance(algorithm, RefiningAlgorithm)
        own = [weight for weight in weights if not self._is_ignored(weight, context.ignored)]
        with named(algorithm.name, "refined"):
            refined = list(algorithm.refined(own, self.graph, statistics, step.params, context)) if own else []
        if [weight.edit.constant for weight in refined] != [weight.edit.constant for weight in own]:
            raise PluginError(f"Algorithm {algorithm.name!r}: refined() must give the weights that it takes, in order.")
        changed = {weight.edit.constant: weight for weight in refined}
        return [changed.get(weight.edit.constant, weight) for weight in weights]

    def _is_ignored(self, weight: PlannedWeight, ignored: frozenset[str]) -> bool:
        users = (self.scoped or self.graph).users(weight.edit.constant)
        return weight.edit.constant in ignored or any(is_excluded(node, ignored) for node, _ in users)
