"""Models that are written aside and looked at before they take the place of what was there."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from nncf_core.contracts import FileLister, GraphBuilder, StreamingBuilder
from nncf_core.errors import InvalidPathError, NNCFError
from nncf_core.files import aside


@contextmanager
def staged(builder: GraphBuilder, source: Path, output: Path) -> Iterator[Path]:
    """A path of the same name in a new folder beside the output.

    When the block ends without an error, what was written there takes its place, the model's own file last; otherwise
    everything is as before.

    :param source: the model that is going to be written in another form.
    :raises InvalidPathError: when the output cannot be written, or one of its files would replace another's.
    """
    with aside(output):
        pass
    _check_place(builder, source, output)
    with tempfile.TemporaryDirectory(prefix=f".{output.name}.", suffix=".tmp", dir=output.parent) as folder:
        path = Path(folder) / output.name
        try:
            yield path
        except NNCFError as error:
            if str(folder) not in str(error):
                raise
            raise type(error)(str(error).replace(str(folder), str(output.parent))) from error
        written = sorted(Path(folder).iterdir(), key=lambda each: (each == path, each.name))
        _check_files(output.parent / each.name for each in written)
        for each in written:
            place(each, output.parent / each.name)


def place(written: Path, path: Path) -> None:
    """Let a file take the place of another, whose permissions it gets."""
    if path.exists():
        written.chmod(stat.S_IMODE(path.stat().st_mode))
    os.replace(written, path)


def files_of(builder: GraphBuilder, path: Path) -> tuple[Path, ...]:
    """All files of a model."""
    return tuple(builder.files(path)) if isinstance(builder, FileLister) else (path,)


class _EnoughError(Exception):
    """Leaves a block that would write a file."""


def _check_place(builder: GraphBuilder, source: Path, output: Path) -> None:
    """Let the backend say now that files of other models are in the way, rather than when the work is done."""
    if not isinstance(builder, StreamingBuilder):  # that looks at its files itself
        _check_files(each for each in files_of(builder, output) if each != output)
    beside = output.parent.glob(f"{_escaped(output.name)}.*")
    if not isinstance(builder, StreamingBuilder) or all(each.name.endswith(".lock.json") for each in beside):
        return
    with suppress(_EnoughError), builder.streaming(builder.open(source, {}), output):
        raise _EnoughError


def _check_files(files: Iterable[Path]) -> None:
    """Whether a model's files can be written where they belong.

    :raises InvalidPathError: when there is a folder in place of one.
    """
    for each in files:
        if each.is_dir():
            raise InvalidPathError(
                f"Cannot write {each}, a file of the model: it is a folder; remove it, or give the model another name."
            )


def _escaped(name: str) -> str:
    return "".join(f"[{c}]" if c in "*?[" else c for c in name)
