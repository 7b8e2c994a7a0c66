"""``python -m nncf_core.cli``."""

from nncf_core.cli.main import entry

entry()
