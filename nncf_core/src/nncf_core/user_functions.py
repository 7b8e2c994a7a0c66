"""Functions of the user's that a command names as ``module:function``."""

from __future__ import annotations

import importlib
import inspect
import sys
from pathlib import Path
from typing import Any

from nncf_core.errors import InvalidPathError, ValidationError, sentence


def user_object(source: str, what: str, folder: Path | None = None) -> Any:
    """What a name stands for; modules of the current folder are found, too.

    :param source: ``module:function``.
    :param what: what it is for, for errors, e.g. ``The dataset``.
    :param folder: where modules are looked for first.
    :raises ValidationError: when the name is not of this form.
    :raises InvalidPathError: when the module cannot be imported, or lacks the name.
    """
    module, separator, name = source.partition(":")
    if not (separator and module and name):
        raise ValidationError(f"{what} {source!r} is not of the form module:function, such as metrics:accuracy.")
    places = [str(place) for place in (folder, Path.cwd()) if place is not None]
    sys.path[:0] = places
    try:
        imported = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or module.split(".")[: error.name.count(".") + 1] != error.name.split("."):
            raise _broken(source, what, module, error) from error
        raise InvalidPathError(
            f"{what} {source}: there is no module {module!r}, neither installed nor in {' or '.join(places)}."
        ) from None
    except (Exception, SystemExit) as error:  # the module is the user's code
        raise _broken(source, what, module, error) from error
    finally:
        for place in places:
            sys.path.remove(place)
    if not hasattr(imported, name):
        raise InvalidPathError(f"{what} {source}: the module {module!r} has no {name!r}; correct the name.")
    return getattr(imported, name)


def _broken(source: str, what: str, module: str, error: BaseException) -> InvalidPathError:
    if isinstance(error, SystemExit):
        return InvalidPathError(
            f"{what} {source}: the module {module!r} cannot be imported, it ends with {error!r}. Put what it does as a "
            'script behind `if __name__ == "__main__":`.'
        )
    return InvalidPathError(
        f"{what} {source}: the module {module!r} cannot be imported, it fails with {type(error).__name__}: "
        f"{sentence(error)} Correct it."
    )


def source_file(function: Any, source: str) -> Path | None:
    """The file that a function is defined in; of other callables that of the module that a user named.

    :param source: ``module:function``.
    :return: ``None`` where there is none, as for what is built into Python.
    """
    for each in (inspect.unwrap(function), sys.modules.get(source.partition(":")[0])):
        try:
            found = inspect.getsourcefile(each)  # type: ignore[arg-type]
        except (TypeError, OSError):
            continue
        if found is not None and Path(found).is_file():
            return Path(found)
    return None
