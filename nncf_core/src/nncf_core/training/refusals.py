"""What is refused where there is no training, in the same words everywhere."""

from __future__ import annotations

from collections.abc import Iterable

from nncf_core.contracts import Algorithm
from nncf_core.errors import UnsupportedBackendError, ValidationError


def only_trains(algorithm: Algorithm | None) -> bool:
    """Whether an algorithm does nothing unless the model is trained."""
    return bool(getattr(algorithm, "only_trains", False))


def check_untrained(algorithms: Iterable[Algorithm]) -> None:
    """Refuse algorithms that only train.

    :raises ValidationError: naming the first.
    """
    for algorithm in algorithms:
        if only_trains(algorithm):
            raise ValidationError(
                f"Algorithm {algorithm.name!r} acts while a model is trained, and this run trains none: give config "
                "and model to nncf.torch.create_compressed_model, and train what it returns."
            )


def without_masks(title: str, constant: str) -> UnsupportedBackendError:
    """The error of a backend that carries out no ``InsertMask``."""
    return UnsupportedBackendError(
        f"{title} models are not trained, so that {constant!r} cannot have a mask. Train the PyTorch model, and "
        "convert what nncf.strip makes of it."
    )
