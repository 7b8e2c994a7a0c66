"""``nncf compress-weights`` and ``nncf run``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from nncf_core.cli.data import dataset_of, dataset_options
from nncf_core.cli.running import (
    execute,
    named_as_options,
    scope_of,
    scope_options,
    shared_options,
    work_dir_option,
)
from nncf_core.parameters import BackupMode, CompressWeightsMode, GroupSizeFallbackMode, SensitivityMetric

_MODES = [str(mode) for mode in CompressWeightsMode if mode is not CompressWeightsMode.INT8]


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
@work_dir_option
@scope_options
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

    advanced: dict[str, Any] = {}
    if options["group_size_fallback"]:
        advanced["group_size_fallback_mode"] = GroupSizeFallbackMode(options["group_size_fallback"])
    if options["codebook"]:
        if options["mode"] != "codebook":
            raise click.UsageError(f"--codebook needs --mode codebook; the mode is {options['mode']}.")
        advanced["codebook"] = _numbers(options["codebook"])
    _check_effects(options)
    config = compress_weights_config(
        mode=options["mode"],
        ratio=options["ratio"],
        group_size=options["group_size"],
        all_layers=options["all_layers"] or None,
        backup_mode=options["backup_mode"],
        sensitivity_metric=options["sensitivity_metric"],
        ignored_scope=scope_of(options),
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


@click.command("run")
@click.argument("config", type=click.Path(path_type=Path))
@click.argument("model", type=click.Path(path_type=Path))
@dataset_options
@work_dir_option
@shared_options
def run(config: Path, model: Path, backend_params: tuple[str, ...], **options: Any) -> None:
    """Compress MODEL as the file CONFIG says.

    CONFIG is an NNCFConfig in JSON, such as {"compression": {"algorithm": "weight_compression", "mode": "nf4"}}

    \b
    Examples:
      nncf run config.json model.onnx -o small.onnx
      nncf run config.json model.xml -o small.xml --dataset samples.npz --report report.html
    """
    from nncf_core.config.nncf_config import read_json

    dataset = dataset_of(options["dataset"], options["dataset_options"], model)
    execute(read_json(config), model, dataset, backend_params, {**options, "config": config})


_FEW_BITS = ("scale_estimation", "gptq", "lora_correction")
"""Methods that do nothing to formats of 8 bits."""

_MODES_OF_8_BITS = ("int8_sym", "int8_asym", "mxfp8_e4m3", "fp8_e4m3")


def _check_effects(options: Mapping[str, Any]) -> None:
    """Refuse options that would have no effect beside the others."""
    mode, quality, metric = options["mode"], options["quality"], options["sensitivity_metric"]
    idle = ["--" + name.replace("_", "-") for name in _FEW_BITS if options[name]]
    idle += [f"--quality {quality}"] if quality != "fast" else []
    if idle and mode in _MODES_OF_8_BITS:
        raise click.UsageError(
            f"{' and '.join(idle)} {'needs' if len(idle) == 1 else 'need'} a format of at most 4 bits, and --mode is "
            f"{mode}: choose another mode, or leave out {idle[0] if len(idle) == 1 else 'these'}."
        )
    # what INT8 does not take, its errors name
    if metric is not None and options["ratio"] is None and not mode.startswith("int8"):
        raise click.UsageError(
            f"--sensitivity-metric {metric} needs --ratio: without it all weights get the primary format, and none is "
            "chosen for the backup format."
        )


def _numbers(text: str) -> Any:
    import numpy as np

    from nncf_core.numerics.grid import checked_table

    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        raise click.BadParameter(f"{text!r} is not a list of numbers", param_hint="--codebook") from None
    return checked_table(np.array(values), f"--codebook {text}")
