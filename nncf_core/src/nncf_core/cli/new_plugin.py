"""``nncf new-plugin``."""

from __future__ import annotations

from pathlib import Path

import click

from nncf_core.plugin_templates import KINDS, write_plugin

_HELP = """Write a package with a plugin that works and passes its tests.

KIND is what it brings: {kinds}. NAME is that of the package, such as my-algo.

\b
Examples:
  nncf new-plugin algorithm my-algo
  cd my-algo && pip install -e ".[test]" && pytest
  nncf plugins
"""


@click.command("new-plugin", help=_HELP.format(kinds="; ".join(f"{kind}, {what}" for kind, what in KINDS.items())))
@click.argument("kind", type=click.Choice(list(KINDS)))
@click.argument("name")
@click.option(
    "-d", "--directory", type=click.Path(path_type=Path), default=Path(), help="Where the new folder lies [here]."
)
def new_plugin(kind: str, name: str, directory: Path) -> None:
    """Write a package with a plugin."""
    folder = write_plugin(kind, name, directory)
    click.echo(f"Wrote {folder}. Now:\n  cd {folder} && pip install -e '.[test]' && pytest")
