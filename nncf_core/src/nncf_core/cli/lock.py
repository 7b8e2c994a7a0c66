"""Lock files of commands, and ``nncf reproduce``."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nncf_core.cli.data import dataset_of
from nncf_core.cli.outcome import algorithms_of

if TYPE_CHECKING:
    from nncf_core.locking import Data, Lock
    from nncf_core.verification import Certificate


def lock_path(output: Path) -> Path:
    """Where the lock file of a model lies."""
    return output.with_name(f"{output.name}.lock.json")


def write_lock(
    model: Path,
    inputs: Mapping[str, str],
    data: Data | None,
    config: Mapping[str, Any],
    output: Path,
    certificate: Certificate | None,
) -> None:
    """Write the lock file of a run.

    :param inputs: digests of the model's files, of before the run, which may have overwritten them.
    """
    from nncf_core.locking import Lock, relative

    folder, files, versions = output.parent, *_written(output, config)
    verification = None if certificate is None else certificate.to_json()
    places = relative(model, folder), relative(output, folder)
    Lock(places[0], inputs, data, config, versions, places[1], files, verification).write(lock_path(output))


def _written(output: Path, config: Mapping[str, Any]) -> tuple[dict[str, str], dict[str, str]]:
    """Digests of what was written, and versions of what wrote it."""
    from nncf_core.locking import digests_of
    from nncf_core.registry import registry
    from nncf_core.staging import files_of
    from nncf_core.versions import versions_of

    known = registry()
    backend = known.backend_for(output)
    files = digests_of(files_of(backend.builder, output))
    return files, versions_of(known, backend.framework, algorithms_of(config))


def inputs_of(model: Path) -> dict[str, str]:
    """Digests of a model's files."""
    from nncf_core.locking import digests_of
    from nncf_core.registry import registry
    from nncf_core.staging import files_of

    return digests_of(files_of(registry().backend_for(model).builder, model))


def located(data: Data, folder: Path) -> Data:
    """Data whose source, where it is a file, is named as a lock file in a folder names it."""
    from attrs import evolve

    from nncf_core.locking import relative

    return evolve(data, source=relative(Path(data.source), folder)) if data.files else data


@click.command("reproduce")
@click.argument("lock", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Keep the model in this file.")
@click.option("--model", type=click.Path(path_type=Path), help="Where the original model lies now.")
@click.option("--dataset", metavar="SOURCE", help="Where the dataset lies now.")
@click.option("--json", "as_json", is_flag=True, help="Print what was found as JSON.")
def reproduce(lock: Path, output: Path | None, model: Path | None, dataset: str | None, as_json: bool) -> None:
    """Do the run of the file LOCK again, and compare the bytes.

    Says what differs: versions, the model, the data, and bytes of the result. Ends with 0 where the bytes are the
    same, with 3 where they are not. Without --output nothing is kept.

    \b
    Examples:
      nncf reproduce small.onnx.lock.json
      nncf reproduce small.onnx.lock.json -o again.onnx --dataset ../data.npz
    """
    from nncf_core.errors import InvalidPathError, VerificationError
    from nncf_core.locking import Lock

    known = Lock.read(lock)
    source = model or lock.parent / known.model
    if not source.is_file():
        raise InvalidPathError(f"There is no model {source}; give its place with --model.")
    if output is not None and not output.parent.is_dir():
        raise InvalidPathError(f"Cannot write {output}: the folder {output.parent} does not exist.")
    with tempfile.TemporaryDirectory(
        prefix=".reproduce.", suffix=".tmp", dir=None if output is None else output.parent
    ) as folder:
        found, differences = _again(known, lock, source, dataset, Path(folder))
        same = found is not None and dict(found.outputs) == dict(known.outputs)
        if output is not None and found is not None:
            _keep(Path(folder) / Path(known.output).name, output, found.outputs)
    if as_json:
        outputs = None if found is None else dict(found.outputs)
        click.echo(json.dumps({"same": same, "differences": differences, "outputs": outputs}))
    else:
        for line in differences:
            click.echo(f"differs: {line}")
        if same:
            click.echo(f"The same bytes: {', '.join(known.outputs)}")
    if not same:
        reason = "; ".join(differences)
        raise VerificationError(
            f"{lock} was not reproduced: {reason}." if found is None else f"{lock} gives other bytes now: {reason}."
        )


def _again(
    known: Lock, place: Path, source: Path, dataset: str | None, folder: Path
) -> tuple[Lock | None, Sequence[str]]:
    """The lock of the same run done now, ``None`` where the model or the data are others; and what differs."""
    from attrs import evolve

    from nncf_core import pipeline
    from nncf_core.locking import Witness, data_of
    from nncf_core.progress import default_progress

    now = evolve(known, inputs=inputs_of(source))
    data, given = None, None
    if known.data is not None:
        there = place.parent / known.data.source if known.data.files else known.data.source
        where = dataset or str(there)
        options = [f"{name}={value}" for name, value in known.data.options.items()]
        given = dataset_of(where, options, source)
        assert given is not None
        data = Witness(given)
        if known.data.files:
            now = evolve(now, data=data_of(where, known.data.options, data))
    before = known.differences(now)
    if before:
        return None, before
    output = folder / Path(known.output).name
    pipeline.run(dict(known.config), source, dataset=data, output=output, progress=default_progress())
    if data is not None and known.data is not None and not known.data.files:
        now = evolve(now, data=data_of(known.data.source, known.data.options, data))
    outputs, versions = _written(output, known.config)
    now = evolve(now, outputs=outputs, versions=versions)
    changed = [f"{name} has other bytes" for name in known.outputs if outputs.get(name) != known.outputs[name]]
    return now, [*known.differences(now), *changed]


def _keep(written: Path, output: Path, names: Mapping[str, str]) -> None:
    """Let a model take its place; one of several files that is to be called otherwise is written anew."""
    from nncf_core.registry import registry
    from nncf_core.staging import place

    if len(names) == 1 or written.name == output.name:
        for name in sorted(names, key=lambda name: (name == written.name, name)):
            place(written.with_name(name), output if name == written.name else output.with_name(name))
        return
    builder = registry().backend_for(written).builder
    builder.save(builder.open(written, {}), output)
