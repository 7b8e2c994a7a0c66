"""Writing modules to files that other programs read."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from nncf_core.errors import ModuleNotFoundError, ParameterNotSupportedError, ValidationError
from nncf_core.files import replacing
from nncf_torch.inputs import Call, named_leaves
from nncf_torch.running import evaluating, on_device, run_module


def export_module(
    module: nn.Module,
    example: Call,
    path: Path,
    save_format: str | None,
    input_names: Sequence[str] | None,
    output_names: Sequence[str] | None,
) -> None:
    """Write a module, as it is in evaluation, to a file.

    :param save_format: ``onnx`` or ``onnx_<opset>``, or ``pt2``; ``None``: by the suffix.
    :param input_names: of the tensors that the module takes, in order; one may be a string. ``None``: torch chooses.
    :param output_names: likewise of those that it gives.
    :raises ParameterNotSupportedError: for other formats.
    :raises ValidationError: when names are more or fewer than tensors.
    :raises ModuleNotFoundError: when the packages that torch writes ONNX files with are not installed.
    """
    chosen = save_format or path.suffix.removeprefix(".")
    matched = re.fullmatch(r"onnx(?:_(\d+))?", chosen)
    example = on_device(module, example)
    if chosen == "pt2":
        from nncf_torch.module_tracing import exported

        with replacing(path) as temporary, temporary.open("wb") as file:
            torch.export.save(exported(module, example), file)
        return
    if matched is None:
        raise ParameterNotSupportedError(
            f"The PyTorch backend writes onnx, onnx_<opset> and pt2, not {chosen!r}; openvino.convert_model takes what "
            "controller.strip() gives."
        )
    opset = int(matched[1]) if matched[1] else None
    names_in = _names("input_names", input_names, len(named_leaves((example.args, dict(example.kwargs)))))
    names_out = None
    if output_names is not None:
        names_out = _names("output_names", output_names, len(named_leaves(run_module(module, example))))
    with evaluating(module), torch.no_grad(), replacing(path) as temporary, warnings.catch_warnings():
        # of what torch deprecates, and uses itself
        warnings.simplefilter("ignore")
        try:
            torch.onnx.export(
                module,
                example.args,
                str(temporary),
                kwargs=dict(example.kwargs) or None,
                input_names=names_in,
                output_names=names_out,
                opset_version=opset,
                dynamo=True,
                external_data=False,
                verbose=False,
            )
        except ImportError as error:
            raise ModuleNotFoundError(
                f"torch.onnx.export needs a package that is not installed: {error}; install what it needs: "
                "pip install onnx onnxscript"
            ) from None


def _names(argument: str, names: str | Sequence[str] | None, count: int) -> list[str] | None:
    """Names of tensors as a list.

    :param count: number of tensors.
    :raises ValidationError: when there are more names, or fewer.
    """
    if names is None:
        return None
    listed = [names] if isinstance(names, str) else list(names)
    if len(listed) != count:
        raise ValidationError(
            f"{argument} has {len(listed)} names, {listed}, and the model {count}: give one for each."
        )
    return listed
