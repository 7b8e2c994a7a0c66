"""Parameters of tests whose variants take long and mostly the same path."""

from collections.abc import Iterable
from typing import Any

import pytest


def variants(values: Iterable[Any], *quick: Any) -> list[Any]:
    """The values of a parameter; all but the ``quick`` ones are marked slow."""
    found = []
    for value in values:
        arguments = value if isinstance(value, tuple) else (value,)
        found.append(pytest.param(*arguments, marks=() if value in quick else pytest.mark.slow))
    return found
