"""The ``nncf`` command."""

from nncf_core.cli.main import entry, main

__all__ = ["entry", "main"]
