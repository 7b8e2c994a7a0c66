"""What a conformance suite is run on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from attrs import field, frozen


@frozen
class ModelCase:
    """A small model whose weights are known.

    :param name: shown in the tests' ids.
    :param make: makes a new model from weights by name, in the way of the framework's users: no code of the
        plugin under test. What is expected of a changed model is what ``make`` gives for changed weights.
    :param weights: arrays by the name that the constant has in the graph; floating-point, two or more axes.
        At least one weight should have an input-channel axis that 32 divides, so that groups can be tried.
    :param feeds: two or more inputs of the model, arrays by name.
    :param options: the backend's own options (``backend_params``) for this model alone, such as an example input.
    """

    name: str
    make: Callable[[Mapping[str, np.ndarray]], Any] = field(repr=False)
    weights: Mapping[str, np.ndarray] = field(repr=False)
    feeds: Sequence[Mapping[str, np.ndarray]] = field(repr=False)
    options: Mapping[str, Any] = field(factory=dict, repr=False)

    def model(self) -> Any:
        """A new model with the case's weights."""
        return self.make({name: array.copy() for name, array in self.weights.items()})

    def __str__(self) -> str:
        return self.name
