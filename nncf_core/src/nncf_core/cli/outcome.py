"""What commands that make a model give besides: a report."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from nncf_core.observing import Observation
    from nncf_core.report import Report

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


def write_report(
    path: Path, model: Path, report: Report, config: Mapping[str, Any], notes: Observation, command: str
) -> None:
    """Write the report of a run.

    :param command: what runs the config.
    """
    from nncf_core.registry import registry
    from nncf_core.report_page import Account
    from nncf_core.versions import versions_of

    known = registry()
    framework = known.backend_for(model).framework
    versions = versions_of(known, framework, algorithms_of(config))
    Account(
        f"{model.name}, compressed", report, notes.damages, config, notes.seconds, versions, command, notes.ranges
    ).write(path)


def algorithms_of(config: Mapping[str, Any]) -> list[str]:
    """Names of the algorithms that a config runs, each once."""
    compression = config.get("compression", [])
    sections = [compression] if isinstance(compression, Mapping) else compression
    return list(dict.fromkeys(section["algorithm"] for section in sections))
