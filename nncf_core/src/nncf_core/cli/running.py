"""What commands that make a model share: options, and the run."""

from __future__ import annotations

import json
import re
import shlex
import textwrap
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from nncf_core.cli.outcome import Places, best_model_kept, lock_path, outcome_options
from nncf_core.cli.witnesses import Witnesses
from nncf_core.log import nncf_logger

if TYPE_CHECKING:
    from nncf_core.cli.witnesses import UserMetric
    from nncf_core.dataset import Dataset
    from nncf_core.progress import Progress
    from nncf_core.report import Report
    from nncf_core.scopes import IgnoredScope
    from nncf_core.verification import Certificate

_F = TypeVar("_F", bound=Callable[..., Any])

_OPTIONS = {
    r"The config is not valid\. compression\.": "",
    r"backend_params=\{'weight_format': '(\w+)'\}": r"--backend-param weight_format=\1",
    r"(?:advanced_parameters\.)?group_size_fallback_mode": "--group-size-fallback",
    r"advanced_parameters\.codebook": "--codebook",
    r"with ignored_scope": "with --ignore",
    r"needs calibration data; pass a dataset": "needs calibration data; give --dataset",
    **{
        rf"\b{name}=True": "--" + name.replace("_", "-")
        for name in ("awq", "scale_estimation", "gptq", "lora_correction")
    },
    r"Correct it, or set validate=False\.": "Correct it.",
    r"\b(?<!-)ratio\b": "--ratio",
    **{
        rf"\b{name}\b": "--" + name.replace("_", "-")
        for name in ("group_size", "all_layers", "backup_mode", "sensitivity_metric", "work_dir")
    },
}
"""Options of the command, by what errors call them, as regular expressions."""


def shared_options(function: _F) -> _F:
    """The options of every command that makes a model."""
    decorators = [
        click.option("-o", "--output", type=click.Path(path_type=Path), help="File to write."),
        click.option(
            "--backend-param",
            "backend_params",
            multiple=True,
            metavar="KEY=VALUE",
            help="Option of the backend, e.g. weight_format=matmul_nbits for ONNX; may be repeated.",
        ),
        click.option("--threads", type=click.IntRange(min=1), help="Threads; by default one for each core."),
        click.option("--dry-run", is_flag=True, help="Show what would be done; write no model."),
        click.option(
            "--save-plan",
            type=click.Path(path_type=Path, file_okay=False),
            help="Also write the plan (JSON and arrays) into this folder.",
        ),
        outcome_options,
        click.option("--json", "as_json", is_flag=True, help="Print the report as JSON."),
        click.option("-q", "--quiet", is_flag=True, help="No progress and no report."),
    ]
    for decorator in reversed(decorators):
        function = decorator(function)
    return function


def scope_options(function: _F) -> _F:
    """``--ignore`` and the like; :func:`scope_of` makes a scope of them."""
    decorators = [
        click.option("--ignore", multiple=True, metavar="NAME", help="Leave out the node (or constant) of this name."),
        click.option("--ignore-pattern", multiple=True, metavar="REGEX", help="Leave out nodes whose names match."),
        click.option("--ignore-type", multiple=True, metavar="TYPE", help="Leave out nodes of this type."),
    ]
    for decorator in reversed(decorators):
        function = decorator(function)
    return function


def scope_of(options: Mapping[str, Any]) -> IgnoredScope | None:
    """The scope of the options; ``None`` when nothing is left out."""
    from nncf_core.scopes import IgnoredScope

    scope = IgnoredScope(
        names=list(options["ignore"]), patterns=list(options["ignore_pattern"]), types=list(options["ignore_type"])
    )
    return None if scope == IgnoredScope() else scope


work_dir_option = click.option(
    "--work-dir",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder where a calibration leaves what it has finished; an interrupted one goes on from there.",
)


@contextmanager
def named_as_options() -> Iterator[None]:
    """Let errors speak of the command's options, not of the arguments of the Python function."""
    from nncf_core.errors import NNCFError

    try:
        yield
    except NNCFError as error:
        message = str(error)
        for pattern, option in _OPTIONS.items():
            message = re.sub(pattern, option, message)
        raise type(error)(message) from error


def execute(
    config: dict[str, Any],
    model: Path,
    dataset: Dataset[Any, Any] | None,
    backend_params: tuple[str, ...],
    options: Mapping[str, Any],
    metric: UserMetric | None = None,
) -> None:
    """Run a config on a model file, and say what was done.

    :param options: those of :func:`shared_options`, and ``work_dir``.
    """
    from nncf_core import pipeline
    from nncf_core.observing import Observation
    from nncf_core.progress import SilentProgress, default_progress

    output: Path | None = None if options["dry_run"] else options["output"]
    if output is None and not options["dry_run"] and options["save_plan"] is None:
        raise click.UsageError("Missing option '-o' / '--output' (or --dry-run).")
    places = Places.of(model, output, options)
    if options["work_dir"] is not None:
        if output is None:
            raise click.UsageError("--work-dir is for runs that write a model; leave it out.")
        _check_calibrates(config, options)
    if backend_params:
        config = with_backend_params(config, backend_params)
    progress: Progress = SilentProgress() if options["quiet"] else default_progress()
    start = time.perf_counter()
    notes, certificate = Observation(measures=options["report_file"] is not None), None
    with _executor(options["threads"]) as executor, places.held() as held:
        shared: dict[str, Any] = {"dataset": dataset, "executor": executor, "progress": progress}
        shared["validation"] = None if metric is None else metric.validation
        if options["dry_run"] or options["save_plan"] is not None:
            plan, report = pipeline.make_plan(
                config, model, keep_arrays=options["save_plan"] is not None, observation=notes, **shared
            )
            if options["save_plan"] is not None:
                plan.save(options["save_plan"])
        if output is not None:
            notes = Observation(measures=notes.measures, verifies=options["verify"])
            witness = Witnesses.of(dataset, metric, options) if options["lock"] else None
            if witness is not None:
                shared |= {"dataset": witness.dataset, "validation": witness.validation}
            with best_model_kept(model, output):
                result = pipeline.run(
                    config, model, output=held.model, work_dir=options["work_dir"], observation=notes, **shared
                )
            report = result.report
            certificate = held.verified(notes, dataset, progress)
            if witness is not None:
                held.lock(config, witness, certificate)
        held.report(report, config, notes, _again(model, options), certificate)
    if output is not None and not options["lock"] and lock_path(output).exists():
        nncf_logger.warning("%s is of an earlier run, and not of this model.", lock_path(output))
    if options["quiet"]:
        return
    _print(report, model, output, time.perf_counter() - start, options, certificate)


def _check_calibrates(config: dict[str, Any], options: Mapping[str, Any]) -> None:
    """Whether a run has something to leave in a work folder.

    :raises click.UsageError: when it has not.
    """
    from nncf_core.config.nncf_config import NNCFConfig
    from nncf_core.contracts import refines
    from nncf_core.registry import registry
    from nncf_core.sections import steps_of

    steps = [step for step in steps_of(NNCFConfig.from_dict(config), registry()) if refines(step.algorithm)]
    if not steps:
        raise click.UsageError(
            "--work-dir needs something to calibrate: --quality best, or in a config an algorithm like gptq."
        )
    if options["dataset"] is None and all(step.statistics_path is None for step in steps):
        raise click.UsageError("--work-dir needs --dataset.")


def _again(model: Path, options: Mapping[str, Any]) -> str:
    """The command that does the same by a config."""
    data = [] if options["dataset"] is None else ["--dataset", options["dataset"]]
    for pair in options.get("dataset_options", ()):
        data += ["--dataset-option", pair]
    return shlex.join(["nncf", "run", "config.json", str(model), "-o", str(options["output"] or "OUTPUT"), *data])


def _print(
    report: Report,
    model: Path,
    output: Path | None,
    seconds: float,
    options: Mapping[str, Any],
    certificate: Certificate | None,
) -> None:
    if options["as_json"]:
        from attrs import asdict

        files = {"model": str(model), "output": None if output is None else str(output)}
        entries = [asdict(entry) for entry in report.entries]
        verified = {} if certificate is None else {"verification": certificate.to_json()}
        found = {**files, "seconds": round(seconds, 3), **report.to_json(), "entries": entries, **verified}
        click.echo(json.dumps(found))
        return
    if options["dry_run"]:
        for entry in report.entries:
            granularity = "per channel" if entry.group_size == -1 else f"group size {entry.group_size}"
            click.echo(f"{entry.target}  {list(entry.shape)}  {entry.format}, {granularity}  ({entry.reason})")
    click.echo(str(report))
    ratio = report.bytes_before / report.bytes_after if report.bytes_after else 1.0
    click.echo(
        f"Weights: {readable(report.bytes_before)} -> {readable(report.bytes_after)} "
        f"({ratio:.2f} times smaller), {report.bits_per_weight:.2f} bits per weight"
    )
    if certificate is not None:
        click.echo(f"Verified\n{textwrap.indent(str(certificate), '  ')}")
    if output is not None:
        click.echo(f"Wrote {output} in {seconds:.2f} s")


def readable(count: int) -> str:
    """A number of bytes for people."""
    return f"{count / 1e6:.2f} MB" if count >= 1e5 else f"{count / 1e3:.2f} kB"


@contextmanager
def _executor(threads: int | None) -> Iterator[ThreadPoolExecutor | None]:
    if threads is None:
        yield None
    else:
        with ThreadPoolExecutor(threads) as executor:
            yield executor


def with_backend_params(config: Mapping[str, Any], texts: tuple[str, ...]) -> dict[str, Any]:
    """A config with further options of the backend."""
    own = config.get("backend_params", {})
    if not isinstance(own, Mapping):  # whoever checks the config says what it should be
        return dict(config)
    return {**config, "backend_params": {**own, **_pairs(texts)}}


def _pairs(texts: tuple[str, ...]) -> dict[str, Any]:
    pairs = {}
    for text in texts:
        key, separator, value = text.partition("=")
        if not separator or not key:
            raise click.BadParameter(f"{text!r} is not of the form KEY=VALUE", param_hint="--backend-param")
        try:
            pairs[key] = json.loads(value)
        except ValueError:
            pairs[key] = value
    return pairs
