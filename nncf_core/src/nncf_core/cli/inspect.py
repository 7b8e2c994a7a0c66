"""``nncf inspect``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from nncf_core.cli.running import readable


@click.command("inspect")
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--layers", is_flag=True, help="One line for each weight.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with one entry for each weight.")
def inspect(model: Path, layers: bool, as_json: bool) -> None:
    """Show how the weights of MODEL are stored.

    For each number format: how many weights, their share, bits per weight with scales and zero points, and bytes.

    \b
    Examples:
      nncf inspect small.onnx
      nncf inspect small.xml --layers
    """
    from nncf_core.api import build_graph
    from nncf_core.report import describe_model, weight_constants

    graph = build_graph(model)
    report = describe_model(graph)
    rows: list[dict[str, Any]] = [
        {
            "name": constant.name,
            "nodes": list(dict.fromkeys(node.name for node, _ in graph.users(constant.name))),
            "shape": list(constant.shape),
            "format": constant.compressed_format or constant.dtype,
            "granularity": constant.granularity,
            "bytes": constant.stored_bytes,
            "bits_per_weight": round(8 * constant.stored_bytes / max(constant.size, 1), 3),
        }
        for constant in weight_constants(graph)
    ]
    size = sum(path.stat().st_size for path in _files(model))
    if as_json:
        click.echo(json.dumps({"model": str(model), "file_bytes": size, **report.to_json(), "weights": rows}))
        return
    if layers:
        for row in rows:
            form = ", ".join(part for part in (row["format"], row["granularity"]) if part)
            click.echo(
                f"{row['name']}  {row['shape']}  {form}  {row['bits_per_weight']:.2f} bits  {', '.join(row['nodes'])}"
            )
    click.echo(str(report))
    click.echo(f"File: {readable(size)}; weights: {readable(report.bytes_after)}")


def _files(model: Path) -> Sequence[Path]:
    """All files of a model."""
    from nncf_core.contracts import FileLister
    from nncf_core.registry import registry

    builder = registry().backend_for(model).builder
    return builder.files(model) if isinstance(builder, FileLister) else (model,)
