"""Writing files so that an interrupted run leaves the old file whole."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nncf_core.errors import InvalidPathError

_SUFFIX = ".tmp"


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path in the same folder that replaces ``path`` when the block ends without an error.

    :raises InvalidPathError: when the folder does not exist or cannot be written to, or the path is no file's.
    """
    with aside(path) as temporary:
        yield temporary
        temporary.chmod(_permissions(path))
        os.replace(temporary, path)


@contextmanager
def aside(path: Path) -> Iterator[Path]:
    """An empty temporary file in the same folder as ``path``, which is gone when the block ends.

    :raises InvalidPathError: when the folder does not exist or cannot be written to, or the path is no file's.
    """
    if path.is_dir():
        raise InvalidPathError(f"Cannot write {path}: it is a folder; give the name of a file.")
    if path.exists() and not path.is_file():
        raise InvalidPathError(f"Cannot write {path}: it is a device, a pipe or a socket; give the name of a file.")
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=_SUFFIX, dir=path.parent)
    except OSError as error:
        raise unwritable(path, error) from None
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file, which replaces an old one when it is all there.

    :raises InvalidPathError: when it cannot be written.
    """
    with replacing(path) as temporary:
        put_text(temporary, text, path)


def put_text(aside: Path, text: str, path: Path) -> None:
    """Write a text into a file that will take the place of another.

    :raises InvalidPathError: when it cannot be written, naming ``path``.
    """
    try:
        aside.write_text(text, encoding="utf-8")
    except OSError as error:
        raise unwritable(path, error) from None


def unwritable(path: Path, error: OSError, what: str = "") -> InvalidPathError:
    """What to raise where a file cannot be written.

    :param what: what it is, for people, e.g. ``statistics to``.
    """
    place = f"{what} {path}" if what else str(path)
    return InvalidPathError(
        f"Cannot write {place}: {error.strerror or error} ({path.parent}). Give a place that can be written to and has "
        "room."
    )


def is_aside(name: str, path: Path) -> bool:
    """Whether a file name is one that :func:`aside` gives."""
    return name.startswith(f".{path.name}.") and name.endswith(_SUFFIX)


def _permissions(path: Path) -> int:
    """Those of the file that is replaced, or the usual ones; mkstemp makes files private."""
    if path.exists():
        return stat.S_IMODE(path.stat().st_mode)
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask
