"""Parameters of quantization-aware training: what a config may say.

What means nothing here is refused when the section is read, with the reason and what would work.
"""

from __future__ import annotations

from typing import Any

from attrs import Factory, field, frozen

from nncf_core.errors import ParameterNotSupportedError

MODES = ("symmetric", "asymmetric")
RANGES = ("mixed_min_max", "min_max", "mean_min_max", "threesigma", "percentile", "mean_percentile")
GROUPS = ("activations", "weights")


def names_of(scopes: Any) -> list[str]:
    """Scopes as a list, however many are given."""
    return [scopes] if isinstance(scopes, str) else list(scopes or ())


def _refuse(what: str, reason: str) -> None:
    raise ParameterNotSupportedError(f"{what} is not supported: {reason}")


@frozen
class RangeInit:
    """How ranges are found, of all quantizers or of some.

    :param num_init_samples: samples that are looked at, in whole batches.
    :param type: how.
    :param params: ``min_percentile`` and ``max_percentile``.
    :param target_quantizer_group: ``activations`` or ``weights``; ``None``: both.
    """

    num_init_samples: int = 256
    type: str = "mixed_min_max"
    params: dict[str, float] = Factory(dict)
    target_quantizer_group: str | None = None
    ignored_scopes: Any = field(default=None, converter=names_of)
    target_scopes: Any = field(default=None, converter=names_of)

    def __attrs_post_init__(self) -> None:
        if self.type == "threesigma":
            _refuse(
                "type 'threesigma'",
                "of a normal distribution it is type 'percentile' with min_percentile 0.135 and max_percentile 99.865.",
            )
        if self.ignored_scopes:
            _refuse("ignored_scopes of a range", "give the target_scopes that it is for, and others another range.")


@frozen
class PrecisionInit:
    """Which quantizers get how many bits.

    :param type: ``manual``: as ``bitwidth_per_scope`` says; ``hawq``: by traces of the loss's Hessian.
    :param bitwidth_per_scope: pairs of bits and a scope.
    :param bits: from which ``hawq`` chooses.
    :param compression_ratio: how many times fewer bit operations than with 8 bits ``hawq`` aims at.
    :param num_data_points: samples, ``iter_number`` random vectors, and ``tolerance`` of a trace, relative.
    """

    type: str = "manual"
    bitwidth_per_scope: list[Any] = Factory(list)
    bits: list[int] = Factory(lambda: [2, 4, 8])
    compression_ratio: float = 1.5
    num_data_points: int = 100
    iter_number: int = 200
    tolerance: float = 1e-4
    traces_per_layer_path: str | None = None
    dump_init_precision_data: bool = False
    bitwidth_assignment_mode: str = "liberal"
    eval_subset_ratio: float = 1.0
    warmup_iter_number: int = 20

    def __attrs_post_init__(self) -> None:
        if self.type == "autoq":
            _refuse(
                "type 'autoq'",
                "it trains an agent on evaluations of the model, for hours; 'hawq' chooses bits by gradients, 'manual' "
                "takes them from bitwidth_per_scope.",
            )
        if self.bitwidth_assignment_mode == "strict":
            _refuse("bitwidth_assignment_mode 'strict'", "activations get the most bits of the layers that take them.")


@frozen
class BatchNormAdaptation:
    """How many samples normalization sees; ``0``: none."""

    num_bn_adaptation_samples: int = 2000


@frozen
class Initializer:
    """What quantizers begin with.

    :param range: a :class:`RangeInit`, or several of them as plain data.
    """

    range: Any = None
    precision: PrecisionInit | None = None
    batchnorm_adaptation: BatchNormAdaptation = Factory(BatchNormAdaptation)


@frozen
class GroupSettings:
    """Quantizers of weights, or of activations.

    :param mode: whether there are zero points; ``None``: as the preset says.
    :param bits: of the integers, 2 to 8.
    :param signed: whether integers without zero points have a sign; ``None``: where numbers below zero were seen.
    :param per_channel: ``None``: as the device computes best.
    """

    mode: str | None = None
    bits: int = 8
    signed: bool | None = None
    per_channel: bool | None = None
    logarithm_scale: bool = False
    unified_scale_ops: list[list[str]] = Factory(list)
    ignored_scopes: Any = field(default=None, converter=names_of)
    target_scopes: Any = field(default=None, converter=names_of)
    validate_scopes: bool = True

    def __attrs_post_init__(self) -> None:
        if self.logarithm_scale:
            _refuse(
                "logarithm_scale", "scales are trained themselves, with gradients of a fit size (LSQ); leave it out."
            )
        if self.unified_scale_ops:
            _refuse(
                "unified_scale_ops",
                "operands share a scale where the device wants it; give target_device, and leave this out.",
            )


@frozen
class StagedParams:
    """When quantizers begin to act, and how learning rates fall.

    :param activations_quant_start_epoch: the epoch, from 0, in which quantizers of activations begin to act.
    :param weights_quant_start_epoch: those of weights.
    :param lr_poly_drop_start_epoch: the epoch from which the learning rate falls; ``None``: it does not.
    :param lr_poly_drop_duration_epochs: how many epochs it takes to fall to 0.
    :param disable_wd_start_epoch: the epoch from which there is no weight decay; ``None``: there always is.
    :param base_lr: the learning rate before that.
    :param base_wd: the weight decay before that.
    :param batch_multiplier: how many batches the training script puts together for a step of the optimizer.
    """

    batch_multiplier: int | None = None
    activations_quant_start_epoch: int = 1
    weights_quant_start_epoch: int = 1
    lr_poly_drop_start_epoch: int | None = None
    lr_poly_drop_duration_epochs: int = 30
    disable_wd_start_epoch: int | None = None
    base_lr: float = 1e-3
    base_wd: float = 1e-5


@frozen
class TrainingSettings:
    """The config section, see :data:`nncf_quantization_aware_training.schema.SCHEMA`."""

    initializer: Initializer = Factory(Initializer)
    preset: str = "performance"
    quantize_inputs: bool = True
    quantize_outputs: bool = False
    weights: GroupSettings = Factory(GroupSettings)
    activations: GroupSettings = Factory(GroupSettings)
    scope_overrides: dict[str, dict[str, Any]] = Factory(dict)
    export_to_onnx_standard_ops: bool = False
    overflow_fix: str = "enable"
    params: StagedParams | None = None
    compression_lr_multiplier: float | None = None
    target_device: str = "ANY"

    def __attrs_post_init__(self) -> None:
        if self.activations.per_channel:
            _refuse("activations.per_channel", "runtimes take activations of one scale; leave it out.")
        if self.weights.signed is False and self.weights.mode != "asymmetric":
            _refuse("weights.signed false", "weights lie on both sides of zero; leave it out.")
