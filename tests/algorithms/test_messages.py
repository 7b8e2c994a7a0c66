"""What users are told of sections that cannot be: what is wrong, where, and what to do."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import nncf
import nncf.torch
from nncf_core.errors import (
    InvalidPathError,
    NNCFError,
    ParameterNotSupportedError,
    UnsupportedModelError,
    ValidationError,
)
from nncf_core.pipeline import run

WARMUP = {"warmup_start_epoch": 0, "warmup_end_epoch": 1, "importance_regularization_factor": 0.1}
X = torch.ones(1, 8)


def network() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))


def weights(**more: Any) -> dict[str, Any]:
    return {"algorithm": "weight_compression", **more}


def quantized(**more: Any) -> dict[str, Any]:
    return {"algorithm": "post_training_quantization", **more}


def advanced(**more: Any) -> dict[str, Any]:
    return quantized(advanced_parameters=more)


def movement(*structures: Mapping[str, Any], **params: Any) -> dict[str, Any]:
    return {
        "algorithm": "movement_sparsity",
        "params": {**WARMUP, **params},
        "sparse_structure_by_scopes": list(structures),
    }


SECTIONS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "ratio": (weights(mode="int4_sym", ratio=1.5), ["ratio", "1.5"]),
    "group size": (weights(mode="int4_sym", group_size=0), ["group_size is 0", "positive, or -1"]),
    "group size of a format": (weights(mode="mxfp4", group_size=64), ["group_size is 64", "mxfp4", "fixes it to 32"]),
    "fallback of a format": (
        weights(mode="mxfp4", advanced_parameters={"group_size_fallback_mode": "adjust"}),
        ["ADJUST is not possible with mode mxfp4", "leave it out"],
    ),
    "group size of 8 bits": (
        weights(mode="int8_sym", group_size=64),
        ["int8_sym is per channel", "leave out group_size, or set it to -1"],
    ),
    "statistics of 8 bits": (
        weights(mode="int8_sym", advanced_parameters={"statistics_path": "a"}),
        ["int8_sym is data-free", "leave out advanced_parameters.statistics_path"],
    ),
    "bits": (
        advanced(activations_quantization_params={"num_bits": 9}),
        ["activations_quantization_params.num_bits 9", "to 8 bits are"],
    ),
    "channels of activations": (
        advanced(activations_quantization_params={"per_channel": True}),
        ["activations_quantization_params.per_channel True", "one scale"],
    ),
    "ratio of 8 bits": (weights(mode="int8_sym", ratio=0.5), ["int8_sym", "leave out ratio"]),
    "no codebook": (weights(mode="codebook"), ["codebook needs the table", "advanced_parameters.codebook"]),
    "mode": (weights(mode="int5"), ["compression.mode", '"int5"', "int4_sym"]),
    "type": (weights(ratio="0.5"), ["compression.ratio", '"0.5"', "number"]),
    "clipping": (
        advanced(activations_range_estimator_params={"min": {"clipping_value": 1.0}}),
        ["clipping_value is 1.0", "zero must stay in the range"],
    ),
    "quantile": (
        advanced(weights_range_estimator_params={"max": {"quantile_outlier_prob": 0.7}}),
        ["quantile_outlier_prob is 0.7", "at least 0 and below 0.5"],
    ),
    "steps": (
        {"algorithm": "magnitude_sparsity", "params": {"schedule": "multistep", "multistep_steps": [1, 2]}},
        ["2 levels for 2 epochs", "one more"],
    ),
    "two targets": (
        {"algorithm": "filter_pruning", "params": {"pruning_target": 0.5, "pruning_flops_target": 0.5}},
        ["either pruning_target or pruning_flops_target"],
    ),
    "warm-up": (movement(warmup_end_epoch=1, warmup_start_epoch=2), ["warmup_end_epoch is 1", "after", "2"]),
    "threshold": (
        movement(init_importance_threshold=0.5),
        ["init_importance_threshold is 0.5", "below final_importance_threshold, 0.0"],
    ),
    "blocks": (
        movement({"mode": "block", "sparse_factors": [4], "target_scopes": "a"}),
        ["sparse_factors is [4]", "two positive integers"],
    ),
    "axis": (movement({"mode": "per_dim", "target_scopes": "a"}), ["axis is None", "0 or 1"]),
    "autoq": (
        {"algorithm": "quantization", "initializer": {"precision": {"type": "autoq"}}},
        ["'autoq' is not supported", "'hawq'"],
    ),
    "threesigma": (
        {"algorithm": "quantization", "initializer": {"range": {"type": "threesigma", "num_init_samples": 8}}},
        ["threesigma", "percentile"],
    ),
    "logarithm": (
        {"algorithm": "quantization", "weights": {"logarithm_scale": True}},
        ["logarithm_scale", "leave it out"],
    ),
    "unsigned": (
        {"algorithm": "quantization", "weights": {"signed": False}},
        ["weights.signed false", "leave it out"],
    ),
    "sparsity of activations": (
        {"algorithm": "activation_sparsity", "targets": [{"scope": {"names": ["a"]}, "sparsity": 2}]},
        ["compression.targets[0].sparsity", "2", "at most 1"],
    ),
    "drop": ({"algorithm": "accuracy_control", "max_drop": -0.1}, ["max_drop", "-0.1"]),
    "another": ({"algorithm": "magnitude_sparsty"}, ["'magnitude_sparsty'", "Did you mean 'magnitude_sparsity'"]),
    "key": ({"algorithm": "rb_sparsity", "sparsity_intit": 0.1}, ["sparsity_intit", "did you mean 'sparsity_init'"]),
}


def told(caught: pytest.ExceptionInfo[NNCFError], parts: list[str]) -> None:
    message = str(caught.value)
    assert [part for part in parts if part not in message] == [], message
    assert not re.search(r"[^.]\.\.(?!\.)", message), message


@pytest.mark.parametrize("name", SECTIONS)
def test_when_a_section_is_read_or_before_any_work(name: str) -> None:
    section, parts = SECTIONS[name]
    with pytest.raises(NNCFError) as caught:
        run({"compression": section}, network(), dataset=nncf.Dataset([X]))
    told(caught, parts)


def trained(section: Mapping[str, Any], model: nn.Module | None = None) -> tuple[Any, nn.Module]:
    config = {"input_info": {"sample_size": [1, 8]}, "compression": section}
    return nncf.torch.create_compressed_model(model or network(), config)


def test_levels_of_algorithms_without_one() -> None:
    model = network()
    with torch.no_grad():
        model[0].weight[:4] = 0
    controller, _ = trained({"algorithm": "const_sparsity"}, model)
    with pytest.raises(ParameterNotSupportedError) as caught:
        controller.compression_rate = 0.5
    told(caught, ["const_sparsity", "zeros that a model has", "not set"])
    controller, _ = trained(movement())
    with pytest.raises(ParameterNotSupportedError) as caught:
        controller.compression_rate = 0.5
    told(caught, ["movement_sparsity", "importance_regularization_factor"])


def test_two_structures_of_one_layer() -> None:
    with pytest.raises(ValidationError) as caught:
        trained(movement({"mode": "fine", "target_scopes": "{re}.*"}, {"mode": "fine", "target_scopes": "{re}0/.*"}))
    told(caught, ["two of sparse_structure_by_scopes match '0/linear/0'"])


def test_a_ranking_that_is_searched_without_a_training(tmp_path: Path) -> None:
    params: dict[str, Any] = {"interlayer_ranking_type": "learned_ranking", "prune_first_conv": True}
    with pytest.raises(ParameterNotSupportedError) as caught:
        run(
            {
                "compression": {"algorithm": "filter_pruning", "params": params},
                "backend_params": {"example_input": X},
            },
            network(),
        )
    told(caught, ["learned ranking", "load_ranking_coeffs_path"])
    with pytest.raises(InvalidPathError) as path_caught:
        trained({"algorithm": "filter_pruning", "params": {**params, "load_ranking_coeffs_path": str(tmp_path / "no")}})
    told(path_caught, ["ranking coefficients", str(tmp_path / "no")])


def test_nothing_to_distil() -> None:
    class Volumes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(8, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.layer(x)[None]

    section = {"algorithm": "knowledge_distillation", "type": "softmax"}
    controller, model = trained(section, Volumes())
    model.train()(X)
    with pytest.raises(UnsupportedModelError) as caught:
        controller.loss()
    told(caught, ["knowledge_distillation", "no output", "[batch, classes]"])
    model.eval()(X)
    with pytest.raises(NNCFError) as not_trained:
        controller.loss()
    told(not_trained, ["training mode", "model.train()"])


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("{", ["is not JSON", "names of weights and mean traces"]),
        ("[1]", ["holds no traces", "names of weights and mean traces"]),
        (json.dumps({"some": 1.0}), ["no trace of '0.weight'", "these have one: 'some'", "as the model does"]),
        (None, ["Cannot read the traces"]),
    ],
)
def test_traces_that_are_none(text: str | None, parts: list[str], tmp_path: Path) -> None:
    path = tmp_path / "traces.json"
    if text is not None:
        path.write_text(text)
    precision = {"type": "hawq", "bits": [4, 8], "traces_per_layer_path": str(path)}
    config = {
        "compression": {"algorithm": "quantization", "initializer": {"precision": precision}},
        "backend_params": {"example_input": X},
    }
    with pytest.raises(NNCFError) as caught:
        run(config, network(), dataset=nncf.Dataset([X]))
    told(caught, parts)


def test_weights_that_are_not_finite() -> None:
    model = network()
    with torch.no_grad():
        model[2].weight[1, 2] = float(np.nan)
    for mode in (nncf.CompressWeightsMode.INT8_ASYM, nncf.CompressWeightsMode.ADAPTIVE_CODEBOOK):
        with pytest.raises(NNCFError) as caught:
            nncf.compress_weights(
                model, mode=mode, **({} if "8" in mode.value else {"group_size": -1, "all_layers": True})
            )
        told(caught, ["'2.weight'"])
