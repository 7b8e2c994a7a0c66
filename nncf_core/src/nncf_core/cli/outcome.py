"""What commands that make a model give besides: a certificate, and a report."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from attrs import frozen

if TYPE_CHECKING:
    from nncf_core.cli.witnesses import Witnesses
    from nncf_core.contracts import GraphBuilder
    from nncf_core.dataset import Dataset
    from nncf_core.observing import Observation
    from nncf_core.progress import Progress
    from nncf_core.report import Report
    from nncf_core.verification import Certificate

_F = TypeVar("_F", bound=Callable[..., Any])


def outcome_options(function: _F) -> _F:
    """The options of all that."""
    decorators = [
        click.option(
            "--report",
            "report_file",
            type=click.Path(path_type=Path, dir_okay=False),
            help="Also write a page on what was done and what it cost (.html), or the same as data (.json).",
        ),
        click.option(
            "--verify/--no-verify",
            default=True,
            show_default=True,
            help="Run what was written, and leave no model that does not do what it should.",
        ),
        click.option(
            "--lock/--no-lock",
            default=True,
            show_default=True,
            help="Also write OUTPUT.lock.json, from which `nncf reproduce` makes the same bytes. Only without it may "
            "OUTPUT be MODEL.",
        ),
    ]
    for decorator in reversed(decorators):
        function = decorator(function)
    return function


@frozen
class Places:
    """Where the files of a run go.

    :param model: what is compressed.
    :param output: the result; ``None``: none is written.
    :param report: its report, likewise.
    :param lock: its lock file, likewise.
    """

    model: Path
    output: Path | None
    report: Path | None
    lock: Path | None

    @classmethod
    def of(cls, model: Path, output: Path | None, options: Mapping[str, Any]) -> Places:
        """Those that options name.

        :param options: of the command, those of :func:`outcome_options` among them.
        :raises InvalidPathError: when a folder is missing, a name does not say what is to be written, or something
            would take the place of another file of the run.
        """
        from nncf_core.errors import InvalidPathError

        report: Path | None = options["report_file"]
        taken = made_from(model, options)
        if output is not None:
            # a lock file is of no use where the original is gone
            check_place(output, "", taken if options["lock"] else {})
        lock = lock_path(output) if output is not None and options["lock"] else None
        if report is not None:
            if report.suffix.lower() not in (".html", ".json"):
                raise InvalidPathError(f"Cannot write the report {report}: its name must end in .html or .json.")
            written = {lock: "lock file", output: "model"}
            own = {path: what for path, what in written.items() if path is not None}
            check_place(report, "the report ", {**taken, **own})
        return cls(model, output, report, lock)

    @contextmanager
    def held(self) -> Iterator[Held]:
        """Within the block all files are written aside; they take their places together when it ends without an error.

        :raises InvalidPathError: when one of them cannot be written.
        """
        from nncf_core.files import replacing
        from nncf_core.registry import registry
        from nncf_core.staging import staged

        with ExitStack() as stack:
            # the model is the first to take its place
            report = None if self.report is None else stack.enter_context(replacing(self.report))
            lock = None if self.lock is None else stack.enter_context(replacing(self.lock))
            model = None
            if self.output is not None:
                builder = registry().backend_for(self.model).builder
                check_suffix(builder, self.output)
                model = stack.enter_context(staged(builder, self.model, self.output))
            yield Held(self, model, report, lock)


@frozen
class Held:
    """Files of a run that wait for their places.

    :param model: where the model is written.
    :param report_file: where its report is.
    :param lock_file: where its lock file is.
    """

    places: Places
    model: Path | None
    report_file: Path | None
    lock_file: Path | None

    def verified(self, notes: Observation, dataset: Dataset[Any, Any] | None, progress: Progress) -> Certificate | None:
        """What verification finds in the model; ``None`` where it was not asked for.

        :param notes: of the run.
        :raises VerificationError: when the model does not do what it should.
        """
        if not notes.verifies:
            return None
        from nncf_core.verification import raise_faults, verify

        assert self.model is not None
        assert self.places.output is not None
        certificate = verify(self.places.model, self.model, notes, dataset, progress)
        notes.lap("verifying")
        raise_faults(certificate, self.places.output)
        return certificate

    def lock(self, config: Mapping[str, Any], witnesses: Witnesses, certificate: Certificate | None) -> None:
        """Write the lock file."""
        from nncf_core.files import put_text
        from nncf_core.locking import Lock, relative

        output = self.places.output
        assert self.model is not None
        assert self.lock_file is not None
        assert output is not None
        folder, files, versions = output.parent, *digests_and_versions(self.model, config)
        lock = Lock(
            relative(self.places.model, folder),
            inputs_of(self.places.model),
            witnesses.data(folder),
            config,
            versions,
            relative(output, folder),
            files,
            None if certificate is None else certificate.to_json(),
            witnesses.metric(folder),
        )
        put_text(self.lock_file, lock.text(), lock_path(output))

    def report(
        self,
        report: Report,
        config: Mapping[str, Any],
        notes: Observation,
        command: str,
        certificate: Certificate | None,
    ) -> None:
        """Write the report, where one was asked for.

        :param command: what runs the config.
        """
        path, model = self.places.report, self.places.model
        if path is None or self.report_file is None:
            return
        from nncf_core.files import put_text
        from nncf_core.registry import registry
        from nncf_core.report_page import Account, Table
        from nncf_core.versions import versions_of

        known = registry()
        versions = versions_of(known, known.backend_for(model).framework, algorithms_of(config))
        words = {True: "yes", False: "no", None: "not checked"}
        checks = [] if certificate is None else [(c.name, words[c.passed], c.text) for c in certificate.checks]
        tables = [Table("Verification", ("check", "passed", "what was found"), checks)] if checks else []
        title, seen = f"{model.name}, compressed", (notes.damages, config, notes.seconds, versions)
        account = Account(title, report, *seen, command, notes.ranges, tables)
        put_text(self.report_file, account.text(path.suffix), path)


@contextmanager
def best_model_kept(model: Path, output: Path) -> Iterator[None]:
    """Where a validation function fails within the block, the best model so far is written beside the output.

    :raises ValidationFunctionError: with the name of the file.
    """
    from nncf_core.errors import ValidationFunctionError
    from nncf_core.registry import registry

    try:
        yield
    except ValidationFunctionError as error:
        if error.best_model is None:
            raise
        path = output.with_name(f"{output.stem}.best{output.suffix}")
        registry().backend_for(model).builder.save(error.best_model, path)
        message = str(error).replace("is in error.best_model", f"was written to {path}")
        raise ValidationFunctionError(message, error.best_model, error.best_metric) from error


def made_from(model: Path, options: Mapping[str, Any]) -> dict[Path, str]:
    """Files that a run reads, and what they are.

    :param options: of the command.
    """
    found = {model: "original model"}
    for name, what in (("config", "config"), ("dataset", "dataset"), ("validation_dataset", "dataset")):
        if options.get(name) is not None:
            found[Path(options[name])] = what
    for pair in options.get("dataset_options", ()):
        found[Path(pair.partition("=")[2])] = "file of a --dataset-option"
    return found


def check_place(path: Path, what: str, taken: Mapping[Path, str]) -> None:
    """Whether a file may be written.

    :param what: that is to be written, for errors, e.g. ``the report``; nothing for the model.
    :param taken: files that are to stay, and what they are.
    :raises InvalidPathError: when the path is a folder's, its folder is missing, or one of those would be replaced.
    """
    from nncf_core.errors import InvalidPathError

    if not path.name or path.is_dir():
        raise InvalidPathError(f"Cannot write {what}{path}: it is a folder; give the name of a file.")
    if not path.parent.is_dir():
        raise InvalidPathError(
            f"Cannot write {what}{path}: the folder {path.parent} does not exist; make it, or name another."
        )
    # a link is replaced, not what it leads to
    own = path.parent.resolve() / path.name
    for other, name in taken.items():
        if own in (other.resolve(), other.parent.resolve() / other.name):
            raise InvalidPathError(
                f"Cannot write {what}{path}: it would replace the {name} {other}. Name another file."
            )


def check_suffix(builder: GraphBuilder, output: Path) -> None:
    """Whether a model's name ends as those of its framework do.

    :raises InvalidPathError: when it does not.
    """
    from nncf_core.errors import InvalidPathError

    if output.suffix.lower() not in builder.suffixes:
        raise InvalidPathError(
            f"Cannot write {output}: the name of a model of {builder.title} ends in "
            f"{' or '.join(sorted(builder.suffixes))}; name another file."
        )


def lock_path(output: Path) -> Path:
    """Where the lock file of a model lies."""
    return output.with_name(f"{output.name}.lock.json")


def digests_and_versions(output: Path, config: Mapping[str, Any]) -> tuple[dict[str, str], dict[str, str]]:
    """Digests of what was written, and versions of what wrote it."""
    from nncf_core.registry import registry
    from nncf_core.versions import versions_of

    known = registry()
    return inputs_of(output), versions_of(known, known.backend_for(output).framework, algorithms_of(config))


def inputs_of(model: Path) -> dict[str, str]:
    """Digests of a model's files."""
    from nncf_core.locking import digests_of
    from nncf_core.registry import registry
    from nncf_core.staging import files_of

    return digests_of(files_of(registry().backend_for(model).builder, model))


def algorithms_of(config: Mapping[str, Any]) -> list[str]:
    """Names of the algorithms that a config runs, each once."""
    compression = config.get("compression", [])
    sections = [compression] if isinstance(compression, Mapping) else compression
    return list(dict.fromkeys(section["algorithm"] for section in sections))
