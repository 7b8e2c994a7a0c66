"""``nncf reproduce``."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from attrs import evolve

from nncf_core.cli.data import dataset_of
from nncf_core.cli.outcome import check_place, check_suffix, digests_and_versions, inputs_of, made_from
from nncf_core.cli.witnesses import UserMetric, Witnesses

if TYPE_CHECKING:
    from nncf_core.locking import Data, Lock


@click.command("reproduce")
@click.argument("lock", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Keep the model in this file.")
@click.option("--model", type=click.Path(path_type=Path), help="Where the original model lies now.")
@click.option("--dataset", metavar="SOURCE", help="Where the dataset lies now.")
@click.option("--validation-dataset", metavar="SOURCE", help="Where the dataset of the metric lies now.")
@click.option("--json", "as_json", is_flag=True, help="Print what was found as JSON.")
def reproduce(lock: Path, output: Path | None, model: Path | None, as_json: bool, **sources: str | None) -> None:
    """Do the run of the file LOCK again, and compare the bytes.

    Says what differs: versions, the model, the data, bytes of the result, and of the file that lies beside LOCK. Ends
    with 0 where the bytes are the same, with 1 where they are not. Without --output nothing is kept.

    \b
    Examples:
      nncf reproduce small.onnx.lock.json
      nncf reproduce small.onnx.lock.json -o again.onnx --dataset ../data.npz
    """
    from nncf_core.errors import VerificationError
    from nncf_core.locking import Lock

    known = Lock.read(lock)
    run = _Run.of(known, lock.parent, model, sources)
    if output is not None:
        _check_output(output, run, lock)
    with tempfile.TemporaryDirectory(
        prefix=".reproduce.", suffix=".tmp", dir=None if output is None else output.parent
    ) as folder:
        found, differences = run.again(Path(folder))
        beside = _beside(lock, known)
        differences = [*differences, *beside]
        same = found is not None and dict(found.outputs) == dict(known.outputs) and not beside
        if output is not None and found is not None:
            _keep(Path(folder) / Path(known.output).name, output, found.outputs)
    if as_json:
        outputs = None if found is None else dict(found.outputs)
        click.echo(json.dumps({"same": same, "differences": differences, "outputs": outputs}))
    else:
        for line in differences:
            click.echo(f"differs: {line}")
        if same:
            gone = [name for name in known.outputs if not (lock.parent / name).exists()]
            note = f" ({', '.join(gone)} no longer beside {lock.name})" if gone else ""
            click.echo(f"The same bytes: {', '.join(known.outputs)}{note}")
    if not same:
        reason = "; ".join(differences)
        raise VerificationError(
            f"{lock} was not reproduced: {reason}." if found is None else f"{lock} gives other bytes now: {reason}."
        )


class _Run:
    """A run that is done again.

    :param known: its lock file.
    :param model: where the original model lies.
    :param metric_file: where the file of the metric's function lies; ``None``: there is no metric.
    :param sources: of the data and of the metric's data.
    """

    def __init__(
        self, known: Lock, model: Path, metric_file: Path | None, sources: tuple[str | None, str | None]
    ) -> None:
        self.known, self.model, self.metric_file = known, model, metric_file
        self.dataset, self.validation_dataset = sources

    @classmethod
    def of(cls, known: Lock, folder: Path, model: Path | None, sources: Mapping[str, str | None]) -> _Run:
        """A run of a lock file in a folder.

        :param sources: options that say where data lie now.
        :raises InvalidPathError: when the model, or the file of the function, is not there.
        :raises ParameterNotSupportedError: when a source is given of data that the run did not have.
        """
        from nncf_core.errors import InvalidPathError

        data = _source(known.data, folder, sources["dataset"], "--dataset")
        own = None if known.metric is None else known.metric.data
        validation_data = _source(own, folder, sources["validation_dataset"], "--validation-dataset")
        place = model or folder / known.model
        if not place.is_file():
            raise InvalidPathError(f"There is no model {place}; give its place with --model.")
        metric = None if known.metric is None else folder / known.metric.file
        if metric is not None and not metric.is_file():
            raise InvalidPathError(
                f"There is no file {metric}, which defined the run's function {known.metric.function}; put it there."  # type: ignore[union-attr]
            )
        return cls(known, place, metric, (data, validation_data))

    def again(self, folder: Path) -> tuple[Lock | None, Sequence[str]]:
        """The lock of the same run done now, ``None`` where the model or the data are others; and what differs.

        :param folder: where the model is written.
        """
        from nncf_core import pipeline
        from nncf_core.locking import Metric, data_of, digest_of_file
        from nncf_core.progress import default_progress

        known, source = self.known, self.model
        metric = known.metric
        # what is there is compared before anything of it runs
        now = evolve(known, inputs=inputs_of(source))
        if known.data is not None and known.data.files:
            now = evolve(now, data=data_of(str(self.dataset), known.data.options, None))
        if metric is not None:
            assert self.metric_file is not None
            digest, data = digest_of_file(self.metric_file), metric.data
            if data.files:
                data = data_of(str(self.validation_dataset), data.options, None)
            now = evolve(now, metric=Metric(metric.function, metric.file, digest, data))
        before = known.differences(now)
        if before:
            return None, before
        witnesses = self._witnesses()
        output = folder / Path(known.output).name
        pipeline.run(
            _without_folders(known.config),
            source,
            dataset=witnesses.dataset,
            validation=witnesses.validation,
            output=output,
            progress=default_progress(),
        )
        if known.data is not None and not known.data.files:
            now = evolve(now, data=witnesses.data(folder))
        if now.metric is not None and not now.metric.data.files:
            seen = witnesses.metric(folder)
            assert seen is not None
            now = evolve(now, metric=evolve(now.metric, data=seen.data))
        outputs, versions = digests_and_versions(output, known.config)
        now = evolve(now, outputs=outputs, versions=versions)
        changed = [f"{name} has other bytes" for name in known.outputs if outputs.get(name) != known.outputs[name]]
        return now, [*known.differences(now), *changed]

    def _witnesses(self) -> Witnesses:
        options = _options(self.known.data)
        dataset = dataset_of(self.dataset, options, self.model)
        metric = None
        if self.known.metric is not None:
            assert self.metric_file is not None
            assert self.validation_dataset is not None
            function, own = self.known.metric.function, _options(self.known.metric.data)
            # a module a.b lies in a folder a
            home = self.metric_file.absolute().parents[function.partition(":")[0].count(".")]
            metric = UserMetric.of(function, self.validation_dataset, own, self.model, home)
        return Witnesses.of(dataset, metric, {"dataset": self.dataset, "dataset_options": options})


def _beside(lock: Path, known: Lock) -> list[str]:
    """What differs of the files that the run wrote, as far as they lie beside their lock file."""
    from nncf_core.locking import digest_of_file

    found = {name: lock.parent / name for name in known.outputs}
    return [
        f"{path} has other bytes than the run wrote"
        for name, path in found.items()
        if path.is_file() and digest_of_file(path) != known.outputs[name]
    ]


def _options(data: Data | None) -> list[str]:
    return [] if data is None else [f"{name}={value}" for name, value in data.options.items()]


def _source(data: Data | None, folder: Path, given: str | None, option: str) -> str | None:
    """Where data of a run lie now.

    :raises ParameterNotSupportedError: when it had none, and some are given.
    :raises InvalidPathError: when they are not there.
    """
    from nncf_core.errors import InvalidPathError, ParameterNotSupportedError

    if data is None:
        if given is not None:
            raise ParameterNotSupportedError(
                f"{option} {given}: the run of the lock file had no such data; leave out {option}."
            )
        return None
    if not data.files:
        return given or data.source
    place = folder / data.source if given is None else Path(given)
    if not place.exists():
        raise InvalidPathError(f"There is no dataset {place}; give its place with {option}.")
    return str(place)


def _check_output(output: Path, run: _Run, lock: Path) -> None:
    """Refuse to write a model over what it is made from, or where none can be.

    :raises InvalidPathError: when it would be.
    """
    from nncf_core.registry import registry
    from nncf_core.staging import files_of

    builder = registry().backend_for(run.model).builder
    taken = dict.fromkeys(files_of(builder, run.model), "original model")
    taken |= made_from(run.model, {"dataset": run.dataset, "validation_dataset": run.validation_dataset})
    taken[lock] = "lock file"
    if run.metric_file is not None:
        taken[run.metric_file] = "metric's function"
    check_place(output, "", taken)
    check_suffix(builder, output)
    for suffix in {Path(name).suffix for name in run.known.outputs}:
        check_place(output.with_name(f"{output.stem}{suffix}"), "", taken)


def _without_folders(config: Mapping[str, Any]) -> dict[str, Any]:
    """A config that leaves no models and reports of what is tried on the way."""
    sections = config.get("compression", [])
    found = [sections] if isinstance(sections, Mapping) else list(sections)
    return {**config, "compression": [_without_folder(section) for section in found]}


def _without_folder(section: Any) -> Any:
    own = section.get("advanced_parameters") if isinstance(section, Mapping) else None
    if not isinstance(own, Mapping):
        return section
    return {**section, "advanced_parameters": {name: v for name, v in own.items() if name not in _FOLDERS}}


_FOLDERS = ("intermediate_model_dir", "sensitivity_report_dir")


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
