"""Configs of a training that lead nowhere are told of, and impossible ones refused when they are read."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import nncf
import nncf.torch
from nncf_core.errors import ParameterNotSupportedError, UnsupportedDatasetError, ValidationError
from nncf_core.pipeline import run
from nncf_core.training.control import CompressionStage

pytestmark = pytest.mark.needs(
    "nncf_magnitude_sparsity",
    "nncf_rb_sparsity",
    "nncf_const_sparsity",
    "nncf_movement_sparsity",
    "nncf_filter_pruning",
    "nncf_knowledge_distillation",
    "nncf_quantization_aware_training",
    "nncf_post_training_quantization",
)

IGNORED = {"ignored_scopes": "{re}.*"}
WARMUP = {"warmup_start_epoch": 1, "warmup_end_epoch": 2, "importance_regularization_factor": 0.0}
EXAMPLE = torch.ones(1, 1, 6, 6)


def network() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(1, 4, 3),
            nn.ReLU(),
            nn.Conv2d(4, 8, 3),
            nn.Flatten(),
            nn.Linear(32, 16),
            nn.ReLU(),
            nn.Linear(16, 4),
        )


def config(section: dict[str, Any], **more: Any) -> nncf.NNCFConfig:
    return nncf.NNCFConfig.from_dict({"input_info": {"sample_size": [1, 1, 6, 6]}, "compression": section, **more})


def created(section: dict[str, Any]) -> tuple[Any, nn.Module]:
    made = nncf.torch.register_default_init_args(config(section), [(EXAMPLE, torch.zeros(1))])
    return nncf.torch.create_compressed_model(network(), made)


@pytest.mark.parametrize(
    ("section", "part"),
    [
        ({"algorithm": "magnitude_sparsity", **IGNORED}, "ignored_scopes"),
        ({"algorithm": "rb_sparsity", **IGNORED}, "ignored_scopes"),
        ({"algorithm": "movement_sparsity", "params": WARMUP, **IGNORED}, "ignored_scopes"),
        ({"algorithm": "filter_pruning", **IGNORED}, "ignored_scopes"),
        ({"algorithm": "quantization", **IGNORED}, "the ignored or target scope leaves out all"),
        ({"algorithm": "const_sparsity"}, "zeros to keep"),
        ({"algorithm": "magnitude_sparsity", "params": {"sparsity_freeze_epoch": 3}}, "sparsity_freeze_epoch"),
        ({"algorithm": "rb_sparsity", "params": {"sparsity_freeze_epoch": 90}}, "sparsity_freeze_epoch"),
        ({"algorithm": "filter_pruning", "params": {"pruning_target": 0.0}}, "pruning_target"),
        ({"algorithm": "knowledge_distillation", "type": "mse", "scale": 0}, "scale is 0"),
        ({"algorithm": "knowledge_distillation", "type": "mse", "temperature": 2}, "temperature has no effect"),
    ],
    ids=lambda value: value.get("algorithm") if isinstance(value, dict) else None,
)
def test_sections_that_lead_nowhere_are_told_of_once(section: dict[str, Any], part: str, caplog: Any) -> None:
    controller, _ = created(section)
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(warnings) == 1
    assert section["algorithm"] in warnings[0] or warnings[0].startswith("Nothing is quantized: ")
    assert part in warnings[0]
    if part == "ignored_scopes":
        assert controller.compression_stage() is CompressionStage.UNCOMPRESSED


def test_without_a_training_too(caplog: Any) -> None:
    run({"compression": {"algorithm": "magnitude_sparsity", **IGNORED}}, network())
    assert "magnitude_sparsity: no weight gets zeros" in caplog.text


def test_sections_that_lead_somewhere_are_not_told_of(caplog: Any) -> None:
    for section in (
        {"algorithm": "magnitude_sparsity"},
        {"algorithm": "rb_sparsity"},
        {"algorithm": "filter_pruning"},
        {"algorithm": "quantization"},
        {"algorithm": "movement_sparsity", "params": WARMUP},
    ):
        created(section)
    assert not [record for record in caplog.records if record.levelname == "WARNING"]


@pytest.mark.parametrize(
    ("section", "message"),
    [
        (
            {"algorithm": "magnitude_sparsity", "sparsity_init": 0.6},
            r"^The config is not valid\. compression: sparsity_init is 0\.6, above .* sparsity_target 0\.5: .*[a-z]\.$",
        ),
        ({"algorithm": "rb_sparsity", "sparsity_init": 0.6}, r"compression: sparsity_init is 0\.6, above"),
        ({"algorithm": "filter_pruning", "pruning_init": 0.6}, r"compression: pruning_init is 0\.6, above"),
        (
            {"algorithm": "magnitude_sparsity", "params": {"multistep_steps": [3, 1]}},
            r"compression\.params: multistep_steps is \[3.0, 1.0\]; .*ascending order; sort them\.$",
        ),
        (
            {"algorithm": "movement_sparsity", "params": {**WARMUP, "warmup_end_epoch": 1}},
            r"compression\.params: movement_sparsity: warmup_end_epoch is 1; it must be after .*[0-9]\.$",
        ),
        (
            {"algorithm": "quantization", "activations": {"per_channel": True}},
            r"compression: activations\.per_channel",
        ),
    ],
    ids=lambda value: value.get("algorithm") if isinstance(value, dict) else None,
)
def test_impossible_sections_are_refused_when_they_are_read(section: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        config(section)


def test_what_reaches_no_zeros_is_not_fully_compressed(caplog: Any) -> None:
    controller, _ = created(
        {"algorithm": "movement_sparsity", "params": {**WARMUP, "final_importance_threshold": -9.0}}
    )
    for _ in range(4):
        controller.scheduler.epoch_step()
    assert controller.compression_stage() is CompressionStage.UNCOMPRESSED
    assert "the warm-up is over, and no weight has zeros" in caplog.text
    section = {"algorithm": "rb_sparsity", "params": {"sparsity_target_epoch": 1, "sparsity_freeze_epoch": 3}}
    controller, model = created(section)
    for _ in range(5):
        controller.scheduler.epoch_step()
    assert controller.scheduler.current_sparsity_level == 0.5
    assert controller.compression_stage() is CompressionStage.UNCOMPRESSED
    scores = [p for name, p in model.named_parameters() if name.endswith("_mask_scores")]
    for share, stage in ((0.4, CompressionStage.PARTIALLY_COMPRESSED), (0.49, CompressionStage.FULLY_COMPRESSED)):
        with torch.no_grad():
            for each in scores:
                gone = torch.arange(each.numel()) < share * each.numel()
                each.copy_(torch.where(gone, -1.0, 1.0).reshape(each.shape))
        assert controller.compression_rate == pytest.approx(share, abs=0.01)
        assert controller.compression_stage() is stage


def test_levels_that_are_none_are_refused() -> None:
    for section, name in (
        ({"algorithm": "magnitude_sparsity"}, "sparsity_level"),
        ({"algorithm": "rb_sparsity"}, "sparsity_level"),
        ({"algorithm": "filter_pruning"}, "pruning_level"),
    ):
        controller, _ = created(section)
        for level in (1.0, -0.1, "0.5", None):
            with pytest.raises(ValidationError, match=f"^{name} is .*; it must be a number from 0 to below 1"):
                controller.compression_rate = level
    for section in ({"algorithm": "quantization"}, {"algorithm": "knowledge_distillation", "type": "mse"}):
        controller, _ = created(section)
        with pytest.raises(ParameterNotSupportedError, match=f"compression_rate: {section['algorithm']} has none"):
            controller.compression_rate = 0.5


def test_inputs_that_are_not_those_of_the_model_are_named() -> None:
    made = config({"algorithm": "magnitude_sparsity"})
    for info, part in (
        (
            {"sample_size": [1, 1, 6, 6], "keyword": "picture"},
            "argument 'picture'|missing .* 'input'",
        ),
        ([{"sample_size": [1, 1, 6, 6]}] * 2, "too many positional arguments"),
    ):
        made["input_info"] = info
        with pytest.raises(ValidationError, match=f"input_info does not fit the model: .*({part}).*forward.*'keyword'"):
            nncf.torch.create_compressed_model(network(), made)


def test_data_for_a_training_comes_with_the_config() -> None:
    with pytest.raises(
        UnsupportedDatasetError,
        match=r"'quantization' needs .* attach a loader with nncf\.torch\.register_default_init_args",
    ):
        nncf.torch.create_compressed_model(network(), config({"algorithm": "quantization"}))
    with pytest.raises(UnsupportedDatasetError, match="'quantization' needs calibration data; pass a dataset"):
        run({"compression": {"algorithm": "quantization"}, "backend_params": {"example_input": EXAMPLE}}, network())
