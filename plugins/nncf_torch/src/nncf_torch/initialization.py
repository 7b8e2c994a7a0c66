"""Data and functions of a training script, registered with a config."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from attrs import frozen
from torch import nn

from nncf_core.config.nncf_config import NNCFConfig
from nncf_core.config.structures import BNAdaptationInitArgs, ModelEvaluationArgs, QuantizationRangeInitArgs
from nncf_core.dataset import Dataset
from nncf_core.errors import UnsupportedDatasetError, ValidationError
from nncf_torch.structures import (
    AutoQPrecisionInitArgs,
    DistributedCallbacksArgs,
    LeGRInitArgs,
    QuantizationPrecisionInitArgs,
)
from nncf_torch.tuning import StepsTuner


class PTInitializingDataLoader:
    """A loader that says which part of its items is the model's input, and which the target.

    To be subclassed where items are not pairs of input and target.

    :param data_loader: gives items, each a batch.
    """

    def __init__(self, data_loader: Any) -> None:
        self.data_loader = data_loader
        self.batch_size: int = getattr(data_loader, "batch_size", None) or 1

    def __iter__(self) -> Iterator[Any]:
        return iter(self.data_loader)

    def __len__(self) -> int:
        return len(self.data_loader)

    def get_inputs(self, dataloader_output: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Positional and keyword arguments of the model.

        :raises NotImplementedError: in this class.
        """
        raise NotImplementedError

    def get_target(self, dataloader_output: Any) -> Any:
        """What the criterion compares with."""
        return dataloader_output[1]


class DefaultInitializingDataLoader(PTInitializingDataLoader):
    """For items that are pairs of input and target, or the input alone."""

    def get_inputs(self, dataloader_output: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The first of a pair; a mapping is keyword arguments."""
        item = dataloader_output
        first = item[0] if isinstance(item, (tuple, list)) else item
        return ((), dict(first)) if isinstance(first, Mapping) else ((first,), {})


def wrap_dataloader_for_init(data_loader: Any) -> PTInitializingDataLoader:
    """The loader itself where it says what its items are, otherwise one for pairs.

    :raises UnsupportedDatasetError: when it cannot be iterated.
    """
    if isinstance(data_loader, PTInitializingDataLoader):
        return data_loader
    if not isinstance(data_loader, Iterable) and not hasattr(data_loader, "__getitem__"):
        raise UnsupportedDatasetError(
            f"The loader is a {type(data_loader).__name__}, which cannot be iterated; give a "
            "torch.utils.data.DataLoader, or a list of batches."
        )
    return DefaultInitializingDataLoader(data_loader)


def register_default_init_args(
    nncf_config: NNCFConfig,
    train_loader: Any,
    criterion: Any = None,
    criterion_fn: Callable[[Any, Any, Any], Any] | None = None,
    train_steps_fn: Callable[..., Any] | None = None,
    validate_fn: Callable[..., Any] | None = None,
    val_loader: Any = None,
    autoq_eval_fn: Callable[..., float] | None = None,
    model_eval_fn: Callable[..., float] | None = None,
    distributed_callbacks: tuple[Callable[[Any], Any], Callable[[Any], Any]] | None = None,
    execution_parameters: Any = None,
    legr_train_optimizer: Any = None,
    device: str | None = None,
) -> NNCFConfig:
    """Attach to a config what the initialisation of its algorithms may need; the config is returned.

    :param train_loader: gives pairs of input and target, or is a :class:`PTInitializingDataLoader`.
    :param criterion: the loss, for those that look at gradients.
    :param criterion_fn: of outputs, target and criterion; by default ``criterion(outputs, target)``.
    :param train_steps_fn: trains some steps, for the learned ranking of filters.
    :param validate_fn: of the model and a loader: accuracies, for the same.
    :param val_loader: validation data, for the same and ``autoq_eval_fn``.
    :param autoq_eval_fn: of the model and a loader: a figure of merit.
    :param model_eval_fn: of the model: a figure of merit, for accuracy-aware training.
    :param distributed_callbacks: one function that wraps a model for several processes, one that takes it out.
    :param execution_parameters: not needed; taken so that scripts written for it run.
    :param legr_train_optimizer: for ``train_steps_fn``.
    :param device: where to run; by default where the model is.
    :raises InternalError: when something of the kind is attached already.
    :raises ValidationError: when the config is no :class:`nncf.NNCFConfig`.
    :raises UnsupportedDatasetError: when the loader cannot be iterated.
    """
    if not isinstance(nncf_config, NNCFConfig):
        raise ValidationError(
            f"Nothing can be attached to a {type(nncf_config).__name__}; give an nncf.NNCFConfig, which "
            "nncf.NNCFConfig.from_dict makes of a dict."
        )
    loader = wrap_dataloader_for_init(train_loader)
    found: list[Any] = [QuantizationRangeInitArgs(loader, device), BNAdaptationInitArgs(loader, device)]
    if criterion is not None:
        chosen = criterion_fn or (lambda outputs, target, loss: loss(outputs, target))
        found.append(QuantizationPrecisionInitArgs(chosen, criterion, loader, device))
    if train_steps_fn is not None and validate_fn is not None and val_loader is not None:
        found.append(LeGRInitArgs(loader, train_steps_fn, val_loader, validate_fn, legr_train_optimizer, nncf_config))
    if autoq_eval_fn is not None:
        found.append(AutoQPrecisionInitArgs(val_loader or loader, autoq_eval_fn, nncf_config))
    if model_eval_fn is not None:
        found.append(ModelEvaluationArgs(model_eval_fn))
    if distributed_callbacks is not None:
        found.append(DistributedCallbacksArgs(*distributed_callbacks))
    nncf_config.register_extra_structs(found)
    return nncf_config


def registered_loader(config: Mapping[str, Any]) -> PTInitializingDataLoader | None:
    """The loader that a config has for initialisation."""
    if isinstance(config, NNCFConfig):
        for kind in (QuantizationRangeInitArgs, BNAdaptationInitArgs):
            if config.has_extra_struct(kind):
                struct: Any = config.get_extra_struct(kind)
                return wrap_dataloader_for_init(struct.data_loader)
    return None


def tuner_of(config: Mapping[str, Any]) -> Callable[[nn.Module], StepsTuner] | None:
    """What tries things out by the functions that were attached to a config; ``None``: there are none."""
    if not isinstance(config, NNCFConfig) or not config.has_extra_struct(LeGRInitArgs):
        return None
    functions = config.get_extra_struct(LeGRInitArgs)
    return lambda model: StepsTuner(model, functions)


@frozen(eq=False)
class LoaderSamples:
    """The items of a loader as inputs of the model."""

    loader: PTInitializingDataLoader

    @property
    def batch_size(self) -> int:
        """Samples in an item."""
        return int(getattr(self.loader, "batch_size", 1) or 1)

    def __iter__(self) -> Iterator[Any]:
        for item in self.loader:
            args, kwargs = self.loader.get_inputs(item)
            yield dict(kwargs) if kwargs else tuple(args)

    def __len__(self) -> int:
        return len(self.loader)


def dataset_of(loader: PTInitializingDataLoader | None) -> Dataset[Any, Any] | None:
    """A loader as a calibration dataset."""
    return None if loader is None else Dataset(LoaderSamples(loader))


TYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int32, torch.int64, torch.bool)
} | {
    "half": torch.float16,
    "float": torch.float32,
    "double": torch.float64,
    "int": torch.int64,
    "long": torch.int64,
}
"""What ``input_info`` calls the elements' types."""

FILLERS = ("ones", "zeros", "random")
"""What ``input_info`` fills an input with."""


def filled(size: list[float], dtype: torch.dtype, filler: str) -> torch.Tensor:
    """An input of the shape, type and filling (one of :data:`FILLERS`) that ``input_info`` tells.

    Random numbers are from 0 to 1; integers have none, and are 1.
    """
    shape = [int(n) for n in size]
    if filler == "random" and dtype.is_floating_point:
        return torch.rand(shape, generator=torch.Generator().manual_seed(0)).to(dtype)
    return torch.full(shape, filler != "zeros", dtype=dtype)
