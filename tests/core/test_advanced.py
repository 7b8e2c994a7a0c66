"""Advanced parameters, and plain data to classes and back."""

import inspect
import json

import numpy as np
import pytest

import nncf
from nncf_core import advanced
from nncf_core.structuring import structure, unstructure

CLASSES = [
    cls for name, cls in vars(advanced).items() if inspect.isclass(cls) and hasattr(cls, "__attrs_attrs__") and name[0] != "_"
]  # fmt: skip


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
        ({"group_size_fallback_mode": "x"}, ["'x'", "here.group_size_fallback_mode"]),
        ({"awq_params": {"steps": 0}}, ["steps is 0", "here.awq_params"]),
    ],
)
def test_bad_data_names_the_path(data: dict, parts: list[str]) -> None:
    with pytest.raises(nncf.ValidationError) as caught:
        structure(data, nncf.AdvancedCompressionParameters, "here")
    for part in parts:
        assert part in str(caught.value)


def test_sizes_must_be_positive() -> None:
    with pytest.raises(nncf.ValidationError, match="subset_size"):
        nncf.AdvancedAWQParameters(subset_size=0)
