"""From a config and a module to a controller and the module in training."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from nncf_core.config.nncf_config import NNCFConfig
from nncf_core.errors import UnsupportedModelError, ValidationError
from nncf_core.training.assembling import assemble
from nncf_core.training.control import CompressionAlgorithmController
from nncf_torch.initialization import FILLERS, TYPES, dataset_of, filled, registered_loader, tuner_of
from nncf_torch.structures import QuantizationPrecisionInitArgs


def create_compressed_model(
    model: nn.Module,
    config: NNCFConfig | Mapping[str, Any],
    compression_state: Mapping[str, Any] | None = None,
    dummy_forward_fn: Callable[[nn.Module], Any] | None = None,
    wrap_inputs_fn: Callable[..., Any] | None = None,
    wrap_outputs_fn: Callable[..., Any] | None = None,
    dump_graphs: bool = True,
) -> tuple[CompressionAlgorithmController, nn.Module]:
    """The model compressed as a config says, to be trained, and what controls the compression meanwhile.

    An input of the model, to trace it with, comes from ``dummy_forward_fn``, from the config's ``input_info``, or is
    the first of the loader that :func:`register_default_init_args` attached.

    :param model: it is not changed, and shares no memory of parameters with the result.
    :param config: with one algorithm or several in its section ``compression``.
    :param compression_state: what ``controller.get_compression_state()`` gave. Then no data is needed; load the model's
        ``state_dict`` afterwards.
    :param dummy_forward_fn: runs the model, which it is given, once.
    :param wrap_inputs_fn: not needed, as are ``wrap_outputs_fn`` and ``dump_graphs``; taken so that scripts run.
    :return: the controller and the model.
    :raises ValidationError: when the config is not valid, or lacks an input to trace the model with.
    :raises UnsupportedModelError: when it is no module, or does not run on its input.
    """
    if not isinstance(model, nn.Module):
        raise UnsupportedModelError(f"A {type(model).__name__} is not trained; give a torch.nn.Module.")
    checked = NNCFConfig.from_dict(config)
    loader = registered_loader(checked)
    example = _example(model, checked, dummy_forward_fn, loader)
    options: dict[str, Any] = {} if example is None else {"example_input": example}
    if checked.has_extra_struct(QuantizationPrecisionInitArgs):
        options["precision_init"] = checked.get_extra_struct(QuantizationPrecisionInitArgs)
    return assemble(
        checked,
        model,
        dataset=dataset_of(loader),
        state=compression_state,
        options=options,
        tuner=tuner_of(checked),
    )


def _example(
    model: nn.Module, config: NNCFConfig, dummy_forward_fn: Callable[[nn.Module], Any] | None, loader: Any
) -> Any:
    if dummy_forward_fn is not None:
        if not callable(dummy_forward_fn):
            raise ValidationError(
                f"dummy_forward_fn is a {type(dummy_forward_fn).__name__}; give a function that calls the model, which "
                "is its only argument."
            )
        return _captured(model, dummy_forward_fn)
    info = config.get("input_info")
    if info is not None:
        return _fitting(model, _described(model, [info] if isinstance(info, Mapping) else list(info)))
    if loader is not None:
        for item in loader:
            args, kwargs = loader.get_inputs(item)
            return dict(kwargs) if kwargs else tuple(args)
    if "example_input" in config.get("backend_params", {}):
        return None
    raise ValidationError(
        'The model must be run once to be traced: give the config an "input_info", e.g. {"sample_size": [1, 3, 224, '
        "224]}, register a loader with nncf.torch.register_default_init_args, or give dummy_forward_fn."
    )


def _described(model: nn.Module, inputs: list[Mapping[str, Any]]) -> Any:
    """An input as ``input_info`` tells; with keywords, all have one. Without a type, elements are as in the model."""
    weights = (parameter.dtype for parameter in model.parameters() if parameter.is_floating_point())
    own = next(weights, torch.float32)
    for index, one in enumerate(inputs):
        if "sample_size" not in one:
            raise ValidationError(f"input_info[{index}]: 'sample_size' must be given.")
        if any(isinstance(size, bool) or size != int(size) or size < 1 for size in one["sample_size"]):
            raise ValidationError(
                f"input_info[{index}]: sample_size is {list(one['sample_size'])}; its sizes are positive integers, the "
                "first of them that of the batch."
            )
        for key, known in (("type", TYPES), ("filler", FILLERS)):
            if key in one and one[key] not in known:
                raise ValidationError(f"input_info[{index}]: {key} is {one[key]!r}; it is one of {', '.join(known)}.")
    made = [
        filled(one["sample_size"], TYPES[one["type"]] if "type" in one else own, one.get("filler", "ones"))
        for one in inputs
    ]
    names = [one.get("keyword") for one in inputs]
    if all(name is None for name in names):
        return tuple(made)
    if any(name is None for name in names):
        raise ValidationError("input_info: either all inputs have a 'keyword', or none.")
    return {str(name): tensor for name, tensor in zip(names, made, strict=True)}


def _fitting(model: nn.Module, example: Any) -> Any:
    """An input that ``input_info`` tells of, as one of a model."""
    signature = inspect.signature(model.forward)
    args, kwargs = ((), example) if isinstance(example, Mapping) else (example, {})
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        raise ValidationError(
            f"input_info does not fit the model: {error}. It has forward{signature}: give an entry for each input, in "
            "order, or each with the argument's name as 'keyword'."
        ) from None
    return example


class _CapturedError(Exception):
    """Ends a run of which only the arguments are wanted."""


def _captured(model: nn.Module, run: Callable[[nn.Module], Any]) -> Any:
    found: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    def keep(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        found.append((args, kwargs))
        raise _CapturedError

    hook = model.register_forward_pre_hook(keep, with_kwargs=True, prepend=True)
    try:
        run(model)
    except _CapturedError:
        pass
    finally:
        hook.remove()
    if not found:
        raise ValidationError("dummy_forward_fn did not call the model that it was given.")
    args, kwargs = found[0]
    if args and kwargs:
        return dict(inspect.signature(model.forward).bind(*args, **kwargs).arguments)
    return kwargs or tuple(args)
