"""The public names: what they are, and that importing them costs nothing."""

import importlib
import inspect
import os
import subprocess
import sys
from enum import Enum
from pathlib import Path

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
    "onnx", "onnx.quantization.backend_parameters", "openvino", "openvino.quantization.backend_parameters",
    "parameters", "quantization", "quantization.advanced_parameters", "quantization.quantize_model",
    "quantization.range_estimator", "scopes", "torch",
)  # fmt: skip


@pytest.mark.parametrize(
    "module",
    [
        pytest.param(name, marks=pytest.mark.needs(f"nncf_{name.partition('.')[0]}"))
        if name.startswith(("onnx", "openvino", "torch"))
        else name
        for name in MODULES
    ],
)
def test_documented_modules(module: str) -> None:
    # an attribute first: nothing else may have imported the module
    code = f"import nncf; first = nncf.{module}; import nncf.{module}; assert nncf.{module} is first"
    subprocess.run([sys.executable, "-c", f"{code}; assert first.__name__ == 'nncf.{module}'"], check=True)


def test_modules_offer_what_the_top_level_offers() -> None:
    assert nncf.quantization.advanced_parameters.AdvancedAWQParameters is nncf.AdvancedAWQParameters
    assert nncf.quantization.quantize_model.compress_weights is nncf.compress_weights
    assert nncf.parameters.ModelType is nncf.ModelType
    assert nncf.data.dataset.Dataset is nncf.data.Dataset is nncf.Dataset
    assert nncf.config.structures.ModelEvaluationArgs.get_id() == "model_evaluation_args"
    assert {"quantization", "parameters", "Dataset"} <= set(dir(nncf))
    assert {"advanced_parameters", "quantize"} <= set(dir(nncf.quantization))


@pytest.mark.needs("nncf_onnx", "nncf_openvino")
def test_keys_of_backend_parameters() -> None:
    from nncf.onnx.quantization.backend_parameters import BackendParameters

    assert BackendParameters.EXTERNAL_DATA_DIR == "external_data_dir"
    assert BackendParameters.COMPRESS_WEIGHTS == "compress_weights"
    assert nncf.openvino.quantization.backend_parameters.BackendParameters.COMPRESS_WEIGHTS == "compress_weights"


@pytest.mark.needs("nncf_onnx")
def test_a_plugins_module_offers_what_its_package_does() -> None:
    plugin = importlib.import_module("nncf_onnx.plugin")
    assert nncf.onnx.plugin is plugin
    assert "plugin" in dir(nncf.onnx)
    assert not hasattr(nncf.onnx, "no_such_name")
    assert nncf.onnx is importlib.import_module("nncf.onnx")


@pytest.mark.needs("nncf_onnx")
def test_a_plugin_that_is_not_installed() -> None:
    code = """
import importlib.util, sys
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: None if name == "nncf_torch" else find(name, package)
import nncf
assert not hasattr(nncf, "torch")
assert hasattr(nncf, "onnx")
for use in ("nncf.torch", "import nncf.torch", "from nncf.torch import wrap_model", "from nncf import torch"):
    try:
        exec(use)
    except (ImportError, AttributeError) as error:
        print(type(error).__name__, isinstance(error, nncf.NNCFError), "pip install nncf-torch" in str(error))
"""
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.splitlines() == [
        "AttributeError False True",
        "ModuleNotFoundError True True",
        "ModuleNotFoundError True True",
        "ModuleNotFoundError True True",
    ]


def loaded(statement: str) -> set[str]:
    code = f"import sys; {statement}; print(' '.join(sys.modules))"
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())


def test_importing_loads_next_to_nothing() -> None:
    heavy = {"numpy", "attrs", "cattrs", "pluggy", "jsonschema", "click", "rich", "onnx", "onnxruntime", "torch"}
    assert not loaded("import nncf") & heavy
    assert len(loaded("import nncf") - loaded("pass")) < 60


@pytest.mark.needs("nncf_onnx", "nncf_openvino", "nncf_torch")
def test_using_the_names_loads_no_framework() -> None:
    frameworks = {"onnx", "onnx_ir", "onnxruntime", "openvino", "torch"}
    assert not loaded("import nncf; [getattr(nncf, n) for n in nncf.__all__]") & frameworks
    assert not loaded("import nncf; nncf.NNCFConfig.schema()") & frameworks
    for name in ("onnx", "openvino", "torch"):
        assert not loaded(f"import nncf.{name}; dir(nncf.{name})") & frameworks


@pytest.mark.needs("nncf_weight_compression")
def test_what_no_installed_plugin_provides_says_so() -> None:
    data = nncf.Dataset([1])
    with pytest.raises(nncf.UnsupportedBackendError, match=r"builtins\.object"):
        nncf.quantize_with_accuracy_control(object(), data, data, print)
    with pytest.raises(nncf.UnsupportedBackendError, match=r"builtins\.object"):
        nncf.compress_weights(object())
    with pytest.raises(nncf.ValidationError, match="strip format"):
        nncf.strip(object(), strip_format="thin")
    with pytest.raises(nncf.UnsupportedDatasetError, match=r"nncf\.Dataset"):
        nncf.compress_weights(object(), dataset=[1])
    with pytest.raises(nncf.UnsupportedDatasetError, match="has no items"):
        nncf.compress_weights(object(), dataset=nncf.Dataset([]))


@pytest.mark.needs("mypy")
def test_type_checkers_know_the_names(tmp_path: Path) -> None:
    lines = {
        "nncf.Dataset([1, 2])": "Dataset[int, int]",
        "nncf.Dataset([1, 2], None)": "Dataset[int, int]",
        "nncf.Dataset([1, 2], lambda item: str(item)).get_inference_data()": "Iterable[str]",
        "nncf.quantization.advanced_parameters.AdvancedAWQParameters().steps": "int",
        "nncf.IgnoredScope(names=['a']).names": "list[str]",
        "nncf.config.structures.ModelEvaluationArgs.get_id()": "str",
        "nncf.no_such_name": "has no attribute",
        "nncf.quantization.no_such_name": "has no attribute",
    }
    script = tmp_path / "user.py"
    script.write_text("import nncf\n" + "".join(f"reveal_type({line})\n" for line in lines))
    (tmp_path / "mypy.ini").write_text("[mypy]\nstrict = true\n")
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file", "mypy.ini", "--no-color-output", "user.py"],
        cwd=tmp_path,
        env={**os.environ, "MYPYPATH": str(Path(nncf.__file__).parents[1])},
        capture_output=True,
        text=True,
    )  # fmt: skip
    answers = {int(line.split(":")[1]): line for line in reversed(checked.stdout.splitlines()) if line.count(":") > 2}
    for number, (line, expected) in enumerate(lines.items(), start=2):
        assert expected in answers[number], (line, checked.stdout)
