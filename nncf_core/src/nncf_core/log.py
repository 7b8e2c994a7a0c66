"""The framework's logger."""

from __future__ import annotations

import logging

nncf_logger = logging.getLogger("nncf")
"""Logger of everything the framework says; level and handlers are the application's to choose."""


def set_log_level(level: int) -> None:
    """Show messages of this level and above.

    :param level: a level of the ``logging`` module.
    """
    nncf_logger.setLevel(level)
    for handler in nncf_logger.handlers:
        handler.setLevel(level)


def disable_logging() -> None:
    """Show no messages."""
    nncf_logger.handlers = [logging.NullHandler()]
    nncf_logger.propagate = False
