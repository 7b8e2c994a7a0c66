"""``nncf compress-weights`` and ``nncf run``."""

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

from nncf_core.cli.data import dataset_of, dataset_options
from nncf_core.cli.lock import inputs_of, located, lock_path, write_lock
from nncf_core.cli.outcome import check_report, outcome_options, write_report, written
from nncf_core.parameters import BackupMode, CompressWeightsMode, GroupSizeFallbackMode, SensitivityMetric

if TYPE_CHECKING:
    from nncf_core.controlling import Validation
    from nncf_core.dataset import Dataset
    from nncf_core.locking import Data
    from nncf_core.progress import Progress
    from nncf_core.report import Report
    from nncf_core.verification import Certificate

_F = TypeVar("_F", bound=Callable[..., Any])

_MODES = [str(mode) for mode in CompressWeightsMode if mode is not CompressWeightsMode.INT8]

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


_work_dir_option = click.option(
    "--work-dir",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder where a calibration leaves what it has finished; an interrupted one goes on from there.",
)


@click.command("compress-weights")
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "--mode",
    type=click.Choice(_MODES, case_sensitive=False),
    default="int8_asym",
    show_default=True,
    metavar="MODE",
    help=f"Number format: {', '.join(_MODES)}.",
)
@click.option(
    "--ratio",
    type=float,
    help="Largest share of the weights that gets the primary format; the rest gets the backup format.  [default: 1]",
)
@click.option("--group-size", type=int, help="Weights that share a scale; -1: the whole channel.  [default: by mode]")
@click.option("--all-layers", is_flag=True, help="Primary format for embeddings and the last layer too.")
@click.option(
    "--backup-mode",
    type=click.Choice([str(m) for m in BackupMode], case_sensitive=False),
    help="Format of the other weights.  [default: int8_asym; mxfp8_e4m3 and fp8_e4m3 for modes of their kind]",
)
@click.option(
    "--sensitivity-metric",
    type=click.Choice([str(m) for m in SensitivityMetric], case_sensitive=False),
    metavar="METRIC",
    help="How weights for the backup format are chosen.  [default: by the data, else weight_quantization_error]",
)
@click.option(
    "--group-size-fallback",
    type=click.Choice([str(m) for m in GroupSizeFallbackMode], case_sensitive=False),
    help="What to do with weights that the group size does not divide.  [default: error]",
)
@click.option("--codebook", metavar="V,V,...", help="Increasing values of the table, for --mode codebook.")
@dataset_options
@click.option("--subset-size", type=click.IntRange(min=1), default=128, show_default=True, help="Samples to use of it.")
@click.option(
    "--quality",
    type=click.Choice(["fast", "best", "max"]),
    default="fast",
    show_default=True,
    help="best: GPTQ under searched scales; max: a bit better in three times the time. Both need --dataset.",
)
@click.option("--awq", is_flag=True, help="Scale channels before rounding (AWQ); better with --dataset.")
@click.option("--scale-estimation", is_flag=True, help="Search scales by the outputs of layers; needs --dataset.")
@click.option("--gptq", is_flag=True, help="Let weights make up for each other's errors (GPTQ); needs --dataset.")
@click.option("--lora-correction", is_flag=True, help="Add branches of low rank for what is lost; needs --dataset.")
@_work_dir_option
@click.option("--ignore", multiple=True, metavar="NAME", help="Leave out the node (or constant) of this name.")
@click.option("--ignore-pattern", multiple=True, metavar="REGEX", help="Leave out nodes whose names match.")
@click.option("--ignore-type", multiple=True, metavar="TYPE", help="Leave out nodes of this type.")
@shared_options
def compress_weights(model: Path, backend_params: tuple[str, ...], **options: Any) -> None:
    """Compress the weights of MODEL.

    \b
    Examples:
      nncf compress-weights model.onnx -o small.onnx --mode int4_sym --group-size 64
      nncf compress-weights model.xml -o small.xml --mode int4_asym --quality best --dataset tokens.npz
      nncf compress-weights model.pt2 -o small.pt2 --report report.html
    """
    from nncf_core.advanced import AdvancedCompressionParameters
    from nncf_core.api import compress_weights_config, with_quality
    from nncf_core.scopes import IgnoredScope

    advanced: dict[str, Any] = {}
    if options["group_size_fallback"]:
        advanced["group_size_fallback_mode"] = GroupSizeFallbackMode(options["group_size_fallback"])
    if options["codebook"]:
        advanced["codebook"] = _numbers(options["codebook"])
    scope = IgnoredScope(
        names=list(options["ignore"]),
        patterns=list(options["ignore_pattern"]),
        types=list(options["ignore_type"]),
    )
    config = compress_weights_config(
        mode=options["mode"],
        ratio=options["ratio"],
        group_size=options["group_size"],
        all_layers=options["all_layers"] or None,
        backup_mode=options["backup_mode"],
        sensitivity_metric=options["sensitivity_metric"],
        ignored_scope=None if scope == IgnoredScope() else scope,
        subset_size=options["subset_size"],
        advanced_parameters=AdvancedCompressionParameters(**advanced) if advanced else None,
        awq=options["awq"] or None,
        scale_estimation=options["scale_estimation"] or None,
        gptq=options["gptq"] or None,
        lora_correction=options["lora_correction"] or None,
    )
    config = with_quality(config, options["quality"])
    dataset = dataset_of(options["dataset"], options["dataset_options"], model)
    with named_as_options():
        execute(config, model, dataset, backend_params, options)


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


@click.command("run")
@click.argument("config", type=click.Path(path_type=Path))
@click.argument("model", type=click.Path(path_type=Path))
@dataset_options
@_work_dir_option
@shared_options
def run(config: Path, model: Path, backend_params: tuple[str, ...], **options: Any) -> None:
    """Compress MODEL as the file CONFIG says.

    CONFIG is an NNCFConfig in JSON, such as {"compression": {"algorithm": "weight_compression", "mode": "nf4"}}

    \b
    Examples:
      nncf run config.json model.onnx -o small.onnx
      nncf run config.json model.xml -o small.xml --dataset samples.npz --report report.html
    """
    from nncf_core.config.nncf_config import NNCFConfig

    checked = dict(NNCFConfig.from_json(str(config)))
    dataset = dataset_of(options["dataset"], options["dataset_options"], model)
    execute(checked, model, dataset, backend_params, options)


def execute(
    config: dict[str, Any],
    model: Path,
    dataset: Dataset[Any, Any] | None,
    backend_params: tuple[str, ...],
    options: Mapping[str, Any],
    validation: Validation | None = None,
) -> None:
    """Run a config on a model file, and say what was done.

    :param options: those of :func:`shared_options`, and ``work_dir``.
    """
    from nncf_core import pipeline
    from nncf_core.config.nncf_config import NNCFConfig
    from nncf_core.errors import InvalidPathError
    from nncf_core.locking import Witness
    from nncf_core.observing import Observation
    from nncf_core.progress import SilentProgress, default_progress

    output: Path | None = options["output"]
    if output is None and not options["dry_run"] and options["save_plan"] is None:
        raise click.UsageError("Missing option '-o' / '--output' (or --dry-run).")
    if output is not None and not output.parent.is_dir():
        raise InvalidPathError(f"Cannot write {output}: the folder {output.parent} does not exist.")
    check_report(options["report_file"])
    locks = options["lock"] and validation is None  # a metric is the user's code, which a lock does not hold
    if output is not None and options["report_file"] == lock_path(output):
        raise InvalidPathError(f"The report would replace the lock file {lock_path(output)}: choose another name.")
    if backend_params:
        config = {**config, "backend_params": {**config.get("backend_params", {}), **_pairs(backend_params)}}
    NNCFConfig.validate(config)  # before anything looks at the model
    progress: Progress = SilentProgress() if options["quiet"] else default_progress()
    start = time.perf_counter()
    notes, certificate = Observation(measures=options["report_file"] is not None), None
    with _executor(options["threads"]) as executor:
        shared: dict[str, Any] = {"dataset": dataset, "executor": executor, "progress": progress}
        shared["validation"] = validation
        if options["dry_run"] or options["save_plan"] is not None:
            plan, report = pipeline.make_plan(
                config, model, keep_arrays=options["save_plan"] is not None, observation=notes, **shared
            )
            if options["save_plan"] is not None:
                plan.save(options["save_plan"])
        if output is not None and not options["dry_run"]:
            notes = Observation(measures=notes.measures, verifies=options["verify"])
            inputs = inputs_of(model) if locks else {}
            if dataset is not None and locks:
                shared["dataset"] = dataset = Witness(dataset)
            with written(model, output, notes, dataset, progress) as writing:
                result = pipeline.run(
                    config, model, output=writing.path, work_dir=options["work_dir"], observation=notes, **shared
                )
                data = _data(dataset, options, output.parent)
            report, certificate = result.report, writing.certificate
            if locks:
                write_lock(model, inputs, data, config, output, certificate)
    if options["report_file"] is not None:
        again = _again(model, output, options)
        write_report(options["report_file"], model, report, config, notes, again, certificate)
    if options["quiet"]:
        return
    _print(report, model, None if options["dry_run"] else output, time.perf_counter() - start, options, certificate)


def _data(dataset: Dataset[Any, Any] | None, options: Mapping[str, Any], folder: Path) -> Data | None:
    """What a lock file in a folder tells of a dataset."""
    from nncf_core.locking import Witness, data_of

    if not isinstance(dataset, Witness):
        return None
    pairs = dict(text.split("=", 1) for text in options.get("dataset_options", ()))
    return located(data_of(options["dataset"], pairs, dataset), folder)


def _again(model: Path, output: Path | None, options: Mapping[str, Any]) -> str:
    """The command that does the same by a config."""
    data = [] if options["dataset"] is None else ["--dataset", options["dataset"]]
    for pair in options.get("dataset_options", ()):
        data += ["--dataset-option", pair]
    return shlex.join(["nncf", "run", "config.json", str(model), "-o", str(output or "OUTPUT"), *data])


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


def _numbers(text: str) -> Any:
    import numpy as np

    try:
        return np.array([float(part) for part in text.split(",")], np.float32)
    except ValueError:
        raise click.BadParameter(f"{text!r} is not a list of numbers", param_hint="--codebook") from None
