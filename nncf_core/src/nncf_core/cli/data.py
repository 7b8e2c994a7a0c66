"""The options by which commands take datasets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from nncf_core.dataset import Dataset
    from nncf_core.dataset_files import ModelInput

_F = TypeVar("_F", bound=Callable[..., Any])


def dataset_options(function: _F) -> _F:
    """``--dataset`` and ``--dataset-option``; :func:`dataset_of` makes a dataset of them."""
    decorators = [
        click.option(
            "--dataset",
            metavar="SOURCE",
            help="Calibration data: .npz with an array for each input, .npy, .parquet, a folder of images, .txt or a "
            "folder of these, or module:function.",
        ),
        click.option(
            "--dataset-option",
            "dataset_options",
            multiple=True,
            metavar="KEY=VALUE",
            help="For images scale, mean and std; for text tokenizer (a tokenizer.json) and length; may be repeated.",
        ),
    ]
    for decorator in reversed(decorators):
        function = decorator(function)
    return function


def dataset_of(source: str | None, options: Sequence[str], model: Path) -> Dataset[Any, Any] | None:
    """The dataset of the options; ``None`` when there is none.

    :param model: the model file that it is for.
    """
    from nncf_core.dataset_files import read_dataset

    if source is None:
        if options:
            raise click.UsageError("--dataset-option needs --dataset.")
        return None
    pairs = dict(_pair(text) for text in options)
    return read_dataset(source, lambda: _inputs_of(model), pairs)


def _pair(text: str) -> tuple[str, str]:
    key, separator, value = text.partition("=")
    if not separator or not key:
        raise click.BadParameter(f"{text!r} is not of the form KEY=VALUE", param_hint="--dataset-option")
    return key, value


def _inputs_of(model: Path) -> list[ModelInput]:
    from nncf_core.dataset_files import ModelInput
    from nncf_core.registry import registry
    from nncf_core.running import feeds_of

    builder = registry().backend_for(model).builder
    ports = feeds_of(builder.build(builder.open(model, {})))
    return [ModelInput(name, port.dtype, port.shape) for name, port in ports.items()]
