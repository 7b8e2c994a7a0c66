"""What an algorithm that decides which edits a model keeps needs of others: a metric, and models as they are deployed.

It stands behind the section whose edits it decides on. Edits are data, so that a model without some of them is made by
carrying out the rest: nothing is taken out of a quantized model, and what is reverted is exactly as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from attrs import field, frozen

from nncf_core.dataset import Dataset
from nncf_core.errors import UnsupportedDatasetError, ValidationError

if TYPE_CHECKING:
    from nncf_core.contracts import Context
    from nncf_core.trials import Trial, Trials


def _dataset(_: object, __: object, value: Any) -> None:
    if not isinstance(value, Dataset):
        raise UnsupportedDatasetError(
            f"The validation dataset is a {type(value).__name__}; wrap the data: nncf.Dataset(data, transform_func)."
        )


def _function(_: object, __: object, value: Any) -> None:
    if not callable(value):
        raise ValidationError(
            f"validation_fn is {value!r}; it must be a function of a model and items of a dataset that gives a number."
        )


@frozen
class Validation:
    """How good a model is.

    :param function: takes a model as it is deployed and an iterable of the dataset's items; gives a number, the higher
        the better, or a tuple of it and a number or outputs for each item.
    :param dataset: its ``transform_func`` makes a model's inputs of items, where outputs are to be compared.
    """

    function: Callable[[Any, Iterable[Any]], Any] = field(validator=_function)
    dataset: Dataset[Any, Any] = field(validator=_dataset)


@runtime_checkable
class ControllingAlgorithm(Protocol):
    """What an algorithm has besides when it decides which edits of the section before it a model keeps.

    It has no rounds, requests or edits of its own: ``transformations`` is not called.
    """

    def controlled(self, trials: Trials, params: Any, context: Context) -> Trial:
        """The model that the run is to give, one that was validated.

        :param trials: models with any part of the edits, and what the user's function says of them.
        """


@runtime_checkable
class TunableAlgorithm(Protocol):
    """What an algorithm has besides when it knows which other parameters are worth a try."""

    def alternatives(self, params: Any) -> Mapping[str, Sequence[Any]]:
        """Other parameters by what differs from the given ones, the most promising first; tried one after the other.

        The keys do not depend on the parameters.
        """


@runtime_checkable
class DeployingInserter(Protocol):
    """What a target-point inserter has besides when models are run in another form than they are edited in."""

    def deployed(self, model: Any) -> Any:
        """A working model in the form in which users run it; what it refers to lives as long as the result.

        :raises UnsupportedModelError: when the runtime does not take it.
        """


def controls(algorithm: object) -> bool:
    """Whether an algorithm decides which edits of the one before it are kept."""
    return isinstance(algorithm, ControllingAlgorithm)
