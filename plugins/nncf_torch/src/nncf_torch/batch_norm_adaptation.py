"""Means and variances of normalization, of a model whose weights were changed."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from nncf_core.errors import UnsupportedDatasetError, sentence
from nncf_core.log import nncf_logger
from nncf_core.training.control import counted
from nncf_torch.initialization import LoaderSamples, wrap_dataloader_for_init
from nncf_torch.inputs import call_of, check_item
from nncf_torch.running import on_device


def adapt(model: nn.Module, items: Iterable[Any], iterations: int | None = None) -> None:
    """Let normalization see data, in place: running statistics move with their own momentum.

    All of the model runs in evaluation mode but its normalization; afterwards each module is in its own mode again.

    :param items: inputs of the model: a tuple is positional arguments, a dict keyword arguments.
    :param iterations: number of items; ``None``: all.
    :raises UnsupportedDatasetError: when there are no items, or the model does not run on one.
    """
    if not any(isinstance(module, _BatchNorm) for module in model.modules()):
        nncf_logger.warning("The model has no batch normalization: nothing was adapted.")
        return
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        for module in model.modules():
            if isinstance(module, _BatchNorm):
                module.training = True
        with torch.no_grad():
            index = -1
            for index, item in enumerate(islice(items, iterations)):
                check_item(item, index)
                call = on_device(model, call_of(item))
                try:
                    model(*call.args, **call.kwargs)
                except (RuntimeError, TypeError, ValueError, IndexError) as error:
                    raise UnsupportedDatasetError(
                        f"The model does not run on item {index} of the dataset: {sentence(error)} Give items that "
                        "fit, or pass a transform_func to nncf.Dataset that makes them."
                    ) from error
        if index < 0 and iterations != 0:
            raise UnsupportedDatasetError(
                "The dataset has no items; adapting batch normalization needs at least one. An iterator that was read "
                "before is empty."
            )
    finally:
        for module, training in modes:
            module.training = training


class BatchnormAdaptationAlgorithm:
    """:func:`nncf.batch_norm_adaptation` for the loader of a training script.

    :param data_loader: gives batches: inputs, or pairs of input and target; a
        :class:`~nncf_torch.initialization.PTInitializingDataLoader` says itself which part is the input.
    :param num_bn_adaptation_samples: samples to see, in whole batches.
    :param device: not used: the model is run where it lies, and batches are taken there.
    :raises ValidationError: for a number of samples that is no integer from 0.
    """

    def __init__(self, data_loader: Any, num_bn_adaptation_samples: int, device: str | None = None) -> None:
        self._samples = LoaderSamples(wrap_dataloader_for_init(data_loader))
        self._count = counted("num_bn_adaptation_samples", num_bn_adaptation_samples)

    def run(self, model: nn.Module) -> None:
        """Let the normalization of a module see the samples, in place."""
        adapt(model, self._samples, -(-self._count // self._samples.batch_size))
