"""Combinations of arguments that have a meaning, and those that do not."""

import numpy as np
import pytest

import nncf
from nncf_core.advanced import AdvancedCompressionParameters
from nncf_weight_compression.parameters import SCHEMA, WeightCompressionParameters, resolve


def settings(**params: object):
    return resolve(WeightCompressionParameters(**params))


def test_defaults() -> None:
    found = settings()
    assert (found.primary.name, found.group_size, found.ratio, found.uniform) == ("int8_asym", -1, 1.0, True)
    found = settings(mode=nncf.CompressWeightsMode.INT4_SYM)
    assert (found.primary.name, found.group_size, found.ratio, found.uniform) == ("int4_sym", 128, 1.0, False)
    assert found.backup.name == "int8_asym"


def test_ratio_zero_means_zero() -> None:
    assert settings(mode=nncf.CompressWeightsMode.INT4_SYM, ratio=0.0).ratio == 0.0


@pytest.mark.parametrize(
    ("params", "error"),
    [
        ({"ratio": 0.5}, nncf.ParameterNotSupportedError),
        ({"group_size": 64}, nncf.ParameterNotSupportedError),
        ({"all_layers": True}, nncf.ParameterNotSupportedError),
        ({"backup_mode": nncf.BackupMode.NONE}, nncf.ParameterNotSupportedError),
        ({"mode": nncf.CompressWeightsMode.INT4_SYM, "ratio": 1.5}, nncf.ValidationError),
        ({"mode": nncf.CompressWeightsMode.INT4_SYM, "ratio": -0.1}, nncf.ValidationError),
        ({"mode": nncf.CompressWeightsMode.INT4_SYM, "group_size": 0}, nncf.ValidationError),
        ({"mode": nncf.CompressWeightsMode.INT4_SYM, "group_size": -2}, nncf.ValidationError),
        ({"mode": nncf.CompressWeightsMode.MXFP4, "group_size": 64}, nncf.ValidationError),
        ({"mode": nncf.CompressWeightsMode.NVFP4, "group_size": 32}, nncf.ValidationError),
        ({"mode": nncf.CompressWeightsMode.CODEBOOK}, nncf.ValidationError),
        ({"sensitivity_metric": nncf.SensitivityMetric.MAX_ACTIVATION_VARIANCE}, nncf.ParameterNotSupportedError),
        (
            {"advanced_parameters": AdvancedCompressionParameters(statistics_path="cache")},
            nncf.ParameterNotSupportedError,
        ),
        (
            {
                "mode": nncf.CompressWeightsMode.MXFP4,
                "advanced_parameters": AdvancedCompressionParameters(
                    group_size_fallback_mode=nncf.GroupSizeFallbackMode.ADJUST
                ),
            },
            nncf.ValidationError,
        ),
    ],
)
def test_refused(params: dict[str, object], error: type[Exception]) -> None:
    with pytest.raises(error) as caught:
        settings(**params)
    # what it is of, and what to do
    said = str(caught.value)
    given = [name for name in params if name not in ("mode", "advanced_parameters")] or [
        "codebook",
        "statistics_path",
        "group",
    ]
    assert any(name in said for name in given), said
    assert any(word in said for word in ("leave", "must", "give", "set")), said


def test_int8_accepts_the_neutral_values() -> None:
    assert settings(ratio=1.0, group_size=-1).group_size == -1
    assert settings(ratio=0, group_size=0).group_size == -1


def test_the_default_metric_depends_on_data() -> None:
    params = WeightCompressionParameters(mode=nncf.CompressWeightsMode.INT4_SYM, ratio=0.5)
    assert resolve(params).metric is nncf.SensitivityMetric.WEIGHT_QUANTIZATION_ERROR
    assert resolve(params, has_data=True).metric is nncf.SensitivityMetric.MAX_ACTIVATION_VARIANCE
    own = settings(sensitivity_metric=nncf.SensitivityMetric.HESSIAN_INPUT_ACTIVATION, mode="int4_sym", ratio=0.5)
    assert own.metric is nncf.SensitivityMetric.HESSIAN_INPUT_ACTIVATION
    assert own.mixed


def test_statistics_in_files_are_for_modes_that_mix() -> None:
    advanced = AdvancedCompressionParameters(statistics_path="cache")
    assert settings(mode=nncf.CompressWeightsMode.INT4_SYM, advanced_parameters=advanced).ratio == 1


def test_adaptive_codebooks() -> None:
    found = settings(mode=nncf.CompressWeightsMode.ADAPTIVE_CODEBOOK)
    assert (found.primary.name, found.group_size, found.backup.name) == ("codebook", -1, "int8_asym")
    assert (found.adaptive.value_type, found.adaptive.count, found.adaptive.across_blocks) == ("f8e4m3", 16, False)


def test_a_codebook_is_taken_from_the_advanced_parameters() -> None:
    table = [-1.0, 0.0, 0.5, 1.0]
    found = settings(
        mode=nncf.CompressWeightsMode.CODEBOOK,
        advanced_parameters=AdvancedCompressionParameters(codebook=table),
    )
    np.testing.assert_array_equal(found.codebook, np.array(table, np.float32))


@pytest.mark.parametrize("table", [[3, 2, 1], [1, float("inf")], [1], [[1, 2]]])
def test_a_codebook_that_is_no_table(table: list[float]) -> None:
    with pytest.raises(nncf.ValidationError, match=r"^advanced_parameters\.codebook: "):
        settings(
            mode=nncf.CompressWeightsMode.CODEBOOK, advanced_parameters=AdvancedCompressionParameters(codebook=table)
        )


def test_a_codebook_that_is_no_list_of_numbers() -> None:
    with pytest.raises(nncf.ValidationError, match="list of numbers"):
        settings(
            mode=nncf.CompressWeightsMode.CODEBOOK, advanced_parameters=AdvancedCompressionParameters(codebook="abc")
        )


def test_every_mode_is_in_the_schema() -> None:
    assert SCHEMA["properties"]["mode"]["enum"] == [str(mode) for mode in nncf.CompressWeightsMode]
