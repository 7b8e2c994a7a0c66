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
    lines = []
    for record in records:
        origin = f"{record.distribution} {record.version}".strip() or "registered by a script"
        lines.append(f"{record.name}  ({origin})" + ("" if record.error is None else "  FAILED"))
        lines += [f"    {item}" for item in record.registers]
        lines += [f"    not used: {item}" for item in record.shadowed]
        if record.error is not None:
            lines.append(f"    error: {record.error}")
    click.echo("\n".join(lines))  # at once: whoever reads the first lines alone may be gone before the others
