"""Modules whose names are loaded when they are first used (PEP 562)."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable, Mapping
from typing import Any


def lazy_module(
    module: str, names: Mapping[str, str], plugins: Mapping[str, tuple[str, str]]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """``__getattr__`` and ``__dir__`` for a module.

    :param module: name of the module.
    :param names: module that defines each name.
    :param plugins: import name and distribution of packages that appear as attributes.
    """

    def load(name: str) -> Any:
        if name in names:
            value = getattr(importlib.import_module(names[name]), name)
        elif name in plugins:
            package, distribution = plugins[name]
            if importlib.util.find_spec(package) is None:
                # an AttributeError, so that hasattr answers instead of failing
                raise AttributeError(f"{module}.{name} is not installed; install it: pip install {distribution}")
            value = importlib.import_module(package)
        else:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        setattr(sys.modules[module], name, value)
        return value

    return load, lambda: sorted({*vars(sys.modules[module]), *names})
