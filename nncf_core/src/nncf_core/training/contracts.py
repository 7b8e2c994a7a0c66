"""What algorithms that go on while a model is trained implement, and what a backend that trains gives them.

The way is that of every run: the algorithm's edits are carried out first, masks among them
(:class:`~nncf_core.transformations.InsertMask`). Then the algorithm gets handles of the model in training and makes a
controller. Handles give arrays of the framework's own library, which follow the Python array API standard
(https://data-apis.org/array-api) and through which gradients flow where that is said; so algorithms compute losses and
thresholds in its terms, and import no framework.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from nncf_core.graph import Graph
from nncf_core.numerics.arrays import Array
from nncf_core.statistics import Statistics
from nncf_core.training.control import CompressionAlgorithmController


class MaskHandle(Protocol):
    """A mask on a weight of a model in training."""

    @property
    def constant(self) -> str:
        """Name of the weight."""

    def weight(self) -> Array:
        """The weight's values without the mask and without gradients, where they lie."""

    def mask(self) -> Array:
        """What the mask is in evaluation: 0 and 1 in the weight's shape and element type, without gradients."""

    def assign(self, mask: Array) -> None:
        """Set a fixed mask: true or 1 where elements are kept; it broadcasts against the weight."""

    def kept(self) -> Array:
        """How many elements a trained mask keeps in evaluation, one float32 number; gradients reach its parameters.

        They go straight through the step from parameters to 0 and 1.
        """

    def parameters(self) -> Array:
        """The parameters of a trained mask, with gradients."""

    def threshold(self, value: float) -> None:
        """Set the number that the parameters of a trained mask have to exceed."""


class QuantizerHandle(Protocol):
    """A quantizer of a model in training, of an activation or of a weight."""

    @property
    def target(self) -> str:
        """Name of the weight, or the target point as a string."""

    @property
    def is_weight(self) -> bool:
        """Whether it quantizes a weight."""

    def enable(self, active: bool) -> None:
        """Let it act, or let tensors through as they are."""


class Teacher(Protocol):
    """The model as it was before its compression, run beside the one in training."""

    def outputs(self) -> Sequence[tuple[Array, Array]]:
        """Each floating-point output of the last forward pass: the model's, with gradients, and the original's."""


class TrainedModel(Protocol):
    """A working model in training."""

    @property
    def model(self) -> Any:
        """What the training script trains."""

    def masks(self) -> Mapping[str, MaskHandle]:
        """Masks by the names of their weights, in graph order."""

    def quantizers(self) -> Sequence[QuantizerHandle]:
        """Quantizers, in graph order."""

    def teacher(self) -> Teacher:
        """From now on the original model runs in each forward pass in training mode, on the same inputs."""


@runtime_checkable
class TrainableInserter(Protocol):
    """What a target-point inserter has besides when its models are trained."""

    def mask_refusal(self, graph: Graph, constant: str) -> str | None:
        """Why a constant cannot have a mask (:class:`~nncf_core.transformations.InsertMask`); ``None`` when it can."""

    def trained(self, model: Any, original: Any) -> TrainedModel:
        """Handles of a working model.

        :param original: the model before all edits.
        """


@runtime_checkable
class TrainingAlgorithm(Protocol):
    """What an algorithm has besides when it goes on while a model is trained.

    ``Context.training`` tells its ``transformations`` whether there will be a training: then masks are to be inserted,
    otherwise weights to be changed for good, or the run is refused by name.

    :ivar excludes: names of the algorithms that cannot be in the same config, with the reason.
    """

    @property
    def excludes(self) -> Mapping[str, str]:
        """Reasons by names of algorithms that cannot be in the same config."""

    def controller(
        self, trained: TrainedModel, graph: Graph, statistics: Statistics, params: Any
    ) -> CompressionAlgorithmController:
        """The algorithm's controller.

        :param graph: of the model before the algorithm's edits.
        :param statistics: of its requests.
        """


@runtime_checkable
class DelegatingAlgorithm(Protocol):
    """What an algorithm has besides when others do its work, in sections that it makes.

    So a plugin uses another without importing it; a config with such a section needs both installed.
    """

    def delegates(self, params: Any) -> Sequence[Mapping[str, Any]]:
        """Config sections, each with ``algorithm`` and its parameters, that run in place of the algorithm's own."""
