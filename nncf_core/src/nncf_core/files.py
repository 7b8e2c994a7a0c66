"""Writing files so that an interrupted run leaves the old file whole."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nncf_core.errors import InvalidPathError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path in the same folder that replaces ``path`` when the block ends without an error.

    :raises InvalidPathError: when the folder does not exist or cannot be written to.
    """
    if path.is_dir():
        raise InvalidPathError(f"Cannot write {path}: it is a folder.")
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    except OSError as error:
        raise InvalidPathError(f"Cannot write {path}: {error.strerror} ({path.parent}).") from None
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        # mkstemp makes files private; give the usual permissions
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
