"""Copies of modules that share their weights with the original."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from nncf_core.errors import UnsupportedModelError
from nncf_torch.compressed_modules import parts_of, weights_of


def shared_copy(module: nn.Module) -> nn.Module:
    """A module that can be changed on its own.

    Parameters are new objects on the same memory, so that ``.half()`` or ``.requires_grad_()`` of one does not reach
    the other. Buffers, which a forward pass may write to, are copied.

    :raises UnsupportedModelError: for parameters that have no shape yet, and what cannot be copied.
    """
    memo: dict[int, Any] = {}
    for name, parameter in module.named_parameters():
        if is_lazy(parameter):
            raise UnsupportedModelError(f"The parameter {name!r} has no shape yet: run the model once on an input.")
        memo[id(parameter)] = _view(parameter)
    for owner in module.modules():
        memo.update((id(tensor), tensor.detach().clone()) for tensor in _computed(owner))
        # deepcopy takes twenty times as long for each, and modules have a dozen
        memo.update((id(held), type(held)()) for held in vars(owner).values() if _is_empty(held))
        for name in weights_of(owner):
            memo.update((id(part), part) for part in parts_of(owner, name).values())
    try:
        made: nn.Module = copy.deepcopy(module, memo)
    except Exception as error:
        raise UnsupportedModelError(
            f"The model cannot be copied: {str(error).rstrip('.')}. Compression leaves it as it is, and works on "
            "copy.deepcopy(model), which must be possible."
        ) from error
    return made


def _computed(owner: nn.Module) -> Iterator[torch.Tensor]:
    """Tensors that a module keeps and autograd knows the origin of, which deepcopy does not take.

    ``torch.nn.utils.weight_norm`` makes such before each call.
    """
    for value in vars(owner).values():
        for tensor in value if isinstance(value, list) else (value,):
            if isinstance(tensor, torch.Tensor) and not tensor.is_leaf:
                yield tensor


def _is_empty(attribute: Any) -> bool:
    kind = type(attribute)
    return kind in (OrderedDict, dict, set) and not attribute and not (kind is OrderedDict and vars(attribute))


def _view(parameter: nn.Parameter) -> torch.Tensor:
    if type(parameter) is not nn.Parameter:
        return parameter
    # a tensor that was made in inference mode can have no gradient outside of it
    trained = parameter.requires_grad and not parameter.is_inference()
    view = nn.Parameter(parameter.detach(), requires_grad=trained)
    view.__dict__.update(parameter.__dict__)
    return view
