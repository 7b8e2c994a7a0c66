"""The framework's logger."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from nncf_core.errors import ValidationError

nncf_logger = logging.getLogger("nncf")
"""Logger of everything the framework says; level and handlers are the application's to choose."""


class _Fallback(logging.StreamHandler[TextIO]):
    """Writes to stderr until the application sets up logging; then messages are not shown twice."""

    def emit(self, record: logging.LogRecord) -> None:
        if not logging.getLogger().handlers:
            super().emit(record)


def set_log_level(level: int | str) -> None:
    """Show messages of this level and above: on stderr, unless the application handles messages itself.

    :param level: a level of the ``logging`` module, or its name.
    :raises ValidationError: for another.
    """
    try:
        nncf_logger.setLevel(level)
    except (TypeError, ValueError):
        raise ValidationError(
            f"set_log_level: {level!r} is no level; give a number such as logging.INFO, or DEBUG, INFO, WARNING, ERROR."
        ) from None
    if not nncf_logger.hasHandlers():
        fallback = _Fallback()
        fallback.setFormatter(logging.Formatter("%(levelname)s:%(name)s:%(message)s"))
        nncf_logger.addHandler(fallback)
    for handler in nncf_logger.handlers:
        handler.setLevel(level)


def disable_logging() -> None:
    """Show no messages."""
    nncf_logger.handlers = [logging.NullHandler()]
    nncf_logger.propagate = False


@contextmanager
def without_repetition() -> Iterator[None]:
    """Within the block, what was said is not said again: of work that is done many times, such as preparing a model."""
    said: set[str] = set()

    def is_new(record: logging.LogRecord) -> bool:
        text = record.getMessage()
        if text in said:
            return False
        said.add(text)
        return True

    nncf_logger.addFilter(is_new)
    try:
        yield
    finally:
        nncf_logger.removeFilter(is_new)
