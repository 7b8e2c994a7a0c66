"""``nncf quantize``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from nncf_core.cli.data import dataset_of, dataset_options
from nncf_core.cli.running import execute, named_as_options, scope_of, scope_options, shared_options
from nncf_core.cli.witnesses import UserMetric
from nncf_core.parameters import DropType, ModelType, QuantizationPreset, TargetDevice


@click.command("quantize")
@click.argument("model", type=click.Path(path_type=Path))
@dataset_options
@click.option(
    "--preset",
    type=click.Choice([str(preset) for preset in QuantizationPreset], case_sensitive=False),
    help="performance: activations without zero points; mixed: with them.  [default: as the runtime wants them]",
)
@click.option(
    "--target-device",
    type=click.Choice([str(device) for device in TargetDevice], case_sensitive=False),
    default="ANY",
    show_default=True,
    help="Where the model will run.",
)
@click.option(
    "--model-type",
    type=click.Choice([str(kind) for kind in ModelType], case_sensitive=False),
    help="transformer: sums and the like stay in floating point.",
)
@click.option("--subset-size", type=click.IntRange(min=1), default=300, show_default=True, help="Samples to use.")
@click.option("--accurate-bias-correction", is_flag=True, help="Correct biases layer by layer; takes longer.")
@click.option(
    "--max-drop",
    type=click.FloatRange(min=0),
    help="Leave out quantizers until the metric drops by no more than this; needs --validation.",
)
@click.option(
    "--drop-type",
    type=click.Choice([str(kind) for kind in DropType], case_sensitive=False),
    help="Whether --max-drop is a difference, or a share of the original model's metric.  [default: absolute]",
)
@click.option(
    "--validation",
    metavar="MODULE:FUNCTION",
    help="Python function of a model as it is deployed and of samples (dicts of arrays) that gives the metric.",
)
@click.option("--validation-dataset", metavar="SOURCE", help="Its samples, named like --dataset.  [default: the same]")
@click.option(
    "--sensitivity-report",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for a report of which quantizers cost how much; needs --validation.",
)
@click.option(
    "--intermediate-models",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for the model that is all quantized, and for the best so far where the metric fails.",
)
@scope_options
@shared_options
def quantize(model: Path, backend_params: tuple[str, ...], **options: Any) -> None:
    """Quantize weights and activations of MODEL to 8 bits.

    \b
    Examples:
      nncf quantize model.onnx -o small.onnx --dataset samples.npz
      nncf quantize model.xml -o small.xml --dataset samples.npz --max-drop 0.01 --validation metrics:accuracy
    """
    from nncf_core.accuracy import accuracy_control_config
    from nncf_core.advanced import AdvancedAccuracyRestorerParameters
    from nncf_core.api import quantize_config

    common: dict[str, Any] = {
        "preset": options["preset"],
        "target_device": TargetDevice(options["target_device"]),
        "model_type": options["model_type"],
        "subset_size": options["subset_size"],
        "fast_bias_correction": not options["accurate_bias_correction"],
        "ignored_scope": scope_of(options),
    }
    if options["dataset"] is None:
        raise click.UsageError("Missing option '--dataset': ranges of activations come from samples.")
    report = options["sensitivity_report"]
    controlled = options["max_drop"] is not None or report is not None
    if controlled and options["validation"] is None:
        raise click.UsageError("--max-drop and --sensitivity-report need --validation MODULE:FUNCTION.")
    if not controlled and options["validation"] is not None:
        raise click.UsageError("--validation needs --max-drop, or --sensitivity-report.")
    for option in ("drop_type", "validation_dataset", "intermediate_models"):
        if not controlled and options[option] is not None:
            raise click.UsageError(f"--{option.replace('_', '-')} needs --validation MODULE:FUNCTION.")
    with named_as_options():
        metric = None
        if controlled:
            source = options["validation_dataset"] or options["dataset"]
            metric = UserMetric.of(options["validation"], source, options["dataset_options"], model)
            config = accuracy_control_config(
                max_drop=0.01 if options["max_drop"] is None else options["max_drop"],
                drop_type=DropType(options["drop_type"] or "absolute"),
                restorer=AdvancedAccuracyRestorerParameters(
                    intermediate_model_dir=_text(options["intermediate_models"]),
                    sensitivity_report_dir=_text(report),
                ),
                **common,
            )
        else:
            config = quantize_config(**common)
        settings = {**options, "work_dir": None}
        dataset = dataset_of(options["dataset"], options["dataset_options"], model)
        execute(dict(config), model, dataset, backend_params, settings, metric)


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)
