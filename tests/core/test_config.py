"""NNCFConfig: validation with errors that name the key path, extra structures, redefinable parameters."""

import copy
import json
from pathlib import Path

import jsonschema
import pytest

import nncf
from nncf_core.config.schema import assemble
from nncf_core.config.structures import BNAdaptationInitArgs, ModelEvaluationArgs, QuantizationRangeInitArgs
from nncf_core.config.validation import validate

FRAGMENTS = {
    "magnitude_sparsity": {
        "type": "object",
        "properties": {
            "sparsity_init": {"type": "number", "minimum": 0, "exclusiveMaximum": 1},
            "params": {
                "type": "object",
                "properties": {"schedule": {"enum": ["polynomial", "exponential"]}, "power": {"type": "number"}},
                "additionalProperties": False,
            },
        },
    },
    "quantization": {
        "type": "object",
        "properties": {"preset": {"enum": ["performance", "mixed"]}, "bits": {"oneOf": [{"const": 4}, {"const": 8}]}},
    },
}


def message(config: object) -> str:
    with pytest.raises(nncf.ValidationError) as caught:
        validate(config, FRAGMENTS)
    return str(caught.value)


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"compression": []},
        {"compression": {"algorithm": "quantization", "preset": "mixed", "bits": 8}},
        {"compression": [{"algorithm": "quantization"}, {"algorithm": "magnitude_sparsity", "sparsity_init": 0.5}]},
        {"compression": {"algorithm": "quantization", "ignored_scopes": "{re}.*"}, "target_device": "TRIAL"},
        {"model": "resnet", "epochs": 3, "input_info": [{"sample_size": [1, 3, 8, 8], "type": "float"}]},
        {"log_dir": "x", "compression_lr_multiplier": 2},
        {"accuracy_aware_training": {"mode": "early_exit", "params": {
            "maximal_total_epochs": 10, "maximal_absolute_accuracy_degradation": 0.5}}},
    ],
)  # fmt: skip
def test_valid(config: dict) -> None:
    validate(config, FRAGMENTS)
    jsonschema.validate(config, assemble(FRAGMENTS))


@pytest.mark.parametrize(
    ("config", "parts"),
    [
        ({"compression": {}}, ["compression: the key 'algorithm' is missing", "quantization"]),
        ({"compression": "quantization"}, ["compression:", '"quantization"']),
        ({"compression": [3]}, ["compression[0]: 3"]),
        ({"compression": {"algorithm": 3}}, ["compression.algorithm: 3"]),
        ({"compression": {"algorithm": "quantisation"}}, ["'quantisation'", "Did you mean 'quantization'?"]),
        ({"compression": {"algorithm": "weight_compression"}}, ["pip install nncf-weight-compression"]),
        ({"compression": {"algorithm": "weight_compresion"}}, ["(pip install nncf-weight-compression)"]),
        (
            {"compression": [{"algorithm": "quantization"}, {"algorithm": "quantization"}]},
            ["compression[1].algorithm", "compression[0]"],
        ),
        (
            {"compression": [{"algorithm": "magnitude_sparsity", "params": {"schedule": "linear"}}]},
            ["compression[0].params.schedule", '"linear"', '"polynomial", "exponential"'],
        ),
        (
            {"compression": {"algorithm": "magnitude_sparsity", "params": {"shedule": 1}}},
            ["compression.params.shedule: unknown key", "'schedule'"],
        ),
        (
            {"compression": {"algorithm": "magnitude_sparsity", "sparsity_init": 1}},
            ["compression.sparsity_init: 1", "less than 1"],
        ),
        ({"compression": {"algorithm": "quantization", "bits": 5}}, ["compression.bits: 5", "4; 8"]),
        ({"compression": {"algorithm": "quantization", "preset": None}}, ["compression.preset: null"]),
        ({"compresion": {}}, ["compresion", "'compression'"]),
        ({"target_device": "VPU"}, ["target_device", '"VPU"', '"CPU_SPR"']),
        ({"log_dir": 3}, ["log_dir: 3", "string"]),
        ({"input_info": {"size": 3}}, ["input_info", "sample_size"]),
        ({"accuracy_aware_training": {"mode": "never"}}, ["accuracy_aware_training.mode", "'early_exit'"]),
        (
            {"accuracy_aware_training": {"mode": "early_exit", "params": {"maximal_total_epochs": 1}}},
            ["exactly one of 'maximal_relative_accuracy_degradation'"],
        ),
        ([], ["list"]),
    ],
)  # fmt: skip
def test_errors_name_the_path_the_value_and_what_is_allowed(config: object, parts: list[str]) -> None:
    text = message(config)
    for part in parts:
        assert part in text
    assert "is not valid under any of the given schemas" not in text


def test_several_errors_are_reported_together() -> None:
    text = message({"log_dir": 1, "target_device": "x", "compression": {"algorithm": "quantization", "preset": 1}})
    assert all(part in text for part in ("log_dir", "target_device", "compression.preset"))


def test_the_assembled_schema_is_a_schema() -> None:
    for fragments in ({}, FRAGMENTS):
        jsonschema.Draft7Validator.check_schema(assemble(fragments))
    jsonschema.Draft7Validator.check_schema(nncf.NNCFConfig.schema())
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"compression": {"algorithm": "quantization"}}, assemble({}))


def test_a_config_is_a_dict_and_a_copy() -> None:
    source = {"model": {"name": "x"}}
    config = nncf.NNCFConfig.from_dict(source)
    assert isinstance(config, dict)
    assert config == source
    config["model"]["name"] = "y"
    assert source == {"model": {"name": "x"}}
    # the constructor validates nothing
    assert nncf.NNCFConfig({"compression": {}}, a=1) == {"compression": {}, "a": 1}


def test_from_json(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"target_device": "CPU"}))
    assert nncf.NNCFConfig.from_json(str(path)) == {"target_device": "CPU"}
    for text, part in [
        ('{"a": 1,\n  b: 2}', "line 2, column 3"),
        ('{"a": 1, "a": 2}', "'a' is given twice"),
        ('{"a": NaN}', "NaN"),
        ("[1]", "list"),
        ('{"target_device": "VPU"}', "target_device"),
    ]:
        path.write_text(text)
        with pytest.raises(nncf.ValidationError, match=part):
            nncf.NNCFConfig.from_json(path)
    with pytest.raises(nncf.InvalidPathError, match=r"missing\.json"):
        nncf.NNCFConfig.from_json(tmp_path / "missing.json")


def test_extra_structs() -> None:
    config = nncf.NNCFConfig()
    ranges = QuantizationRangeInitArgs([1, 2], device="cpu")
    config.register_extra_structs([ranges, ModelEvaluationArgs(print)])
    assert config.get_extra_struct(QuantizationRangeInitArgs) is ranges
    assert (ranges.data_loader, ranges.device, ranges.get_id()) == ([1, 2], "cpu", "quantization_range_init_args")
    assert config.has_extra_struct(ModelEvaluationArgs)
    assert not config.has_extra_struct(BNAdaptationInitArgs)
    assert len(config.get_all_extra_structs()) == 2
    with pytest.raises(KeyError):
        config.get_extra_struct(BNAdaptationInitArgs)
    with pytest.raises(nncf.InternalError, match="already registered"):
        config.register_extra_structs([QuantizationRangeInitArgs([])])
    assert copy.deepcopy(config).has_extra_struct(QuantizationRangeInitArgs)
    assert nncf.NNCFConfig.from_dict(config).has_extra_struct(QuantizationRangeInitArgs)


def test_redefinable_parameters() -> None:
    config = nncf.NNCFConfig(
        {
            "ignored_scopes": ["g"],
            "compression": [{"algorithm": "quantization", "ignored_scopes": "a"}, {"algorithm": "magnitude_sparsity"}],
        }
    )
    value = config.get_redefinable_global_param_value_for_algo
    assert value("ignored_scopes", "quantization") == "a"
    assert value("ignored_scopes", "magnitude_sparsity") == ["g"]
    assert value("target_scopes", "quantization") is None
    with pytest.raises(nncf.InternalError):
        value("ignored_scopes", "rb_sparsity")
    with pytest.raises(nncf.ValidationError):
        value("ignored_scopes", "NoCompressionAlgorithm")
    config["compression"].append({"algorithm": "quantization"})
    with pytest.raises(nncf.ValidationError, match="more than one"):
        value("ignored_scopes", "quantization")
    assert nncf.NNCFConfig(log_dir="x").get_redefinable_global_param_value_for_algo(
        "log_dir", "NoCompressionAlgorithm"
    ) == "x"  # fmt: skip
