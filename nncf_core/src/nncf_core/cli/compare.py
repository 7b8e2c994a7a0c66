"""``nncf compare``."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path
from typing import Any

import click

from nncf_core.cli.data import dataset_of, dataset_options


@click.command("compare")
@click.argument("first", metavar="A", type=click.Path(path_type=Path))
@click.argument("second", metavar="B", type=click.Path(path_type=Path))
@dataset_options
@click.option("--items", type=click.IntRange(min=1), default=8, show_default=True, help="Samples to use of it.")
@click.option(
    "--runs", type=click.IntRange(min=0), default=11, show_default=True, help="How often each is timed; 0: not at all."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
def compare(first: Path, second: Path, items: int, runs: int, as_json: bool, quiet: bool, **options: Any) -> None:
    """Compare the models A and B: outputs on a dataset, sizes, and times.

    Each runs in its own runtime at that runtime's usual settings; they may be of different frameworks, as long as their
    inputs have the same names. Without --dataset they are run on random inputs. Times are medians of runs in turns.

    \b
    Examples:
      nncf compare model.onnx small.onnx --dataset samples.npz
      nncf compare model.onnx model.xml --json
    """
    from nncf_core import comparison
    from nncf_core.progress import SilentProgress, default_progress

    dataset = dataset_of(options["dataset"], options["dataset_options"], first)
    given = None if dataset is None else list(islice(dataset.get_inference_data(), items))
    found = comparison.compare(first, second, given, runs, SilentProgress() if quiet else default_progress())
    click.echo(json.dumps(found.to_json()) if as_json else str(found))
