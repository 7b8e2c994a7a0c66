"""What is said of items of a dataset that do not fit the inputs of a model: the same everywhere they meet."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from attrs import frozen

from nncf_core.errors import UnsupportedDatasetError, sentence
from nncf_core.graph import Port


@frozen
class InputType:
    """What an input of a model takes, or what an item gives it.

    :param dtype: numpy's name of the element type; ``None``: unknown.
    :param shape: sizes; a name, or ``None``, where a size is free. ``None``: unknown.
    """

    dtype: str | None
    shape: tuple[int | str | None, ...] | None

    @classmethod
    def of(cls, array: Any) -> InputType:
        """That of an array."""
        array = np.asarray(array)
        return cls("text" if array.dtype.kind in "US" else array.dtype.name, tuple(array.shape))

    def takes_shape(self, given: InputType) -> bool:
        """Whether an array of a shape fits, as far as is known."""
        if self.shape is None or given.shape is None:
            return True
        if len(self.shape) != len(given.shape):
            return False
        return all(want == have for want, have in zip(self.shape, given.shape, strict=True) if isinstance(want, int))

    def takes_type(self, given: InputType) -> bool:
        """Whether an array has the element type, as far as is known; some runtimes convert others."""
        return None in (self.dtype, given.dtype) or self.dtype == given.dtype

    def __str__(self) -> str:
        if self.shape is None:
            return self.dtype or "anything"
        sizes = ", ".join("?" if size is None else str(size) for size in self.shape)
        return f"{self.dtype or 'any type'} [{sizes}]"


def type_of(port: Port) -> InputType:
    """What an input takes, by what a graph says of it."""
    return InputType(port.dtype, port.shape)


def listed(inputs: Mapping[str, InputType]) -> str:
    """Inputs with their types and shapes, for people."""
    return ", ".join(f"{name!r} {kind}" for name, kind in inputs.items()) or "nothing"


def misfit(
    index: int,
    given: Mapping[str, InputType],
    expected: Mapping[str, InputType],
    said: str,
    model: str = "the model",
) -> UnsupportedDatasetError:
    """The error for an item on which a model does not run.

    :param index: of the item in the dataset.
    :param given: what the item gives each input.
    :param expected: what each input takes.
    :param said: why, in the runtime's own words, as :func:`by_runtime` gives them; they stand last.
    :param model: how the model is called.
    """
    known = [name for name in expected if name in given]
    shapes = [name for name in known if not expected[name].takes_shape(given[name])]
    wrong = shapes or [name for name in known if not expected[name].takes_type(given[name])]
    told = [f"the input {name!r} takes {expected[name]}, and is given {given[name]}" for name in wrong]
    fault = "; ".join(told) or f"it takes {listed(expected)}" + (f", and is given {listed(given)}" if given else "")
    return UnsupportedDatasetError(
        f"Item {index} of the dataset does not fit {model}: {fault}. Give items that fit, or pass a transform_func to "
        f"nncf.Dataset that makes them. {sentence(said)}"
    )


def by_runtime(error: object) -> str:
    """What a runtime says, in one line, told apart from what we say."""
    text = " ".join(str(error).split())
    return text if isinstance(error, UnsupportedDatasetError) else f"The runtime says: {text}"


def unlike(error: Exception) -> str:
    """Why statistics of an item do not go with those of the items before it."""
    return f"Its tensors have other channels than those of the items before: {error}"


def renumbered(message: str, before: int) -> str:
    """A message that names an item of a piece of a dataset, with its number in the whole.

    :param before: number of items before the piece.
    """
    return re.sub(r"^Item (\d+)", lambda found: f"Item {int(found[1]) + before}", message)
