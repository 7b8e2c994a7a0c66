"""A short training and a figure of merit, from the functions of a training script."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from nncf_torch.structures import LeGRInitArgs

_LEARNING_RATE, _MOMENTUM = 1e-2, 0.9


class StepsTuner:
    """See :class:`nncf_core.training.contracts.Tuner`.

    :param model: in training.
    :param functions: ``train_steps_fn(loader, model, optimizer, steps)``, and ``validate_fn(model, loader)``, whose
        result, or the first number of it, is the figure of merit. An optimizer is made anew for the model's parameters,
        like the one that is given; by default it is SGD with momentum.
    """

    def __init__(self, model: nn.Module, functions: LeGRInitArgs) -> None:
        self._model, self._functions = model, functions

    def score_after(self, steps: int) -> float:
        """How good the model is after some steps of training; then it is as it was before."""
        model, given = self._model, self._functions
        before = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
        was_training = model.training
        with torch.random.fork_rng():
            try:
                if steps:
                    model.train()
                    given.train_steps_fn(given.train_loader, model, self._optimizer(), steps)
                model.eval()
                with torch.no_grad():
                    result: Any = given.val_fn(model, given.val_loader)
            finally:
                with torch.no_grad():
                    model.load_state_dict(before)
                for parameter in model.parameters():
                    parameter.grad = None
                model.train(was_training)
        return float(result[0] if isinstance(result, (tuple, list)) else result)

    def _optimizer(self) -> Optimizer:
        parameters = [parameter for parameter in self._model.parameters() if parameter.requires_grad]
        given = self._functions.train_optimizer
        if isinstance(given, Optimizer):
            return type(given)(parameters, **copy.deepcopy(given.defaults))
        if given is not None:
            made: Optimizer = given(parameters)
            return made
        return torch.optim.SGD(parameters, lr=_LEARNING_RATE, momentum=_MOMENTUM)
