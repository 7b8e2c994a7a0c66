"""Whose process this is: a command's own, or a script's that uses the library."""

from __future__ import annotations

_own = False


def own() -> None:
    """Say that the process runs one command and ends: what no command needs may be left out."""
    global _own
    _own = True


def is_own() -> bool:
    """Whether the process runs one command and ends."""
    return _own
