"""The config that ``nncf.quantize`` makes of its arguments."""

from __future__ import annotations

from typing import Any

import pytest

import nncf
from nncf_core.api import quantize_config


def sections(**advanced: Any) -> dict[str, dict[str, Any]]:
    parameters = nncf.AdvancedQuantizationParameters(**advanced) if advanced else None
    found = quantize_config(advanced_parameters=parameters, ignored_scope=nncf.IgnoredScope(names=["a"]))
    return {section["algorithm"]: section for section in found["compression"]}


@pytest.mark.needs("nncf_smooth_quant")
def test_strengths_are_chosen_unless_they_are_given() -> None:
    automatic = sections()["smooth_quant"]
    assert "alpha_matmul" not in automatic
    assert automatic["ignored_scope"]["names"] == ["a"]
    assert sections(smooth_quant_alphas=nncf.AdvancedSmoothQuantParameters())["smooth_quant"] == automatic
    given = sections(smooth_quant_alphas=nncf.AdvancedSmoothQuantParameters(matmul=0.5))["smooth_quant"]
    assert (given["alpha_matmul"], given["alpha_convolution"]) == (0.5, -1)
    assert sections(smooth_quant_alpha=0.3)["smooth_quant"]["alpha_matmul"] == 0.3


def test_negative_strengths_switch_it_off() -> None:
    assert list(sections(smooth_quant_alpha=-1)) == ["post_training_quantization"]
    assert list(sections(smooth_quant_alphas=nncf.AdvancedSmoothQuantParameters(matmul=-1))) == [
        "post_training_quantization"
    ]


def test_a_plugin_that_is_wished_for_may_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    from nncf_core.registry import registry

    known = registry()
    monkeypatch.setattr(type(known), "algorithms", {}, raising=True)
    assert list(sections()) == ["post_training_quantization"]
    assert "smooth_quant" in sections(smooth_quant_alpha=0.5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"subset_size": "3"}, "subset_size is '3'; it must be an integer"),
        ({"subset_size": 1.5}, r"subset_size is 1\.5; it must be an integer"),
        ({"advanced_parameters": {"overflow_fix": "enable"}}, r"give nncf\.AdvancedQuantizationParameters"),
    ],
)
def test_arguments_of_another_type(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(nncf.ValidationError, match=message):
        quantize_config(**arguments)


@pytest.mark.parametrize("alpha", [{"smooth_quant_alpha": "a"}, {"smooth_quant_alpha": 7.0}])
def test_strengths_that_are_none(alpha: dict[str, Any]) -> None:
    with pytest.raises(nncf.ValidationError, match=r"smooth_quant_alpha is .*; it must be a number of at most 1"):
        sections(**alpha)


@pytest.mark.parametrize(
    "name", ["bias_correction_params", "smooth_quant_alphas", "weights_range_estimator_params", "backend_params"]
)
def test_fields_of_another_type(name: str) -> None:
    with pytest.raises(nncf.ValidationError, match=f"{name} is None; it must be of the type"):
        sections(**{name: None})
