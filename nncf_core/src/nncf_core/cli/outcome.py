"""What commands that make a model give besides: a certificate, and a report."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from attrs import define

if TYPE_CHECKING:
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
            help="Also write OUTPUT.lock.json, from which `nncf reproduce` makes the same bytes.",
        ),
    ]
    for decorator in reversed(decorators):
        function = decorator(function)
    return function


def check_report(path: Path | None) -> None:
    """Say what is wrong with the name of a report before the work.

    :raises InvalidPathError: when it is not one of a page or of data, or its folder is missing.
    """
    from nncf_core.errors import InvalidPathError

    if path is not None and path.suffix.lower() not in (".html", ".json"):
        raise InvalidPathError(f"Cannot write the report {path}: its name must end in .html or .json.")
    if path is not None and not path.parent.is_dir():
        raise InvalidPathError(f"Cannot write the report {path}: the folder {path.parent} does not exist.")


@contextmanager
def written(
    model: Path, output: Path, notes: Observation, dataset: Dataset[Any, Any] | None, progress: Progress
) -> Iterator[Writing]:
    """Within the block a model is written; it stays where it turns out to do what it should.

    :param notes: of the run; where they do not verify, the model is written as it comes.
    :raises VerificationError: when it does not.
    """
    from nncf_core.registry import registry
    from nncf_core.staging import staged

    if not notes.verifies:
        yield Writing(output)
        return
    with staged(registry().backend_for(model).builder, model, output) as path:
        from nncf_core.verification import raise_faults, verify

        writing = Writing(path)
        yield writing
        writing.certificate = verify(model, path, notes, dataset, progress)
        notes.lap("verifying")
        raise_faults(writing.certificate, output)


@define
class Writing:
    """A model that is being written.

    :param path: where to write it.
    :param certificate: what verification found, once it has been written.
    """

    path: Path
    certificate: Certificate | None = None


def write_report(
    path: Path,
    model: Path,
    report: Report,
    config: Mapping[str, Any],
    notes: Observation,
    command: str,
    certificate: Certificate | None,
) -> None:
    """Write the report of a run.

    :param command: what runs the config.
    """
    from nncf_core.registry import registry
    from nncf_core.report_page import Account, Table
    from nncf_core.versions import versions_of

    known = registry()
    framework = known.backend_for(model).framework
    versions = versions_of(known, framework, algorithms_of(config))
    words = {True: "yes", False: "no", None: "not checked"}
    checks = [] if certificate is None else [(c.name, words[c.passed], c.text) for c in certificate.checks]
    tables = [Table("Verification", ("check", "passed", "what was found"), checks)] if checks else []
    title, seen = f"{model.name}, compressed", (notes.damages, config, notes.seconds, versions)
    Account(title, report, *seen, command, notes.ranges, tables).write(path)


def algorithms_of(config: Mapping[str, Any]) -> list[str]:
    """Names of the algorithms that a config runs, each once."""
    compression = config.get("compression", [])
    sections = [compression] if isinstance(compression, Mapping) else compression
    return list(dict.fromkeys(section["algorithm"] for section in sections))
