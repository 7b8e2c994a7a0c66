"""Parameters of the algorithms: what a config may say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import field, frozen

from nncf_core.advanced import AdvancedGPTQParameters, AdvancedScaleEstimationParameters
from nncf_core.validators import positive


@frozen
class ScaleSearchSettings:
    """The config section of ``scale_search``.

    :param subset_size: number of samples of the dataset.
    :param steps: number of scales that are tried at first, see :class:`~nncf_weight_refinement.scale_search.Sweep`.
    :param products: whether products of the inputs of a group count besides their squares.
    """

    subset_size: int = field(default=64, validator=positive)
    steps: int = field(default=8, validator=positive)
    products: bool = False


@frozen
class ErrorPropagationSettings:
    """The config section of ``error_propagation``.

    :param subset_size: number of samples of the dataset.
    :param strength: which part of the errors of layers before is made up for at most, from 0 to 1.
    :param adaptive: whether each layer makes up for so much only as helps on samples that are held out: every eighth.
    :param damping: what is added to the diagonal of Gram matrices, as a part of its mean.
    """

    subset_size: int = field(default=128, validator=positive)
    strength: float = 0.75
    adaptive: bool = True
    damping: float = 0.1


@frozen
class RefinementSettings:
    """The config section of ``refinement``.

    :param subset_size: number of samples of the dataset.
    :param sweeps: how many times the codes and scales of a weight are gone through at most.
    :param seconds: no sweep of a weight begins later than this after its first; the result depends on the machine then.
    :param damping: what is added to the diagonal of Gram matrices, as a part of its mean.
    """

    subset_size: int = field(default=128, validator=positive)
    sweeps: int = field(default=2, validator=positive)
    seconds: float | None = None
    damping: float = 0.1


def _section(description: str, **properties: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"type": "object", "description": description, "properties": properties}


def _subset_size(default: int) -> Mapping[str, Any]:
    return _count("Number of samples of the dataset.", default)


def _count(description: str, default: int, minimum: int = 1) -> Mapping[str, Any]:
    return {"description": description, "type": "integer", "minimum": minimum, "default": default}


def _number(description: str, default: float | None, **more: Any) -> Mapping[str, Any]:
    kind = "number" if default is not None else ["number", "null"]
    return {"description": description, "type": kind, "default": default, **more}


def _damping(default: float) -> Mapping[str, Any]:
    return _number("What is added to the diagonal of Gram matrices, as a part of its mean.", default, minimum=0)


SCALE_SEARCH_SCHEMA = _section(
    "Scales and zero points with the smallest error, weighted with the mean squares of a layer's inputs where there is "
    "data.",
    subset_size=_subset_size(64),
    steps=_count("Number of scales that are tried at first for each group.", 8),
    products={
        "description": "Whether products of the inputs of a group count besides their squares; needs Gram matrices.",
        "type": "boolean",
        "default": False,
    },
)

_SCALE_ESTIMATION = AdvancedScaleEstimationParameters()

SCALE_ESTIMATION_SCHEMA = _section(
    "Scales and zero points with the smallest error of what each group adds to a layer's outputs.",
    subset_size=_subset_size(_SCALE_ESTIMATION.subset_size),
    initial_steps=_count("Rounds of least squares.", _SCALE_ESTIMATION.initial_steps, 0),
    scale_steps=_count("Number of scales that are tried, besides three.", _SCALE_ESTIMATION.scale_steps, 0),
    weight_penalty=_number("Weight of the error of the weights themselves; off below 0.", -1.0),
)

_GPTQ = AdvancedGPTQParameters()

GPTQ_SCHEMA = _section(
    "Codes that make up for each other's errors, input by input.",
    damp_percent=_damping(_GPTQ.damp_percent),
    block_size=_count("Understood for the sake of other configs; blocks are chosen by themselves.", _GPTQ.block_size),
    subset_size=_subset_size(_GPTQ.subset_size),
)

_PROPAGATION, _REFINEMENT = ErrorPropagationSettings(), RefinementSettings()

ERROR_PROPAGATION_SCHEMA = _section(
    "Each layer makes up for a part of the errors of the compressed layers before it.",
    subset_size=_subset_size(128),
    strength=_number("Which part at most.", _PROPAGATION.strength, minimum=0, maximum=1),
    adaptive={
        "description": "Whether each layer makes up for so much only as helps on every eighth sample, held out.",
        "type": "boolean",
        "default": _PROPAGATION.adaptive,
    },
    damping=_damping(_PROPAGATION.damping),
)

REFINEMENT_SCHEMA = _section(
    "Codes, scales and zero points in turn, each step exact, as long as the error of a layer's outputs falls.",
    subset_size=_subset_size(128),
    sweeps=_count("How many times codes and scales are gone through at most.", _REFINEMENT.sweeps),
    seconds=_number("Time for a weight; the result depends on the machine then.", None, minimum=0),
    damping=_damping(_REFINEMENT.damping),
)
