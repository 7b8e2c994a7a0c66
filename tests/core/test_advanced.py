"""Advanced parameters, and plain data to classes and back."""

import dataclasses
import inspect
import json

import attrs
import numpy as np
import pytest

import nncf
from nncf_core import advanced
from nncf_core.advanced import FP8QuantizationParameters, FP8Type, QuantizationParameters, QuantizationScheme
from nncf_core.range_estimator import StatisticsCollectorParameters
from nncf_core.structuring import structure, unstructure

CLASSES = [cls for cls in vars(advanced).values() if inspect.isclass(cls) and hasattr(cls, "__attrs_attrs__")]


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_defaults_survive_json(cls: type) -> None:
    assert structure(json.loads(json.dumps(unstructure(cls()))), cls) == cls()


def test_documented_defaults() -> None:
    compression = nncf.AdvancedCompressionParameters()
    assert compression.group_size_fallback_mode == "error"
    assert compression.min_adjusted_group_size == 32
    assert compression.lora_adapter_rank == 256
    assert (compression.awq_params.subset_size, compression.awq_params.steps) == (32, 100)
    assert compression.gptq_params.damp_percent == 0.1
    quantization = nncf.AdvancedQuantizationParameters()
    assert quantization.smooth_quant_alphas.matmul == 0.95
    assert quantization.disable_channel_alignment
    first = list(inspect.signature(nncf.AdvancedCompressionParameters).parameters)[:7]
    assert first == [
        "statistics_path", "awq_params", "scale_estimation_params", "gptq_params", "lora_correction_params",
        "lora_adapter_rank", "backend_params",
    ]  # fmt: skip


def test_arrays_become_lists() -> None:
    data = unstructure(nncf.AdvancedCompressionParameters(codebook=np.array([-1, 0, 1], np.float32)))
    assert data["codebook"] == [-1.0, 0.0, 1.0]
    json.dumps(data)


@pytest.mark.parametrize(
    ("data", "parts"),
    [
        ({"awq_params": {"stepz": 1}}, ["unknown key stepz", "steps", "here.awq_params"]),
        ({"lora_adapter_rank": "3"}, ["expected int, got '3'", "here.lora_adapter_rank"]),
        ({"lora_adapter_rank": True}, ["expected int", "here.lora_adapter_rank"]),
        ({"group_size_fallback_mode": "x"}, ["'x'", "'adjust'", "here.group_size_fallback_mode"]),
        ({"awq_params": 3}, ["expected an object", "percent_to_apply", "got 3", "here.awq_params"]),
        ([1], ["here: expected an object", "awq_params", "[1]"]),
        ({"awq_params": {"steps": 0}}, ["steps is 0", "here.awq_params"]),
    ],
)
def test_bad_data_names_the_path(data: dict, parts: list[str]) -> None:
    with pytest.raises(nncf.ValidationError) as caught:
        structure(data, nncf.AdvancedCompressionParameters, "here")
    for part in parts:
        assert part in str(caught.value)


@pytest.mark.parametrize("size", [0, -1, 2.5, "3", True, None])
def test_sizes_must_be_positive(size: object) -> None:
    with pytest.raises(nncf.ValidationError, match="subset_size"):
        nncf.AdvancedAWQParameters(subset_size=size)


QUANTIZERS = [
    QuantizationParameters(num_bits=4, mode=QuantizationScheme.ASYMMETRIC, per_channel=False),
    QuantizationParameters(mode="symmetric"),
    FP8QuantizationParameters(FP8Type.E5M2),
    FP8QuantizationParameters(),
]


@pytest.mark.parametrize("weights", QUANTIZERS)
@pytest.mark.parametrize("activations", QUANTIZERS)
def test_quantizers_survive_json(weights: object, activations: object) -> None:
    given = nncf.AdvancedQuantizationParameters(
        weights_quantization_params=weights, activations_quantization_params=activations
    )
    back = structure(json.loads(json.dumps(unstructure(given))), nncf.AdvancedQuantizationParameters)
    assert back == given
    assert type(back.weights_quantization_params) is type(weights)


@pytest.mark.parametrize(
    ("quantizer", "parts"),
    [
        ({"mode": "sym"}, ["'symmetric'", "'sym'", "weights_quantization_params.mode"]),
        ({"bits": 4}, ["unknown key bits", "num_bits"]),
        (8, ["expected an object", "num_bits"]),
    ],
)
def test_bad_quantizers_name_the_path(quantizer: object, parts: list[str]) -> None:
    with pytest.raises(nncf.ValidationError) as caught:
        structure({"weights_quantization_params": quantizer}, nncf.AdvancedQuantizationParameters)
    for part in parts:
        assert part in str(caught.value)


def test_members_become_their_values() -> None:
    parameters = nncf.AdvancedQuantizationParameters(
        overflow_fix=nncf.OverflowFix.DISABLE, weights_quantization_params=FP8QuantizationParameters(FP8Type.E4M3)
    )
    data = unstructure(parameters)
    assert type(data["overflow_fix"]) is str
    assert type(data["quantizer_propagation_rule"]) is str
    assert type(data["weights_quantization_params"]["destination_type"]) is str


def test_enumerations_take_members_and_values_only() -> None:
    parameters = nncf.AdvancedCompressionParameters(group_size_fallback_mode="adjust")
    assert parameters.group_size_fallback_mode == nncf.GroupSizeFallbackMode.ADJUST
    for assign in (
        lambda: nncf.AdvancedCompressionParameters(group_size_fallback_mode="shrink"),
        lambda: setattr(parameters, "group_size_fallback_mode", "shrink"),
    ):
        with pytest.raises(nncf.ValidationError, match=r"'shrink'.*'adjust'"):
            assign()
    assert nncf.AdvancedQuantizationParameters().overflow_fix is None
    with pytest.raises(nncf.ValidationError, match="restore_mode is None"):
        nncf.AdvancedAccuracyRestorerParameters(restore_mode=None)
    with pytest.raises(nncf.ValidationError, match="statistics_type"):
        StatisticsCollectorParameters("average")


def test_dataclasses_know_parameters() -> None:
    given = advanced.AdvancedQuantizationParameters(quantize_outputs=True)
    changed = dataclasses.replace(given, overflow_fix=nncf.OverflowFix.DISABLE)
    assert changed == advanced.AdvancedQuantizationParameters(
        quantize_outputs=True, overflow_fix=nncf.OverflowFix.DISABLE
    )
    assert given.overflow_fix is None
    assert [field.name for field in dataclasses.fields(changed)] == [a.name for a in attrs.fields(type(changed))]
    assert dataclasses.asdict(nncf.AdvancedGPTQParameters(block_size=64)) == {
        "damp_percent": 0.1, "block_size": 64, "subset_size": 128,
    }  # fmt: skip
    with pytest.raises(TypeError, match="nonsense"):
        dataclasses.replace(given, nonsense=1)
    assert dataclasses.replace(nncf.IgnoredScope(names=["a"]), types=["b"]) == nncf.IgnoredScope(["a"], types=["b"])
