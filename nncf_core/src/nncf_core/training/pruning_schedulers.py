"""How the share of pruned weights grows with the epochs, for models that ``nncf.prune`` gave.

Names and checks are those of NNCF 3's ``nncf.torch.function_hook.pruning``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar, cast

from nncf_core.errors import InternalError, UnsupportedModelError, ValidationError
from nncf_core.parameters import PruneMode
from nncf_core.registry import registry
from nncf_core.sections import steps_of
from nncf_core.statistics import Statistics
from nncf_core.training.contracts import TrainingAlgorithm
from nncf_core.training.control import CompressionLoss, counted, share_of
from nncf_core.training.pruning import section_for, trained_model
from nncf_core.training.regularization import P, SparsityLoss, groups_of
from nncf_core.transformations import MaskKind

T = TypeVar("T")


class RBLoss(CompressionLoss):
    """``((kept / n - (1 - target)) / p)²`` of a model that was pruned in the regularization mode.

    :param model: the model in training.
    :param target_ratio: share of zeros that it leads to, from 0 to below 1.
    :param p: deviation of the share of kept elements at which it is 1.
    :ivar current_ratio: share of zeros when it was last computed.
    :raises InternalError: for a ratio beyond that, or a model without such masks.
    """

    def __init__(self, model: Any, target_ratio: float, p: float = P) -> None:
        _check_ratio("target_ratio", target_ratio)
        masks = {name: m for name, m in trained_model(model).masks().items() if m.kind is MaskKind.SAMPLED}
        if not masks:
            raise InternalError(
                "The model has no masks that are trained; nncf.prune gives them in the mode "
                "UNSTRUCTURED_REGULARIZATION_BASED."
            )
        self._loss = SparsityLoss(groups_of(masks, of_all=True), target_ratio, p)

    @property
    def target_ratio(self) -> float:
        """Share of zeros that it leads to."""
        return self._loss.target

    @target_ratio.setter
    def target_ratio(self, ratio: float) -> None:
        """Lead to another share from now on."""
        _check_ratio("target_ratio", ratio)
        self._loss.target = ratio

    @property
    def current_ratio(self) -> float:
        """Share of zeros when it was last computed."""
        return self._loss.current

    def calculate(self, *args: Any, **kwargs: Any) -> Any:
        """The term."""
        return self._loss.calculate()

    def forward(self) -> Any:
        """The term."""
        return self.calculate()


class _Scheduler:
    """Counts epochs.

    :ivar current_epoch: -1 before the first.
    :ivar current_ratio: share of zeros that was asked for.
    """

    def __init__(self) -> None:
        self.current_epoch, self.current_ratio = -1, 0.0

    def step(self, epoch: int | None = None) -> None:
        """An epoch begins; ``epoch`` is its number."""
        self.current_epoch = self.current_epoch + 1 if epoch is None else counted("epoch", epoch)
        self.current_ratio = self.get_pruning_ratio(self.current_epoch)
        self._set(self.current_ratio)

    def get_pruning_ratio(self, epoch: int) -> float:
        """The share of zeros in an epoch."""
        raise NotImplementedError

    def _set(self, ratio: float) -> None:
        raise NotImplementedError


class _MultiStep(_Scheduler):
    _steps: Mapping[int, float]

    def get_pruning_ratio(self, epoch: int) -> float:
        """That of the last step that the epoch has come to."""
        return self._steps[max(step for step in self._steps if step <= max(epoch, 0))]


class _Exponential(_Scheduler):
    _ends: tuple[float, float, int]

    def get_pruning_ratio(self, epoch: int) -> float:
        """``1 - d0 · (dt / d0)^(epoch / target_epoch)`` of the densities at the beginning and in the end."""
        initial, target, target_epoch = self._ends
        if epoch <= 0:
            return initial
        if epoch >= target_epoch:
            return target
        ratio: float = ((1 - target) / (1 - initial)) ** (epoch / target_epoch)
        return 1 - (1 - initial) * ratio


class Leveled(Protocol):
    """A controller whose level is set."""

    def set_sparsity_level(self, sparsity_level: float) -> None:
        """Ask for a share of zeros."""


class _OfMagnitude(_Scheduler):
    def __init__(self, model: Any, mode: PruneMode) -> None:
        super().__init__()
        if mode == PruneMode.UNSTRUCTURED_REGULARIZATION_BASED:
            raise InternalError(f"{mode} is not by magnitude; its schedulers take the RBLoss.")
        self._controller = _magnitude_controller(model, mode)

    def _set(self, ratio: float) -> None:
        self._controller.set_sparsity_level(ratio)


class _OfLoss(_Scheduler):
    def __init__(self, rb_loss: RBLoss) -> None:
        super().__init__()
        self._loss = rb_loss

    def _set(self, ratio: float) -> None:
        self._loss.target_ratio = ratio


class MultiStepMagnitudePruningScheduler(_OfMagnitude, _MultiStep):
    """Makes masks anew at certain epochs.

    :param model: what ``nncf.prune`` gave.
    :param mode: a magnitude mode.
    :param steps: ratios by the epochs from which they hold, 0 among them.
    :raises InternalError: for other steps.
    """

    def __init__(self, model: Any, *, mode: PruneMode, steps: Mapping[int, float]) -> None:
        self._steps = _checked_steps(steps)
        super().__init__(model, mode)


class ExponentialMagnitudePruningScheduler(_OfMagnitude, _Exponential):
    """Makes masks anew in each epoch; the share of what is kept falls geometrically.

    :param model: what ``nncf.prune`` gave.
    :param mode: a magnitude mode.
    :param initial_ratio: in epoch 0.
    :param target_ratio: from ``target_epoch`` on; above the former.
    :raises InternalError: for other ratios.
    """

    def __init__(
        self, model: Any, *, mode: PruneMode, initial_ratio: float, target_ratio: float, target_epoch: int
    ) -> None:
        self._ends = _checked_ends(initial_ratio, target_ratio, target_epoch)
        super().__init__(model, mode)


class MultiStepRBPruningScheduler(_OfLoss, _MultiStep):
    """Lets a loss lead to other ratios at certain epochs; see :class:`MultiStepMagnitudePruningScheduler`."""

    def __init__(self, rb_loss: RBLoss, steps: Mapping[int, float]) -> None:
        self._steps = _checked_steps(steps)
        super().__init__(rb_loss)


class ExponentialRBPruningScheduler(_OfLoss, _Exponential):
    """Lets a loss lead to another ratio in each epoch; see :class:`ExponentialMagnitudePruningScheduler`."""

    def __init__(self, rb_loss: RBLoss, initial_ratio: float, target_ratio: float, target_epoch: int) -> None:
        self._ends = _checked_ends(initial_ratio, target_ratio, target_epoch)
        super().__init__(rb_loss)


def _magnitude_controller(model: Any, mode: PruneMode) -> Leveled:
    """The controller of the masks that a model has."""
    from nncf_core.config.nncf_config import NNCFConfig

    known, trained = registry(), trained_model(model)
    if not any(mask.kind is MaskKind.FIXED for mask in trained.masks().values()):
        raise UnsupportedModelError("The model has no masks; nncf.prune gives them.")
    (step,) = steps_of(NNCFConfig.from_dict({"compression": section_for(mode)}), known)
    builder = known.backend_for(model).builder
    graph = builder.build(builder.open(model, {}))
    assert isinstance(step.algorithm, TrainingAlgorithm)
    return cast(Leveled, step.algorithm.controller(trained, graph, Statistics(), step.params))


def _checked(check: Callable[[], T]) -> T:
    """What a check gives, its error an InternalError, as NNCF has it here."""
    try:
        return check()
    except ValidationError as error:
        raise InternalError(str(error)) from None


def _check_ratio(name: str, ratio: float) -> None:
    _checked(lambda: share_of(name, ratio))


def _checked_steps(steps: Mapping[int, float]) -> dict[int, float]:
    if not isinstance(steps, Mapping) or 0 not in steps:
        raise InternalError(f"steps is {steps!r}; give ratios by the epochs from which they hold, 0 among them.")
    for epoch, ratio in steps.items():
        _checked(lambda: counted("An epoch of steps", epoch))  # noqa: B023 called at once
        _check_ratio(f"steps[{epoch}]", ratio)
    return dict(steps)


def _checked_ends(initial: float, target: float, target_epoch: int) -> tuple[float, float, int]:
    _check_ratio("initial_ratio", initial)
    _check_ratio("target_ratio", target)
    if initial >= target:
        raise InternalError(f"initial_ratio is {initial}; it must be below target_ratio, {target}.")
    return initial, target, _checked(lambda: counted("target_epoch", target_epoch, 1))
