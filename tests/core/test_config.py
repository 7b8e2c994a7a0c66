"""NNCFConfig: validation with errors that name the key path, extra structures, redefinable parameters."""

import copy
import json
from pathlib import Path
from types import MappingProxyType

import jsonschema
import pytest

import nncf
from nncf_core.config.schema import assemble, section_schema
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
        ({"compression_lr_multiplier": float("nan")}, ["compression_lr_multiplier: NaN", "number"]),
        (
            {"compression": {"algorithm": "magnitude_sparsity", "params": {"power": float("inf")}}},
            ["compression.params.power: Infinity", "number"],
        ),
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
    # sections are looked into
    with pytest.raises(jsonschema.SchemaError):
        jsonschema.Draft7Validator.check_schema(assemble({"x": {"properties": {"a": {"type": "real"}}}}))


def test_the_schema_is_the_callers_own() -> None:
    first = nncf.NNCFConfig.schema()
    kept = json.dumps(first)
    first["properties"]["log_dir"]["type"] = "number"
    first["properties"]["accuracy_aware_training"]["oneOf"].clear()
    for section in first["definitions"].values():
        section["properties"]["ignored_scopes"].clear()
        section["properties"].clear()
    assert json.dumps(nncf.NNCFConfig.schema()) == kept
    json.dumps(assemble({"x": MappingProxyType({"required": ("a",), "properties": MappingProxyType({"a": {}})})}))


def test_a_fragment_cannot_take_the_cores_place() -> None:
    section = section_schema("x", {"required": ["algorithm"], "properties": {"algorithm": {}}})
    assert section["properties"]["algorithm"] == {"const": "x"}
    assert section["required"] == ["algorithm"]


def test_keys_of_the_users_own_are_kept_and_noted(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("DEBUG", "nncf"):
        assert nncf.NNCFConfig.from_dict({"epochs": 3}) == {"epochs": 3}
    assert "'epochs'" in caplog.text


@pytest.mark.parametrize("mode", ["early_exit", "adaptive_compression_level"])
@pytest.mark.parametrize("given", [0, 1, 2])
def test_exactly_one_limit_of_the_accuracy(mode: str, given: int) -> None:
    limits = ["maximal_relative_accuracy_degradation", "maximal_absolute_accuracy_degradation"][:given]
    epochs = ["initial_training_phase_epochs", "patience_epochs", "maximal_total_epochs"]
    params = dict.fromkeys(limits + (epochs[2:] if mode == "early_exit" else epochs), 1)
    config = {"accuracy_aware_training": {"mode": mode, "params": params}}
    if given == 1:
        validate(config, FRAGMENTS)
        jsonschema.validate(config, assemble(FRAGMENTS))
    else:
        assert "accuracy_aware_training.params: give exactly one of" in message(config)
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(config, assemble(FRAGMENTS))


def test_no_more_than_five_errors_are_shown() -> None:
    text = message({"compression": [{"algorithm": f"none_{i}"} for i in range(8)]})
    assert "'none_4'" in text
    assert "'none_5'" not in text
    assert "(and 3 more)" in text


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
        ('{"a": -Infinity}', "-Infinity"),
        ('{"a": [1e999]}', "1e999 is too large"),
        ("[" * 100_000, "nested too deeply"),
        ("[1]", "list"),
        ('{"target_device": "VPU"}', "target_device"),
    ]:
        path.write_text(text)
        with pytest.raises(nncf.ValidationError, match=part):
            nncf.NNCFConfig.from_json(path)
    path.write_text('{"epochs": 1}', encoding="utf-8-sig")
    assert nncf.NNCFConfig.from_json(path) == {"epochs": 1}
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(nncf.InvalidPathError, match="not text in UTF-8"):
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
