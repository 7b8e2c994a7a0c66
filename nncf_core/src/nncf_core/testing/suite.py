"""A suite of tests that runs in pytest, which it does not import, and without pytest."""

from __future__ import annotations

import inspect
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import Any
from unittest import SkipTest

import numpy as np
from attrs import fields, frozen, has

from nncf_core.errors import ValidationError
from nncf_core.registry import Registry, registry


class ConformanceError(AssertionError):
    """A plugin does not do what its contract says; the message says what to mend."""


def expect(condition: object, message: str) -> None:
    """Fail with a message unless a condition holds.

    :raises ConformanceError: when it does not hold.
    """
    if not condition:
        raise ConformanceError(message)


@frozen
class Outcome:
    """How one test ended.

    :param test: its name, with the arguments in brackets.
    :param error: why it failed; ``None`` when it did not.
    :param skipped: why it could not be run; ``None`` when it was.
    """

    test: str
    error: str | None = None
    skipped: str | None = None


class Suite:
    """Methods ``test_*`` whose arguments, but for ``tmp_path``, are keys of :meth:`arguments`."""

    def arguments(self) -> Mapping[str, Sequence[Any]]:
        """Values to run the tests with, by name of the tests' argument; their ``str`` is shown."""
        return {}

    def pytest_generate_tests(self, metafunc: Any) -> None:
        """Let pytest make a test for each value of each argument."""
        for name, values in self.arguments().items():
            if name in metafunc.fixturenames:
                metafunc.parametrize(name, values, ids=[str(value) for value in values])


def check(suite: type[Suite]) -> tuple[Outcome, ...]:
    """Run a suite without pytest."""
    tests = [name for name in dir(suite) if name.startswith("test_")]
    return tuple(outcome for name in tests for outcome in _outcomes(suite(), name))


def _outcomes(suite: Suite, name: str) -> Iterator[Outcome]:
    test = getattr(suite, name)
    wanted = [parameter for parameter in inspect.signature(test).parameters if parameter != "tmp_path"]
    known = suite.arguments()
    for values in product(*(known[parameter] for parameter in wanted)):
        shown = f"{name}[{'-'.join(map(str, values))}]" if values else name
        arguments = dict(zip(wanted, values, strict=True))
        with tempfile.TemporaryDirectory() as folder:
            if "tmp_path" in inspect.signature(test).parameters:
                arguments["tmp_path"] = Path(folder)
            try:
                test(**arguments)
            except SkipTest as reason:
                yield Outcome(shown, skipped=str(reason))
            except Exception as error:
                kind = "" if isinstance(error, ConformanceError) else f"{type(error).__name__}: "
                yield Outcome(shown, error=f"{kind}{error}")
            else:
                yield Outcome(shown)


@contextmanager
def registered(plugin: object, name: str) -> Iterator[Registry]:
    """The process's registry with one more plugin, which need not be installed, until the block ends.

    :raises ValidationError: when a plugin of this name is there already.
    """
    known = registry()
    if name in {record.name for record in known.records}:
        raise ValidationError(f"A plugin named {name!r} is registered already.")
    known.register(plugin, name)
    try:
        yield known
    finally:
        known.unregister(name)


def registry_with(plugin: object | None) -> Registry:
    """A registry with a plugin alone; without one, the registry of the installed plugins."""
    if plugin is None:
        return registry()
    result = Registry()
    result.register(plugin)
    return result


def comparable(value: Any) -> Any:
    """A value in a form in which ``==`` compares every bit of its arrays."""
    if isinstance(value, (np.ndarray, np.generic)):
        return value.dtype.name, value.shape, value.tobytes()
    if has(type(value)):
        # the fields that attrs' own equality leaves out, such as arrays, count as well
        return type(value).__name__, tuple(comparable(getattr(value, f.name)) for f in fields(type(value)))
    if isinstance(value, Mapping):
        return {key: comparable(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return tuple(comparable(item) for item in value)
    return value
