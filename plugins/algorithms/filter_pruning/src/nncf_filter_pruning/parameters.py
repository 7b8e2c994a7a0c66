"""Parameters of filter pruning: what a config may say. Names and defaults are those of NNCF 2's configs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import field, frozen

from nncf_core.errors import ValidationError
from nncf_core.training.sparsity import INITIALIZER_SCHEMA, Initializer

DEFAULT_TARGET = 0.5


@frozen
class LegrSettings:
    """How coefficients of a learned ranking are searched (Chin et al. 2020, https://arxiv.org/abs/1904.12368).

    :param generations: candidates that are tried.
    :param train_steps: steps that each is trained for before it is judged.
    :param max_pruning: share that is pruned meanwhile.
    :param random_seed: of all random numbers.
    :param population_size: candidates that are kept, the youngest; so many are drawn at random first.
    :param num_samples: of these, how many a parent is the best of.
    :param mutate_percent: share of the layers whose coefficients differ from the parent's.
    :param scale_sigma: standard deviation of the logarithm of the factor by which they differ.
    """

    generations: int = 400
    train_steps: int = 200
    max_pruning: float = 0.8
    random_seed: int = 42
    population_size: int = 64
    num_samples: int = 16
    mutate_percent: float = 0.1
    scale_sigma: float = 1.0


@frozen
class PruningSettings:
    """What is pruned, and when.

    :param filter_importance: ``L1``, ``L2`` or ``geometric_median``.
    :param pruning_target: share of filters to prune; ``None``: 0.5, where no ``pruning_flops_target`` is given.
    :param pruning_flops_target: share of operations to do without, in place of it.
    :param pruning_steps: epochs in which the level grows.
    :param schedule: ``exponential``, ``exponential_with_bias`` or ``baseline``.
    :param num_init_steps: epochs before it begins to grow.
    :param interlayer_ranking_type: ``unweighted_ranking`` or ``learned_ranking``.
    :param all_weights: whether filters of all layers are compared with each other; otherwise each cluster of layers
        loses the same share.
    :param prune_first_conv: whether layers that take the model's input are pruned.
    :param prune_downsample_convs: whether convolutions with strides are.
    :param prune_batch_norms: whether scales and shifts of normalization are masked, too, in a training.
    :param legr_params: of the search for a learned ranking.
    :param save_ranking_coeffs_path: where to write the coefficients that were found, as JSON.
    :param load_ranking_coeffs_path: where to read them, and not to search.
    """

    filter_importance: str = "L2"
    pruning_target: float | None = None
    pruning_flops_target: float | None = None
    pruning_steps: int = 100
    schedule: str = "exponential"
    num_init_steps: int = 0
    interlayer_ranking_type: str = "unweighted_ranking"
    all_weights: bool = False
    prune_first_conv: bool = False
    prune_downsample_convs: bool = False
    prune_batch_norms: bool = True
    legr_params: LegrSettings = field(factory=LegrSettings)
    save_ranking_coeffs_path: str | None = None
    load_ranking_coeffs_path: str | None = None

    def __attrs_post_init__(self) -> None:
        if self.pruning_target is not None and self.pruning_flops_target is not None:
            raise ValidationError("Give either pruning_target or pruning_flops_target, not both.")

    @property
    def by_operations(self) -> bool:
        """Whether the level is a share of operations."""
        return self.pruning_flops_target is not None

    @property
    def target(self) -> float:
        """The level in the end."""
        if self.pruning_flops_target is not None:
            return self.pruning_flops_target
        return DEFAULT_TARGET if self.pruning_target is None else self.pruning_target

    @property
    def learned(self) -> bool:
        """Whether layers are compared by coefficients."""
        return self.interlayer_ranking_type == "learned_ranking"

    @property
    def compared(self) -> bool:
        """Whether filters of different layers are compared."""
        return self.all_weights or self.learned


@frozen
class FilterPruningSettings:
    """The config section.

    :param pruning_init: level to begin with.
    :param initializer: what is initialised when the compression begins.
    :param params: what is pruned, and when.
    """

    pruning_init: float = 0.0
    initializer: Initializer = field(factory=Initializer)
    params: PruningSettings = field(factory=PruningSettings)

    def __attrs_post_init__(self) -> None:
        if self.pruning_init > self.params.target:
            raise ValidationError(
                f"pruning_init is {self.pruning_init}, above what is to be reached, {self.params.target}."
            )


def _number(description: str, default: float, *, integer: bool = False, minimum: float = 0) -> Mapping[str, Any]:
    kind = "integer" if integer else "number"
    return {"description": description, "type": kind, "minimum": minimum, "default": default}


def _share(description: str, default: float | None = None) -> Mapping[str, Any]:
    known = {} if default is None else {"default": default}
    return {"description": description, "type": "number", "minimum": 0, "exclusiveMaximum": 1, **known}


def _flag(description: str, default: bool) -> Mapping[str, Any]:
    return {"description": description, "type": "boolean", "default": default}


SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "description": "Whole filters of layers go, and the exported network is smaller.",
    "properties": {
        "pruning_init": _share("Level to begin with.", 0.0),
        "initializer": INITIALIZER_SCHEMA,
        "params": {
            "type": "object",
            "properties": {
                "filter_importance": {"enum": ["L1", "L2", "geometric_median"], "default": "L2"},
                "pruning_target": _share("Share of filters to prune; 0.5 where no pruning_flops_target is given."),
                "pruning_flops_target": _share("Share of operations to do without, in place of pruning_target."),
                "pruning_steps": _number("Epochs in which the level grows.", 100, integer=True, minimum=1),
                "schedule": {"enum": ["exponential", "exponential_with_bias", "baseline"], "default": "exponential"},
                "num_init_steps": _number("Epochs before the level begins to grow.", 0, integer=True),
                "interlayer_ranking_type": {
                    "enum": ["unweighted_ranking", "learned_ranking"],
                    "default": "unweighted_ranking",
                },
                "all_weights": _flag("Whether filters of all layers are compared with each other.", False),
                "prune_first_conv": _flag("Whether layers that take the model's input are pruned.", False),
                "prune_downsample_convs": _flag("Whether convolutions with strides are pruned.", False),
                "prune_batch_norms": _flag("Whether normalization is masked, too.", True),
                "legr_params": {
                    "type": "object",
                    "properties": {
                        "generations": _number("Candidates that are tried.", 400, integer=True, minimum=1),
                        "train_steps": _number("Steps of training for each.", 200, integer=True),
                        "max_pruning": _share("Share that is pruned meanwhile.", 0.8),
                        "random_seed": _number("Of all random numbers.", 42, integer=True),
                        "population_size": _number("Candidates that are kept.", 64, integer=True, minimum=1),
                        "num_samples": _number("How many a parent is the best of.", 16, integer=True, minimum=1),
                        "mutate_percent": _share("Share of the layers that change.", 0.1),
                        "scale_sigma": _number("Standard deviation of the logarithm of the change.", 1),
                    },
                    "additionalProperties": False,
                },
                "save_ranking_coeffs_path": {"description": "Where to write coefficients.", "type": "string"},
                "load_ranking_coeffs_path": {"description": "Where to read coefficients.", "type": "string"},
            },
            "additionalProperties": False,
        },
    },
}
