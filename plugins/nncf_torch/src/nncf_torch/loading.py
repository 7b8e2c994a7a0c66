"""States of compressed models, from files of other runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn

from nncf_core.errors import ValidationError
from nncf_core.log import nncf_logger

_WRAPPERS = ("module.", "nncf_module.")


def load_state(
    model: nn.Module,
    state_dict_to_load: Mapping[str, Any],
    is_resume: bool = False,
    keys_to_ignore: Iterable[str] | None = None,
) -> int:
    """Load what a ``state_dict`` has of a model, in place, whether or not its names begin with a wrapper's ``module.``.

    :param is_resume: whether all of the model has to be there, and nothing else; otherwise what does not fit is told.
    :param keys_to_ignore: names of tensors that are left as they are.
    :return: number of tensors that were loaded.
    :raises ValidationError: when this is no state, or when ``is_resume`` and something is missing, left over, or of
        another shape.
    """
    if not isinstance(model, nn.Module):
        raise ValidationError(f"A {type(model).__name__} has no state; give the torch.nn.Module.")
    if not isinstance(state_dict_to_load, Mapping):
        raise ValidationError(
            f"The state to load is a {type(state_dict_to_load).__name__}; give tensors by their names, as "
            "model.state_dict() does; torch.load reads them from a file."
        )
    own, ignored = model.state_dict(), set(keys_to_ignore or ())
    given = {_bare(name): tensor for name, tensor in state_dict_to_load.items()}
    names = {_bare(name): name for name in own}
    fitting, wrong = dict[str, torch.Tensor](), list[str]()
    for bare, tensor in given.items():
        name = names.get(bare)
        if name is None or name in ignored or bare in ignored:
            continue
        if not isinstance(tensor, torch.Tensor):
            raise ValidationError(
                f"The state to load has a {type(tensor).__name__} for {bare!r}; give tensors by their names, as "
                "model.state_dict() does."
            )
        if tuple(own[name].shape) == tuple(tensor.shape):
            fitting[name] = tensor
        else:
            wrong.append(f"{name} (of shape {list(tensor.shape)}, here {list(own[name].shape)})")
    missing = [name for bare, name in names.items() if bare not in given and not {name, bare} & ignored]
    left = [bare for bare in given if bare not in names and bare not in ignored]
    problems = [
        f"{what}: {', '.join(found[:5])}{', ...' if len(found) > 5 else ''}"
        for what, found in (("missing", missing), ("not in the model", left), ("of another shape", wrong))
        if found
    ]
    if problems and is_resume:
        raise ValidationError(
            f"The state is not one of this model; {'; '.join(problems)}. Give that of a model of the same config, or "
            "leave is_resume out to load what fits."
        )
    if problems:
        nncf_logger.warning("Of the state not all was loaded; %s.", "; ".join(problems))
    model.load_state_dict(fitting, strict=False)
    return len(fitting)


def _bare(name: str) -> str:
    for wrapper in _WRAPPERS:
        name = name.removeprefix(wrapper)
    return name
