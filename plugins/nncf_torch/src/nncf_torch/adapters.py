"""How much of the adapters of a model takes part."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from nncf_core.errors import ValidationError
from nncf_torch.places import Place, places
from nncf_torch.trained_weights import TRAINED, trainings_of


def active_ranks(model: nn.Module) -> dict[str, int]:
    """The rank of the adapter that takes part, for each weight that has one, by the weight's name."""
    return {name: place.trained.active_rank for name, place in _adapted(model).items() if place.trained is not None}


def set_active_rank(model: nn.Module, rank: int | Mapping[str, int]) -> None:
    """Let only the first columns of ``adapter_b``, and rows of ``adapter_a``, take part from now on.

    The others keep their values and get no gradients. So one training of several ranks in turn gives adapters that
    can be cut to any of them (neural low-rank adapter search of Shears, https://arxiv.org/abs/2404.10934). What takes
    part when the model is stripped is stored. ``nncf.torch.get_config`` keeps the ranks. The model is changed in place.

    :param model: what ``nncf.compress_weights`` gave for the compression format FQ_LORA_NLS or FQ_LORA.
    :param rank: for all adapters, or by the names of weights, in which case others stay as they are. ``0``: the
        adapter is left out.
    :raises ValidationError: for a weight without an adapter, and a rank that is not from 0 to the adapter's.
    """
    adapted = _adapted(model)
    if not adapted:
        raise ValidationError(
            "The model has no adapters; compress it with nncf.CompressionFormat.FQ_LORA_NLS to give it some."
        )
    wanted = dict(rank) if isinstance(rank, Mapping) else dict.fromkeys(adapted, rank)
    for name, active in wanted.items():
        if name not in adapted:
            raise ValidationError(f"The weight {name!r} has no adapter; these have one: {', '.join(adapted)}.")
        trained = adapted[name].trained
        assert trained is not None
        if not isinstance(active, int) or isinstance(active, bool) or not 0 <= active <= trained.rank:
            raise ValidationError(f"The active rank of {name!r} is {active!r}; it must be from 0 to {trained.rank}.")
    for name, active in wanted.items():
        for owner, attribute in adapted[name].owners:
            found = trainings_of(owner)
            owner.__dict__[TRAINED] = {**found, attribute: found[attribute]._replace(active_rank=active)}


def _adapted(model: nn.Module) -> dict[str, Place]:
    return {name: place for name, place in places(model).items() if place.trained is not None and place.trained.rank}
