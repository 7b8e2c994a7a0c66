"""Modules whose names are loaded when they are first used (PEP 562)."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeAlias

from nncf_core.errors import ModuleNotFoundError

Hooks: TypeAlias = tuple[Callable[[str], Any], Callable[[], list[str]]]
"""``__getattr__`` and ``__dir__`` of a module."""


def lazy_module(
    module: str,
    names: Mapping[str, str] | None = None,
    submodules: Collection[str] = (),
    plugins: Collection[str] = (),
) -> Hooks:
    """Hooks for a module that loads what it offers when it is first used.

    :param module: name of the module.
    :param names: module that defines each name.
    :param submodules: modules under it that are attributes without being imported first.
    :param plugins: those that exist only where a plugin is installed.
    """
    known = names or {}

    def load(name: str) -> Any:
        if name in known:
            value = getattr(importlib.import_module(known[name]), name)
        elif name in submodules:
            value = importlib.import_module(f"{module}.{name}")
        elif name in plugins:
            try:
                value = importlib.import_module(f"{module}.{name}")
            except ModuleNotFoundError as error:
                # an AttributeError, so that hasattr answers instead of failing
                raise AttributeError(str(error)) from None
        else:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        setattr(sys.modules[module], name, value)
        return value

    return load, lambda: sorted({*vars(sys.modules[module]), *known, *submodules})


def plugin_module(module: str, package: str, distribution: str, submodules: Collection[str] = ()) -> Hooks:
    """Hooks for a module that offers what a plugin's package offers.

    :param module: name of the module.
    :param package: import name of the plugin's package, or of a module in it; it is imported when it is first used.
    :param distribution: what to install to have it.
    :param submodules: modules under this one; the package offers the rest.
    :raises ModuleNotFoundError: when the plugin is not installed.
    """
    if importlib.util.find_spec(package.partition(".")[0]) is None:
        raise ModuleNotFoundError(f"{module} is not installed; install it: pip install {distribution}")

    def load(name: str) -> Any:
        if name in submodules:
            return importlib.import_module(f"{module}.{name}")
        # what tools look for in every module is not worth an import
        if name.startswith("__"):
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        return getattr(importlib.import_module(package), name)

    return load, lambda: sorted({*vars(sys.modules[module]), *submodules, *dir(importlib.import_module(package))})


def left_out(module: str, instead: str) -> Callable[[str], Any]:
    """``__getattr__`` of a module whose names have no counterpart: whoever imports one is told so.

    :param module: name of the module.
    :param instead: what there is in their place.
    """

    def load(name: str) -> Any:
        # what tools look for in every module is none of them
        if name.startswith("__"):
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        raise ModuleNotFoundError(f"{module}.{name} is not part of this project: {instead}. See docs/drop_in.md.")

    return load
