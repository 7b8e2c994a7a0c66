"""What a training script holds of a compression: its controller, with a loss, a scheduler and a stage.

Names and methods are those of NNCF's ``nncf.api.compression``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import IntEnum
from numbers import Real
from operator import index
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nncf_core.errors import InternalError, ParameterNotSupportedError, ValidationError
from nncf_core.log import nncf_logger
from nncf_core.parameters import StripFormat

if TYPE_CHECKING:
    from nncf_core.training.contracts import TrainedModel


class CompressionStage(IntEnum):
    """How far a compression has come."""

    UNCOMPRESSED = 0
    PARTIALLY_COMPRESSED = 1
    FULLY_COMPRESSED = 2

    def __add__(self, other: int) -> CompressionStage:
        """The stage of two algorithms together: theirs where it is the same, otherwise partial."""
        return self if self == other else CompressionStage.PARTIALLY_COMPRESSED


class CompressionLoss:
    """A term that is added to the task's loss. This one is zero."""

    def calculate(self, *args: Any, **kwargs: Any) -> Any:
        """The term: a number, or an array with one element that gradients flow back from."""
        return 0.0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The term, see :meth:`calculate`."""
        return self.calculate(*args, **kwargs)

    def get_state(self) -> dict[str, Any]:
        """What :meth:`load_state` restores; plain JSON data."""
        return {}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from a state.

        :raises ValidationError: when it is none of such a loss.
        """
        check_state(state, self.get_state(), self)


def counted(name: str, number: Any, first: int = 0) -> int:
    """A number of steps, epochs or items.

    :param name: of the argument, for the message.
    :param first: the least that it may be.
    :raises ValidationError: when it is less, or no integer.
    """
    try:
        found = first - 1 if isinstance(number, bool) else index(number)
    except TypeError:
        found = first - 1
    if found < first:
        raise ValidationError(f"{name} is {number!r}; it must be an integer from {first}.")
    return found


def share_of(name: str, share: Any) -> float:
    """A share of what is compressed.

    :param name: of the argument, for the message.
    :raises ValidationError: when it is no number from 0 to below 1.
    """
    if isinstance(share, bool) or not isinstance(share, Real) or not 0 <= float(share) < 1:
        raise ValidationError(f"{name} is {share!r}; it must be a number from 0 to below 1.")
    return float(share)


def check_state(state: Any, own: Mapping[str, Any], whose: object) -> None:
    """Whether a state is one of a controller, a scheduler or a loss.

    :param own: its state now.
    :raises ValidationError: naming what is missing.
    """
    missing = [key for key in own if not isinstance(state, Mapping) or key not in state]
    if missing:
        raise ValidationError(
            f"{type(whose).__name__}.load_state: the state has no {', '.join(map(repr, missing))}; give what "
            "get_state() gave of the same algorithm."
        )


class CompressionScheduler:
    """Counts steps and epochs of a training, and changes the compression as they pass.

    ``step()`` is called before each of the optimizer's steps, ``epoch_step()`` before each epoch.

    :ivar current_step: number of steps begun, less one; -1 before the first.
    :ivar current_epoch: number of epochs begun, less one; -1 before the first.
    """

    def __init__(self) -> None:
        self.current_step = -1
        self.current_epoch = -1

    def step(self, next_step: int | None = None) -> None:
        """A step begins; ``next_step`` sets its number."""
        self.current_step = self.current_step + 1 if next_step is None else counted("next_step", next_step)

    def epoch_step(self, next_epoch: int | None = None) -> None:
        """An epoch begins; ``next_epoch`` sets its number."""
        self.current_epoch = self.current_epoch + 1 if next_epoch is None else counted("next_epoch", next_epoch)

    def get_state(self) -> dict[str, Any]:
        """What :meth:`load_state` restores; plain JSON data."""
        return {"current_step": self.current_step, "current_epoch": self.current_epoch}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from a state.

        :raises ValidationError: when it is none of such a scheduler.
        """
        check_state(state, self.get_state(), self)
        self.current_step = state["current_step"]
        self.current_epoch = state["current_epoch"]


class CompressionAlgorithmController:
    """An algorithm while its model is trained.

    :param target_model: the compressed model, as the training script sees it.
    :ivar name: name of the algorithm.
    """

    name: str = ""

    def __init__(self, target_model: Any) -> None:
        self._model = target_model
        self._trained: TrainedModel | None = None

    def warn(self, trained: TrainedModel, idle: Sequence[str]) -> None:
        """Tell once, when a training begins, of settings that are allowed and lead nowhere.

        :param idle: what leads nowhere, and what to do instead.
        """
        if trained.is_new and idle:
            nncf_logger.warning("%s: %s.", self.name, "; ".join(idle))

    @property
    def model(self) -> Any:
        """The compressed model."""
        return self._model

    @property
    def loss(self) -> CompressionLoss:
        """The algorithm's term of the loss."""
        return CompressionLoss()

    @property
    def scheduler(self) -> CompressionScheduler:
        """What the training script tells of its steps and epochs."""
        raise NotImplementedError

    @property
    def compression_rate(self) -> float:
        """How much is compressed, 0 to 1; what it is a share of depends on the algorithm."""
        return 0.0

    @compression_rate.setter
    def compression_rate(self, value: float) -> None:
        """Ask for another rate.

        :raises ParameterNotSupportedError: where :attr:`has_rate` is false.
        """
        raise ParameterNotSupportedError(
            f"compression_rate: {self.name} has none that can be set (has_rate); its config section says what it does."
        )

    @property
    def has_rate(self) -> bool:
        """Whether the rate can be set."""
        return False

    @property
    def maximal_compression_rate(self) -> float:
        """The largest rate that can be asked for."""
        return 1.0

    def disable_scheduler(self) -> None:
        """From now on the rate changes only when it is set."""

    def compression_stage(self) -> CompressionStage:
        """How far the compression has come."""
        return CompressionStage.UNCOMPRESSED

    def statistics(self, quickly_collected_only: bool = False) -> Any:
        """Figures of the compression so far, with a table in ``to_str()``."""
        raise NotImplementedError

    def get_state(self) -> dict[str, Any]:
        """What :meth:`load_state` restores; plain JSON data. Tensors are in the model's own state."""
        return {"scheduler": self.scheduler.get_state(), "loss": self.loss.get_state()}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from a state.

        :raises ValidationError: when it is none of such a controller.
        """
        check_state(state, self.get_state(), self)
        self.scheduler.load_state(state["scheduler"])
        self.loss.load_state(state["loss"])

    def attach(self, trained: TrainedModel) -> None:
        """Tell which model it is that is trained; the one who made the controller calls it once."""
        self._trained = trained

    def get_compression_state(self) -> dict[str, Any]:
        """JSON data that makes the compressed model again, with the model's ``state_dict``, to go on or to be used.

        ``{"builder_state": what was done to the model, "ctrl_state": states by names of algorithms}``.
        """
        return {"builder_state": dict(self._attached.description()), "ctrl_state": self.states()}

    def states(self) -> dict[str, Any]:
        """States by names of algorithms."""
        return {self.name: self.get_state()}

    def load_states(self, states: Mapping[str, Any]) -> None:
        """Go on from what :meth:`states` gave; algorithms that it does not name begin."""
        if self.name in states:
            self.load_state(states[self.name])

    def strip_model(self, model: Any, do_copy: bool = False) -> Any:
        """The algorithm's own part of :meth:`strip`: the model without what its training alone needs.

        What the strip format brings about is done behind it: masks are folded into weights, for instance.
        """
        return model

    def strip(self, do_copy: bool = True, strip_format: StripFormat = StripFormat.NATIVE) -> Any:
        """The model without what only training needs, see :func:`nncf.strip`."""
        from nncf_core.api import strip

        return strip(self.strip_model(self.model, do_copy), do_copy, strip_format)

    def prepare_for_export(self) -> None:
        """Nothing: what is exported as it is has the values that it computes with."""

    def export_model(
        self,
        save_path: str | Path,
        save_format: str | None = None,
        input_names: Sequence[str] | None = None,
        output_names: Sequence[str] | None = None,
        model_args: tuple[Any, ...] | None = None,
    ) -> None:
        """Strip the model, and write it to a file.

        Once it is fully compressed, weights are written as the integers that they are rounded to; before, quantizers
        may not act yet, and the model is written as it is.

        :param save_format: ``onnx``, or what else the backend writes; by default what the path's suffix says.
        :param model_args: inputs to trace the model with; by default those of the config.
        :raises ParameterNotSupportedError: for a format that the backend does not write.
        """
        done = self.compression_stage() is CompressionStage.FULLY_COMPRESSED
        model = self.strip(strip_format=StripFormat.DQ if done else StripFormat.NATIVE)
        self.trained_model.export(model, Path(save_path), save_format, input_names, output_names, model_args)

    @property
    def trained_model(self) -> TrainedModel:
        """Handles of the model.

        :raises InternalError: when nobody told which model it is.
        """
        return self._attached

    @property
    def _attached(self) -> TrainedModel:
        if self._trained is None:
            raise InternalError("The controller belongs to no model in training.")
        return self._trained
