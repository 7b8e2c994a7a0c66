"""The public functions. They translate their arguments into an NNCFConfig and hand it to the one pipeline."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Integral
from typing import TYPE_CHECKING, Any, TypeVar

from nncf_core.advanced import (
    AdvancedCompressionParameters,
    AdvancedQuantizationParameters,
)
from nncf_core.dataset import Dataset, check_dataset
from nncf_core.errors import (
    ParameterNotSupportedError,
    UnsupportedDatasetError,
    ValidationError,
)
from nncf_core.log import nncf_logger
from nncf_core.parameters import (
    BackupMode,
    CompressionFormat,
    CompressWeightsMode,
    ModelType,
    QuantizationMode,
    QuantizationPreset,
    SensitivityMetric,
    StripFormat,
    TargetDevice,
)
from nncf_core.scopes import IgnoredScope

if TYPE_CHECKING:
    from nncf_core.node_views import NNCFGraph

TModel = TypeVar("TModel")


def compress_weights(
    model: TModel,
    mode: CompressWeightsMode = CompressWeightsMode.INT8_ASYM,
    ratio: float | None = None,
    group_size: int | None = None,
    ignored_scope: IgnoredScope | None = None,
    all_layers: bool | None = None,
    dataset: Dataset[Any, Any] | None = None,
    sensitivity_metric: SensitivityMetric | None = None,
    *,
    subset_size: int = 128,
    awq: bool | None = None,
    scale_estimation: bool | None = None,
    gptq: bool | None = None,
    lora_correction: bool | None = None,
    backup_mode: BackupMode | None = None,
    compression_format: CompressionFormat = CompressionFormat.DQ,
    advanced_parameters: AdvancedCompressionParameters | None = None,
) -> TModel:
    """Compress the weights of a model. The model that is given is not changed, unless ``backend_params`` say so.

    :param model: a model of an installed backend's framework, or the path of a model file.
    :param mode: number format of the weights; in all but the INT8 modes the *primary* format, see
        :class:`nncf.CompressWeightsMode`.
    :param ratio: largest share of the elements of the ratio-defining weights that gets the primary format,
        0 to 1 (default 1); the rest gets the backup format. 0.0 means none.
    :param group_size: number of weights along the input channels that share a scale; ``-1``: the whole
        channel. Default 128; -1 for INT8 and codebook modes, 32 for MX modes, 16 for NVFP4.
    :param ignored_scope: nodes whose weights are left as they are.
    :param all_layers: whether embeddings and the last layer get the primary format too (default: no).
    :param dataset: calibration data, for data-aware methods; backends that trace a model do so on its first item.
    :param sensitivity_metric: how the weights that get the backup format are chosen; by default, with a dataset
        MAX_ACTIVATION_VARIANCE, without WEIGHT_QUANTIZATION_ERROR.
    :param subset_size: number of samples of ``dataset`` to use.
    :param awq: correct weights with AWQ.
    :param scale_estimation: estimate scales by minimising the layers' output error.
    :param gptq: round weights with GPTQ.
    :param lora_correction: add low-rank adapters that correct the quantization error.
    :param backup_mode: number format of the other weights (default INT8_ASYM; for MX modes MXFP8_E4M3, for
        FP4 and FP8_E4M3 FP8_E4M3).
    :param compression_format: form in which compressed weights are put into the model, see
        :class:`nncf.CompressionFormat`. All but DQ are to be trained, and then brought to it by :func:`nncf.strip`.
    :param advanced_parameters: see :class:`nncf.AdvancedCompressionParameters`.
    :return: a new model of the same kind.
    :raises ParameterNotSupportedError: for combinations that have no meaning, such as a ratio with INT8, and for
        methods that no installed plugin provides.
    :raises ValidationError: for values out of range, and NaN or Inf in a weight.
    :raises InvalidGroupSizeError: when the group size does not divide a weight's channels.
    :raises UnsupportedBackendError: when no installed backend takes the model or can express the format.
    """
    from nncf_core.pipeline import run
    from nncf_core.progress import script_progress

    if lora_correction and compression_format != CompressionFormat.DQ:
        raise ValidationError(
            f"lora_correction adds adapters of its own, compression_format {compression_format} trains others: leave "
            "out one of the two."
        )
    config = compress_weights_config(
        mode=mode,
        ratio=ratio,
        group_size=group_size,
        ignored_scope=ignored_scope,
        all_layers=all_layers,
        sensitivity_metric=sensitivity_metric,
        subset_size=subset_size,
        awq=awq,
        scale_estimation=scale_estimation,
        gptq=gptq,
        lora_correction=lora_correction,
        backup_mode=backup_mode,
        compression_format=compression_format,
        advanced_parameters=advanced_parameters,
    )
    for name, wanted in (
        ("awq", awq),
        ("scale_estimation", scale_estimation),
        ("gptq", gptq),
        ("lora_correction", lora_correction),
    ):
        _check_method(name, bool(wanted))
    if dataset is not None:
        check_dataset(dataset)
        if dataset.get_length() == 0:
            raise UnsupportedDatasetError("The dataset has no items: give at least one, or leave the dataset out.")
    if _changes_argument(model):
        config["backend_params"] = {"in_place": True}
    if dataset is not None and str(mode).startswith("int8") and not _traces(model):
        raise ParameterNotSupportedError(f"Mode {mode} is data-free: leave out the dataset.")
    result = run(config, model, dataset=dataset, progress=script_progress())
    nncf_logger.info(
        "Weights: %s -> %s bytes\n%s", result.report.bytes_before, result.report.bytes_after, result.report
    )
    return result.model  # type: ignore[no-any-return]


def compress_weights_config(
    *,
    mode: CompressWeightsMode | str = CompressWeightsMode.INT8_ASYM,
    ignored_scope: IgnoredScope | None = None,
    subset_size: int = 128,
    awq: bool | None = None,
    scale_estimation: bool | None = None,
    gptq: bool | None = None,
    lora_correction: bool | None = None,
    compression_format: CompressionFormat = CompressionFormat.DQ,
    advanced_parameters: AdvancedCompressionParameters | None = None,
    **section: Any,
) -> dict[str, Any]:
    """The config that :func:`compress_weights` runs for these arguments; plain JSON data.

    Each data-aware method is an algorithm of its own, run in the order of the reference: AWQ before the
    weights are compressed, the others with or after it.
    """
    from nncf_core.structuring import unstructure

    main: dict[str, Any] = {"algorithm": "weight_compression", "mode": str(mode)}
    main |= {name: unstructure(value) for name, value in section.items() if value is not None}
    if subset_size != 128:
        main["subset_size"] = subset_size
    if compression_format != CompressionFormat.DQ:
        main["compression_format"] = str(compression_format)
    if advanced_parameters is not None:
        main["advanced_parameters"] = unstructure(advanced_parameters)
    if ignored_scope is not None:
        main["ignored_scope"] = unstructure(_checked_scope(ignored_scope))
    before = [_awq_section(main, advanced_parameters, subset_size)] if awq else []
    flags = {"scale_estimation": scale_estimation, "gptq": gptq, "lora_correction": lora_correction}
    after = [_method_section(name, advanced_parameters, subset_size) for name, wanted in flags.items() if wanted]
    sections = [*before, main, *after]
    return {"compression": sections if len(sections) > 1 else main}


def _method_section(name: str, advanced: AdvancedCompressionParameters | None, subset_size: int) -> dict[str, Any]:
    """The section of a method that refines what the main section does; parameters at their defaults are left to it."""
    from nncf_core.advanced import AdvancedCompressionParameters
    from nncf_core.structuring import unstructure

    default = getattr(AdvancedCompressionParameters(), f"{name}_params")
    given = default if advanced is None else getattr(advanced, f"{name}_params")
    own = unstructure(given) if given != default else {}
    section = {"algorithm": name, **own, "subset_size": min(given.subset_size, subset_size)}
    if advanced is not None and advanced.statistics_path is not None:
        section["statistics_path"] = advanced.statistics_path
    return section


QUALITIES: Mapping[str, tuple[str, ...]] = {
    "fast": (),
    "best": ("gptq",),
    "max": ("error_propagation", "gptq", "refinement"),
}
"""Algorithms that refine what ``weight_compression`` does, by how good it is to be (docs/benchmarks_data_aware.md)."""


def with_quality(config: Mapping[str, Any], quality: str) -> dict[str, Any]:
    """A config of :func:`compress_weights_config` with the algorithms of a quality.

    :param quality: a key of :data:`QUALITIES`. ``best``: weights make up for each other's errors, under scales that are
        searched for what inputs weigh. ``max``: each layer makes up for errors of those before it, too, and codes and
        scales are gone through once more.
    """
    if not QUALITIES[quality]:
        return dict(config)
    compression = config["compression"]
    sections = [compression] if isinstance(compression, Mapping) else list(compression)
    main = next(section for section in sections if section["algorithm"] == "weight_compression")
    size = {"subset_size": main.get("subset_size", 128)}
    wanted = [{"algorithm": name, **size} for name in QUALITIES[quality]]
    kept = [section for section in sections if section["algorithm"] not in ("scale_estimation", "gptq")]
    place = kept.index(main) + 1
    return {**config, "compression": [*kept[:place], *wanted, *kept[place:]]}


def _checked_scope(scope: object) -> IgnoredScope:
    if not isinstance(scope, IgnoredScope):
        raise ValidationError(f"ignored_scope is {scope!r}; give nncf.IgnoredScope(names=[...]), or patterns or types.")
    return scope


def _check_method(name: str, wanted: bool) -> None:
    from nncf_core.registry import registry

    if wanted and name not in registry().algorithms:
        raise ParameterNotSupportedError(
            f"{name}=True needs the algorithm {name!r}, which no installed plugin provides; leave it out."
        )


def _awq_section(
    main: Mapping[str, Any], advanced: AdvancedCompressionParameters | None, subset_size: int
) -> dict[str, Any]:
    """The section of ``awq``, which is to know what the main section will do to the weights."""
    from nncf_core.advanced import AdvancedAWQParameters
    from nncf_core.structuring import unstructure

    shared = {name: main[name] for name in ("mode", "group_size", "all_layers", "ignored_scope") if name in main}
    if advanced is None:
        return {"algorithm": "awq", **shared, "subset_size": min(AdvancedAWQParameters().subset_size, subset_size)}
    own = unstructure(advanced.awq_params)
    own["subset_size"] = min(own["subset_size"], subset_size)
    for name in ("codebook", "statistics_path"):
        if main["advanced_parameters"].get(name) is not None:
            own[name] = main["advanced_parameters"][name]
    return {"algorithm": "awq", **shared, **own}


def _traces(model: Any) -> bool:
    """Whether the model's backend takes an item of a dataset as an example of the model's input."""
    from nncf_core.contracts import traces
    from nncf_core.registry import registry

    return traces(registry().backend_for(model).builder)


def _changes_argument(model: Any) -> bool:
    """Whether scripts count on it that the model that is given is changed, and its backend can do that."""
    from nncf_core.registry import registry

    known = registry()
    return known.drop_in and bool(getattr(known.backend_for(model).builder, "works_in_place", False))


def quantize(
    model: TModel,
    calibration_dataset: Dataset[Any, Any],
    mode: QuantizationMode | None = None,
    preset: QuantizationPreset | None = None,
    target_device: TargetDevice = TargetDevice.ANY,
    subset_size: int = 300,
    fast_bias_correction: bool = True,
    model_type: ModelType | None = None,
    ignored_scope: IgnoredScope | None = None,
    advanced_parameters: AdvancedQuantizationParameters | None = None,
) -> TModel:
    """Quantize weights and activations with calibration data. The model that is given is not changed.

    Where the plugin ``smooth_quant`` is installed, ranges of channels are evened out first, as much as an estimate of
    the error says; ``smooth_quant_alphas`` other than the default are taken instead, negative ones switch it off.

    :param fast_bias_correction: correct biases by what rounding takes from the means of weights; ``False``: layer by
        layer, by what is missing from the mean output of a layer behind others that are quantized and corrected.
    :raises ValidationError: when no installed plugin provides the algorithm ``post_training_quantization``.
    """
    from nncf_core.pipeline import run
    from nncf_core.progress import script_progress

    if calibration_dataset is not None:
        check_dataset(calibration_dataset)
    config = quantize_config(
        mode=mode,
        preset=preset,
        target_device=target_device,
        subset_size=subset_size,
        fast_bias_correction=fast_bias_correction,
        model_type=model_type,
        ignored_scope=ignored_scope,
        advanced_parameters=advanced_parameters,
    )
    result = run(config, model, dataset=calibration_dataset, progress=script_progress())
    nncf_logger.info("Quantized\n%s", result.report)
    return result.model  # type: ignore[no-any-return]


def quantize_config(
    *,
    target_device: TargetDevice = TargetDevice.ANY,
    subset_size: int = 300,
    ignored_scope: IgnoredScope | None = None,
    advanced_parameters: AdvancedQuantizationParameters | None = None,
    **section: Any,
) -> dict[str, Any]:
    """The config that :func:`quantize` runs for these arguments; plain JSON data.

    :raises ValidationError: when ``subset_size`` is no positive integer, or ``advanced_parameters`` are something else.
    """
    from nncf_core.structuring import unstructure

    if not isinstance(subset_size, Integral) or isinstance(subset_size, bool) or subset_size < 1:
        raise ValidationError(f"subset_size is {subset_size!r}; it must be an integer of at least 1.")
    subset_size = int(subset_size)
    advanced = _checked_advanced(advanced_parameters)
    shared = {"target_device": str(target_device)}
    if ignored_scope is not None:
        shared["ignored_scope"] = unstructure(_checked_scope(ignored_scope))
    main = {name: unstructure(value) for name, value in section.items() if value is not None}
    if advanced is not None:
        main["advanced_parameters"] = unstructure(advanced)
    sections = [
        *_alignment(advanced, subset_size, shared),
        *_smoothing(advanced, subset_size, shared, floats=section.get("mode") is not None),
        {"algorithm": "post_training_quantization", **main, **shared, "subset_size": subset_size},
    ]
    return {"compression": sections}


def _checked_advanced(advanced: object) -> AdvancedQuantizationParameters | None:
    from nncf_core.advanced import AdvancedQuantizationParameters

    if advanced is None:
        return None
    if not isinstance(advanced, AdvancedQuantizationParameters):
        raise ValidationError(
            f"advanced_parameters is {advanced!r}; give nncf.AdvancedQuantizationParameters(overflow_fix=...), say."
        )
    alphas = advanced.smooth_quant_alphas
    for name, alpha in (
        ("smooth_quant_alpha", advanced.smooth_quant_alpha),
        ("smooth_quant_alphas.matmul", alphas.matmul),
        ("smooth_quant_alphas.convolution", alphas.convolution),
    ):
        if alpha is not None and not (isinstance(alpha, (int, float)) and alpha <= 1):
            raise ValidationError(f"{name} is {alpha!r}; it must be a number of at most 1.")
    return advanced


def _alignment(
    advanced: AdvancedQuantizationParameters | None, subset_size: int, shared: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """The section of ``channel_alignment``, where it is wished for."""
    if advanced is None or advanced.disable_channel_alignment:
        return []
    scope = {name: value for name, value in shared.items() if name == "ignored_scope"}
    return [{"algorithm": "channel_alignment", **scope, "subset_size": min(subset_size, 32)}]


def _smoothing(
    advanced: AdvancedQuantizationParameters | None, subset_size: int, shared: Mapping[str, Any], *, floats: bool
) -> list[dict[str, Any]]:
    """The section of ``smooth_quant``, unless it is switched off, or only wished for and not installed.

    8-bit floats go without unless it is asked for: their errors are relative to each number, not to the range.
    """
    from nncf_core.advanced import AdvancedSmoothQuantParameters
    from nncf_core.registry import registry

    alphas = None if advanced is None else advanced.smooth_quant_alphas
    alpha = None if advanced is None else advanced.smooth_quant_alpha
    if alpha is not None:
        alphas = AdvancedSmoothQuantParameters(convolution=-1, matmul=alpha)
    if alphas is None or alphas == AdvancedSmoothQuantParameters():
        chosen: dict[str, Any] = {}
        if floats or "smooth_quant" not in registry().algorithms:
            return []
    elif alphas.matmul < 0 and alphas.convolution < 0:
        return []
    else:
        chosen = {"alpha_matmul": alphas.matmul, "alpha_convolution": alphas.convolution}
    return [{"algorithm": "smooth_quant", **chosen, **shared, "subset_size": min(subset_size, 32)}]


def strip(
    model: TModel,
    do_copy: bool = True,
    strip_format: StripFormat = StripFormat.NATIVE,
    example_input: Any | None = None,
) -> TModel:
    """Remove what compression added and deployment does not need.

    :param model: a compressed model.
    :param do_copy: ``False`` allows the model that is given to be changed; backends that never change it
        return a new one all the same.
    :param strip_format: the form to bring the model into, see :class:`nncf.StripFormat`; plugins may add more.
    :param example_input: an input to trace the model with, for backends that trace.
    :return: the stripped model.
    :raises ValidationError: when no plugin provides the strip format.
    """
    from nncf_core.registry import registry

    known = registry()
    name = str(strip_format)
    if name not in known.strip_formats:
        raise ValidationError(
            f"No strip format is named {name!r}; installed are {', '.join(sorted(known.strip_formats))}."
        )
    backend = known.backend_for(model)
    options = {} if example_input is None else {"example_input": example_input}
    working = backend.builder.open(model, options)
    graph = backend.builder.build(working)
    working = backend.inserter.apply(working, graph, known.strip_formats[name].strip(graph), {})
    return backend.builder.export(working, model)  # type: ignore[no-any-return]


def build_graph(model: Any, *, example_input: Any | None = None) -> NNCFGraph:
    """The backend-neutral graph of a model; it has the methods of NNCF's graphs besides.

    :param model: a model of an installed backend's framework, or the path of a model file.
    :param example_input: an input to trace the model with, for backends that trace.
    """
    from nncf_core.node_views import NNCFGraph
    from nncf_core.registry import registry

    backend = registry().backend_for(model)
    options = {} if example_input is None else {"example_input": example_input}
    return NNCFGraph.of(backend.builder.build(backend.builder.open(model, options)))
