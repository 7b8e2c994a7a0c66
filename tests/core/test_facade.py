"""The public names: what they are, and that importing them costs nothing."""

import inspect
import subprocess
import sys
from enum import Enum

import pytest

import nncf

SIGNATURES = {
    "strip": "model, do_copy=True, strip_format=NATIVE, example_input=None",
    "compress_weights": (
        "model, mode=INT8_ASYM, ratio=None, group_size=None, ignored_scope=None, all_layers=None, dataset=None, "
        "sensitivity_metric=None, *, subset_size=128, awq=None, scale_estimation=None, gptq=None, "
        "lora_correction=None, backup_mode=None, compression_format=DQ, advanced_parameters=None"
    ),
    "quantize": (
        "model, calibration_dataset, mode=None, preset=None, target_device=ANY, subset_size=300, "
        "fast_bias_correction=True, model_type=None, ignored_scope=None, advanced_parameters=None"
    ),
    "quantize_with_accuracy_control": (
        "model, calibration_dataset, validation_dataset, validation_fn, max_drop=0.01, drop_type=ABSOLUTE, "
        "preset=None, target_device=ANY, subset_size=300, fast_bias_correction=True, model_type=None, "
        "ignored_scope=None, advanced_quantization_parameters=None, advanced_accuracy_restorer_parameters=None"
    ),
}
ENUMS = {
    "BackupMode": "NONE=none INT8_SYM=int8_sym INT8_ASYM=int8_asym",
    "CompressionFormat": "DQ=dequantize FQ=fake_quantize FQ_LORA=fake_quantize_with_lora",
    "CompressWeightsMode": "INT8_SYM=int8_sym INT8_ASYM=int8_asym INT4_SYM=int4_sym INT4_ASYM=int4_asym NF4=nf4 "
    "INT8=int8 E2M1=e2m1 MXFP4=mxfp4 CB4=cb4 CODEBOOK=codebook NVFP4=nvfp4 INT3_SYM=int3_sym",
    "DropType": "ABSOLUTE=absolute RELATIVE=relative",
    "GroupSizeFallbackMode": "ERROR=error IGNORE=ignore ADJUST=adjust",
    "ModelType": "TRANSFORMER=transformer",
    "OverflowFix": "ENABLE=enable FIRST_LAYER=first_layer_only DISABLE=disable",
    "QuantizationMode": "FP8_E4M3=fp8_e4m3 FP8_E5M2=fp8_e5m2",
    "QuantizationPreset": "PERFORMANCE=performance MIXED=mixed",
    "SensitivityMetric": "WEIGHT_QUANTIZATION_ERROR=weight_quantization_error "
    "HESSIAN_INPUT_ACTIVATION=hessian_input_activation MEAN_ACTIVATION_VARIANCE=mean_activation_variance "
    "MAX_ACTIVATION_VARIANCE=max_activation_variance MEAN_ACTIVATION_MAGNITUDE=mean_activation_magnitude",
    "StripFormat": "NATIVE=native DQ=dequantize IN_PLACE=in_place",
    "TargetDevice": "ANY=ANY CPU=CPU GPU=GPU NPU=NPU CPU_SPR=CPU_SPR",
}


def shown(parameter: inspect.Parameter) -> str:
    if parameter.default is parameter.empty:
        return parameter.name
    default = parameter.default
    return f"{parameter.name}={default.name if isinstance(default, Enum) else repr(default)}"


@pytest.mark.parametrize("name", SIGNATURES)
def test_signatures(name: str) -> None:
    parameters = list(inspect.signature(getattr(nncf, name)).parameters.values())
    parts = [shown(p) for p in parameters]
    first = next((i for i, p in enumerate(parameters) if p.kind is p.KEYWORD_ONLY), None)
    if first is not None:
        parts.insert(first, "*")
    assert ", ".join(parts) == SIGNATURES[name]


@pytest.mark.parametrize("name", ENUMS)
def test_members_are_their_values(name: str) -> None:
    for pair in ENUMS[name].split():
        member, value = pair.split("=")
        found = getattr(getattr(nncf, name), member)
        assert found == value
        assert str(found) == f"{found}" == value
        assert isinstance(found, str)


def test_every_name_resolves() -> None:
    for name in nncf.__all__:
        assert getattr(nncf, name) is not None
        assert name in dir(nncf)
    assert not hasattr(nncf, "no_such_name")


def test_all_errors_have_one_base() -> None:
    errors = [n for n in nncf.__all__ if n.endswith("Error")]
    assert len(errors) >= 18
    assert all(issubclass(getattr(nncf, name), nncf.NNCFError) for name in errors)


MODULES = (
    "api", "common", "common.logging", "config", "config.structures", "data", "data.dataset", "errors", "experimental",
    "parameters", "quantization", "quantization.advanced_parameters", "quantization.quantize_model",
    "quantization.range_estimator", "scopes",
)  # fmt: skip


@pytest.mark.parametrize("module", MODULES)
def test_documented_modules(module: str) -> None:
    subprocess.run([sys.executable, "-c", f"import nncf.{module}"], check=True)


def loaded(statement: str) -> set[str]:
    code = f"import sys; {statement}; print(' '.join(sys.modules))"
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())


def test_importing_loads_next_to_nothing() -> None:
    heavy = {"numpy", "attrs", "cattrs", "pluggy", "jsonschema", "click", "rich", "onnx", "onnxruntime", "torch"}
    assert not loaded("import nncf") & heavy
    assert len(loaded("import nncf") - loaded("pass")) < 60


def test_using_the_names_loads_no_framework() -> None:
    frameworks = {"onnx", "onnx_ir", "onnxruntime", "openvino", "torch"}
    assert not loaded("import nncf; [getattr(nncf, n) for n in nncf.__all__]") & frameworks
    assert not loaded("import nncf; nncf.NNCFConfig.schema()") & frameworks


def test_what_no_installed_plugin_provides_says_so() -> None:
    data = nncf.Dataset([1])
    for call in (
        lambda: nncf.quantize(object(), data),
        lambda: nncf.quantize_with_accuracy_control(object(), data, data, print),
        lambda: nncf.compress_weights(object(), mode="int4_sym", awq=True),
    ):
        with pytest.raises(nncf.ValidationError, match="no installed plugin provides the algorithm"):
            call()
    with pytest.raises(nncf.UnsupportedBackendError, match=r"builtins\.object"):
        nncf.compress_weights(object())
    with pytest.raises(nncf.ValidationError, match="strip format"):
        nncf.strip(object(), strip_format="thin")
    with pytest.raises(nncf.UnsupportedDatasetError, match=r"nncf\.Dataset"):
        nncf.compress_weights(object(), dataset=[1])
