"""The ``nncf`` command."""

from nncf_core.cli.main import main

__all__ = ["main"]
