"""``nncf plugins``."""

from __future__ import annotations

import json

import click


@click.command("plugins")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def plugins(as_json: bool) -> None:
    """List installed plugins and what they provide.

    Also shows what is not used because another plugin provides it, and why a plugin failed if it did.

    \b
    Examples:
      nncf plugins
      NNCF_LOAD_PLUGINS=onnx,weight_compression nncf plugins --json
    """
    from attrs import asdict

    from nncf_core.registry import registry

    records = registry().records
    if as_json:
        click.echo(json.dumps([asdict(record) for record in records]))
        return
    for record in records:
        origin = f"{record.distribution} {record.version}".strip() or "registered by a script"
        click.echo(f"{record.name}  ({origin})" + ("" if record.error is None else "  FAILED"))
        for item in record.registers:
            click.echo(f"    {item}")
        for item in record.shadowed:
            click.echo(f"    not used: {item}")
        if record.error is not None:
            click.echo(f"    error: {record.error}")
