"""What algorithms that go on while a model is trained implement, and what a backend that trains gives them.

The way is that of every run: the algorithm's edits are carried out first, masks among them
(:class:`~nncf_core.transformations.InsertMask`). Then the algorithm gets handles of the model in training and makes a
controller. Handles give arrays of the framework's own library, which follow the Python array API standard
(https://data-apis.org/array-api) and through which gradients flow where that is said; so algorithms compute losses and
thresholds in its terms, and import no framework.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from nncf_core.dataset import Dataset
from nncf_core.graph import Graph
from nncf_core.numerics.arrays import Array
from nncf_core.numerics.quantizer import Quantizer
from nncf_core.statistics import Statistics
from nncf_core.training.control import CompressionAlgorithmController
from nncf_core.transformations import MaskKind


class MaskHandle(Protocol):
    """A mask on a weight of a model in training."""

    @property
    def constant(self) -> str:
        """Name of the weight."""

    @property
    def kind(self) -> MaskKind:
        """Where its zeros and ones come from."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the mask, as it was inserted."""

    def weight(self) -> Array:
        """The weight's values without the mask and without gradients, where they lie."""

    def mask(self) -> Array:
        """What the mask is in evaluation: 0 and 1 in the weight's shape and element type, without gradients."""

    def assign(self, mask: Array) -> None:
        """Set the mask: true or 1 where elements are kept; it has the mask's shape, or broadcasts to it.

        Parameters of a trained mask become what gives it in evaluation; they are to be frozen, unless they are to go on
        from there.
        """

    def kept(self) -> Array:
        """How many elements a trained mask keeps in evaluation, one float32 number; gradients reach its parameters.

        They go straight through the step from parameters to 0 and 1.
        """

    def parameters(self) -> Array:
        """The parameters of a trained mask, with gradients; float32 in the mask's shape."""

    def threshold(self, value: float) -> None:
        """Set the number that the parameters of a ``SCORED`` mask have to exceed."""

    def freeze(self, *, sampling: bool = False) -> None:
        """From now on parameters of a trained mask get no gradients; with ``sampling`` left on, it is drawn anew."""

    def scale_gradients(self, factor: float) -> None:
        """From now on gradients of the parameters of a trained mask are multiplied by a number."""


class QuantizerHandle(Protocol):
    """A quantizer of a model in training, of an activation or of a weight."""

    @property
    def target(self) -> str:
        """Name of the weight, or the target point as a string."""

    @property
    def is_weight(self) -> bool:
        """Whether it quantizes a weight."""

    @property
    def is_active(self) -> bool:
        """Whether it acts."""

    @property
    def is_symmetric(self) -> bool:
        """Whether its zero points are 0 and stay so."""

    def quantizer(self) -> Quantizer:
        """What it does when it acts, with the range that training has come to."""

    def enable(self, active: bool) -> None:
        """Let it act, or let tensors through as they are."""

    def scale_gradients(self, factor: float) -> None:
        """From now on gradients of its range are multiplied by a number."""


class Tuner(Protocol):
    """What the training script gave to try things out with: a short training, and a figure of merit."""

    def score_after(self, steps: int) -> float:
        """How good the model is after some steps of training; the more the better. Then it is as it was before."""


class Teacher(Protocol):
    """The model as it was before its compression, run beside the one in training."""

    def outputs(self) -> Sequence[tuple[Array, Array]]:
        """Each floating-point output of the last forward pass: the model's, with gradients, and the original's."""


class TrainedModel(Protocol):
    """A working model in training.

    :ivar tuner: a way to try things out; ``None`` when the training script gave none.
    """

    tuner: Tuner | None

    @property
    def model(self) -> Any:
        """What the training script trains."""

    def masks(self) -> Mapping[str, MaskHandle]:
        """Masks by the names of their weights, in graph order."""

    def quantizers(self) -> Sequence[QuantizerHandle]:
        """Quantizers, in graph order."""

    def teacher(self) -> Teacher:
        """From now on the original model runs in each forward pass in training mode, on the same inputs.

        It runs in evaluation mode and without gradients.
        """

    def tensors(self) -> Any:
        """A copy of all that training changes, for :meth:`load_tensors`."""

    def load_tensors(self, tensors: Any) -> None:
        """Put back what :meth:`tensors` gave."""

    def description(self) -> Mapping[str, Any]:
        """What was done to the model, as JSON data, for :meth:`TrainableInserter.restored`."""

    def export(
        self,
        model: Any,
        path: Path,
        save_format: str | None,
        input_names: Sequence[str] | None,
        output_names: Sequence[str] | None,
        model_args: tuple[Any, ...] | None,
    ) -> None:
        """Write a stripped model to a file; ``save_format`` ``None``: what the file's suffix says.

        :raises ParameterNotSupportedError: for a format that it does not write.
        """

    @property
    def is_new(self) -> bool:
        """Whether the training begins, and does not go on from a state."""

    def adapt_batch_norm(self, samples: int | None) -> None:
        """Let normalization see a number of samples, so that its means and variances are those of the model as it is.

        :param samples: ``None``: all of the dataset.
        :raises UnsupportedDatasetError: when there is no dataset.
        """


@runtime_checkable
class TrainableInserter(Protocol):
    """What a target-point inserter has besides when its models are trained."""

    def mask_refusal(self, graph: Graph, constant: str) -> str | None:
        """Why a constant cannot have a mask (:class:`~nncf_core.transformations.InsertMask`); ``None`` when it can."""

    def trained(
        self, model: Any, original: Any, dataset: Dataset[Any, Any] | None, *, new: bool = True
    ) -> TrainedModel:
        """Handles of a working model.

        It has its own memory from now on, so that training it does not change the original.

        :param original: the model before all edits, as the user gave it.
        :param dataset: for :meth:`TrainedModel.adapt_batch_norm`.
        :param new: whether the training begins.
        """

    def resumed(self, model: Any, dataset: Dataset[Any, Any] | None = None) -> TrainedModel:
        """Handles of a model that is in training already, as its script has it; what they change, they change in it."""

    def restored(self, original: Any, description: Mapping[str, Any], options: Mapping[str, Any]) -> Any:
        """A working model to which was done what a description tells, without data; its tensors are to be loaded.

        :raises ValidationError: when the description is of another model.
        """


@runtime_checkable
class TrainingAlgorithm(Protocol):
    """What an algorithm has besides when it goes on while a model is trained.

    ``Context.training`` tells its ``transformations`` whether there will be a training: then masks are to be inserted,
    otherwise weights to be changed for good. One that does nothing then has an attribute ``only_trains`` that is true,
    and the run is refused by name before any work.

    Where its parameters have a field ``compression_lr_multiplier``, it has the config's global value where the section
    has none; the controller hands it to :meth:`MaskHandle.scale_gradients` and its like.

    :ivar excludes: names of the algorithms that cannot be in the same config, with the reason.
    """

    @property
    def excludes(self) -> Mapping[str, str]:
        """Reasons by names of algorithms that cannot be in the same config."""

    def controller(
        self, trained: TrainedModel, graph: Graph, statistics: Statistics, params: Any
    ) -> CompressionAlgorithmController:
        """The algorithm's controller.

        :param graph: of the model before all edits, prepared for quantizers where there will be some.
        :param statistics: of its requests; empty when the training goes on from a state, which then has to hold what
            the controller needs of them.
        """


@runtime_checkable
class DelegatingAlgorithm(Protocol):
    """What an algorithm has besides when others do its work, in sections that it makes.

    So a plugin uses another without importing it; a config with such a section needs both installed. Nothing is asked
    of it but this and, in a training, its controller.
    """

    def delegates(self, params: Any) -> Sequence[Mapping[str, Any]]:
        """Config sections, each with ``algorithm`` and its parameters, that run in place of the algorithm's own."""
