"""Ranges of activations and of weights against numpy, on ONNX models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import nncf
from nncf import AdvancedQuantizationParameters
from nncf.quantization.advanced_parameters import QuantizationParameters, QuantizationScheme
from nncf.quantization.range_estimator import (
    AggregatorType,
    RangeEstimatorParameters,
    RangeEstimatorParametersSet,
    StatisticsCollectorParameters,
    StatisticsType,
)
from tests.algorithms.post_training_quantization.networks import images, model, random, residual
from tests.algorithms.post_training_quantization.test_on_onnx import error, executed, outputs

SAMPLES = [x * np.float32(1 + i % 7) for i, x in enumerate(images(25))]
LOWS, HIGHS = [float(x.min()) for x in SAMPLES], [float(x.max()) for x in SAMPLES]


def constants_of(proto: onnx.ModelProto) -> Mapping[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}


def quantized(data: Sequence[Any] | nncf.Dataset = (), preset: Any = None, **advanced: Any) -> onnx.ModelProto:
    dataset = data if isinstance(data, nncf.Dataset) else nncf.Dataset(data or SAMPLES)
    parameters = AdvancedQuantizationParameters(**advanced)
    return nncf.quantize(residual(), dataset, preset=preset, advanced_parameters=parameters)


def range_of(proto: onnx.ModelProto) -> tuple[float, float]:
    """What the quantizer of the model's input represents."""
    node = next(n for n in proto.graph.node if n.op_type == "QuantizeLinear" and n.input[0] == "x")
    found = constants_of(proto)
    scale, zero_point = float(found[node.input[1]]), int(found[node.input[2]])
    return -zero_point * scale, (255 - zero_point) * scale


def both(statistic: StatisticsType, aggregator: AggregatorType, **more: float) -> RangeEstimatorParameters:
    return RangeEstimatorParameters(*(StatisticsCollectorParameters(statistic, aggregator, **more) for _ in "ab"))


def without_extremes(values: Sequence[float]) -> float:
    # with so few samples the quantiles at 1e-4 lie between the outermost and those next to them
    return float(np.mean(np.sort(values)[1:-1]))


SETS = {
    "MINMAX": (min(LOWS), max(HIGHS)),
    "MEAN_MINMAX": (np.mean(LOWS), np.mean(HIGHS)),
    "MEDIAN_MINMAX": (np.median(LOWS), np.median(HIGHS)),
    "MEAN_NO_OUTLIERS_MINMAX": (without_extremes(LOWS), without_extremes(HIGHS)),
    "MEAN_QUANTILE": tuple(np.mean([np.quantile(x, q) for x in SAMPLES]) for q in (1e-4, 1 - 1e-4)),
}


def assert_near(found: tuple[float, float], wanted: tuple[float, float]) -> None:
    # the zero point is rounded by up to half a step, and the scale grows so that no end is cut
    low, high = (abs(float(end)) for end in wanted)
    step = (low + high) / 255
    longer = max(low, high) / min(low, high) if min(low, high) > 0 else 1
    assert found == pytest.approx(wanted, abs=0.51 * (1 + longer) * step)


@pytest.mark.parametrize("name", SETS)
def test_ranges_are_those_of_the_data(name: str) -> None:
    found = range_of(quantized(activations_range_estimator_params=getattr(RangeEstimatorParametersSet, name)))
    assert_near(found, SETS[name])


def test_the_range_that_loses_least() -> None:
    data = [x.copy() for x in SAMPLES]
    data[3][0, 0, 0, 0] = 2000
    low, high = range_of(quantized(data, activations_range_estimator_params=RangeEstimatorParametersSet.HISTOGRAM))
    values = np.concatenate([x.reshape(-1) for x in data])

    def loss(low: float, high: float) -> float:
        step = (high - low) / 255
        return float(np.square(np.clip(np.rint(values / step) * step, low, high) - values).sum())

    assert high < 2000
    assert loss(low, high) < loss(min(values), max(values))
    assert loss(low, high) < 1.02 * min(loss(low * a, high * b) for a in (0.8, 1, 1.2) for b in (0.5, 0.7, 1, 1.4, 2))


def test_fields_that_are_given_replace_those_of_the_default() -> None:
    given = RangeEstimatorParameters(max=StatisticsCollectorParameters(aggregator_type=AggregatorType.MAX))
    assert_near(range_of(quantized(activations_range_estimator_params=given)), (np.mean(LOWS), max(HIGHS)))
    given = RangeEstimatorParameters(
        min=StatisticsCollectorParameters(StatisticsType.QUANTILE, quantile_outlier_prob=0.05)
    )
    wanted = np.mean([np.quantile(x, 0.05) for x in SAMPLES]), np.mean(HIGHS)
    assert_near(range_of(quantized(activations_range_estimator_params=given)), wanted)


def test_limits() -> None:
    given = RangeEstimatorParameters(
        StatisticsCollectorParameters(clipping_value=0), StatisticsCollectorParameters(clipping_value=6)
    )
    assert_near(range_of(quantized(activations_range_estimator_params=given)), (0, 6))
    given = RangeEstimatorParameters(max=StatisticsCollectorParameters(clipping_value=6))
    found = range_of(quantized(preset=nncf.QuantizationPreset.PERFORMANCE, activations_range_estimator_params=given))
    assert_near(found, (-6, 6))
    beside_zero = RangeEstimatorParameters(min=StatisticsCollectorParameters(clipping_value=3))
    with pytest.raises(nncf.ValidationError, match=r"clipping_value is 3\.0 for min and None for max; zero must stay"):
        quantized(activations_range_estimator_params=beside_zero)


def test_without_zero_points_magnitudes_count() -> None:
    largest = np.mean([np.abs(x).max() for x in SAMPLES])
    assert_near(range_of(quantized(preset=nncf.QuantizationPreset.PERFORMANCE)), (-largest * 128 / 127, largest))
    for statistic in (StatisticsType.ABS_MAX, StatisticsType.ABS_QUANTILE):
        # below zero magnitudes are the other end
        low, high = range_of(quantized(activations_range_estimator_params=both(statistic, AggregatorType.MEAN)))
        assert low == pytest.approx(-high, rel=0.02)
        assert high == pytest.approx(largest, rel=0.05)


def test_signs_can_be_forced() -> None:
    positive = [np.abs(x) for x in SAMPLES]
    largest = np.mean([x.max() for x in positive])

    def found(data: list[np.ndarray], sign: bool) -> tuple[float, float]:
        params = QuantizationParameters(mode=QuantizationScheme.SYMMETRIC, signedness_to_force=sign)
        return range_of(quantized(data, activations_quantization_params=params))

    assert_near(found(positive, True), (-largest * 128 / 127, largest))
    assert_near(found(positive, False), (0, largest))
    assert found(SAMPLES, False)[0] == 0


class Batches(list[np.ndarray]):
    batch_size = 5


@pytest.mark.parametrize("given", [None, True, False])
def test_samples_of_a_batch(given: bool | None) -> None:
    batches = Batches(np.concatenate(SAMPLES[start : start + 5]) for start in range(0, 25, 5))
    parameters = AdvancedQuantizationParameters(batchwise_statistics=given)
    model = nncf.quantize(residual(), nncf.Dataset(batches), advanced_parameters=parameters)
    whole = (np.mean([x.min() for x in batches]), np.mean([x.max() for x in batches]))
    assert_near(range_of(model), whole if given is False else SETS["MEAN_MINMAX"])
    assert parameters.batchwise_statistics is given


class TestWeights:
    weight = random(16, 8, 3, 3, seed=1)

    def found(self, half: bool = False, proto: onnx.ModelProto | None = None, **more: Any) -> tuple[np.ndarray, ...]:
        """Scale, zero points, codes."""
        if proto is None:
            fix = nncf.OverflowFix.ENABLE if half else nncf.OverflowFix.DISABLE
            proto = quantized(SAMPLES[:3], overflow_fix=fix, **more)
        constants = constants_of(proto)
        return tuple(constants[name] for name in ("w0_scale", "w0_zero_point", "w0_quantized") if name in constants)

    @pytest.mark.parametrize("half", [False, True])
    @pytest.mark.parametrize("per_channel", [None, False])
    def test_zero_points(self, half: bool, per_channel: bool | None) -> None:
        params = QuantizationParameters(mode=QuantizationScheme.ASYMMETRIC, per_channel=per_channel)
        scale, zero_point, codes = self.found(half, weights_quantization_params=params)
        axes = (1, 2, 3) if per_channel is None else (0, 1, 2, 3)
        low, high = np.minimum(self.weight.min(axis=axes), 0), np.maximum(self.weight.max(axis=axes), 0)
        steps = 127 if half else 255
        # the zero point is rounded, and no end is cut
        wanted = (high - low) / steps
        assert (scale >= 0.9999 * wanted).all()
        assert (scale <= 1.02 * wanted).all()
        assert codes.dtype == np.uint8
        assert codes.min() >= (64 if half else 0)
        assert codes.max() <= (191 if half else 255)
        spread = [array.reshape(-1, 1, 1, 1) for array in (scale, zero_point)]
        restored = (codes.astype(np.float32) - spread[1]) * spread[0]
        assert np.abs(restored - self.weight).max() <= 0.5001 * scale.max()

    def test_one_scale_for_all_channels(self) -> None:
        scale, codes = self.found(weights_quantization_params=QuantizationParameters(per_channel=False))
        assert scale == pytest.approx(np.abs(self.weight).max() / 127)
        np.testing.assert_array_equal(codes, np.rint(self.weight / scale))

    def test_all_integers(self) -> None:
        ranges = both(StatisticsType.QUANTILE, AggregatorType.MEAN, quantile_outlier_prob=0.1)
        for narrow in (None, False):
            params = QuantizationParameters(narrow_range=narrow)
            codes = self.found(weights_quantization_params=params, weights_range_estimator_params=ranges)[-1]
            assert codes.min() == (-127 if narrow is None else -128)

    @pytest.mark.parametrize("statistic", [StatisticsType.QUANTILE, StatisticsType.ABS_QUANTILE])
    def test_quantiles(self, statistic: StatisticsType) -> None:
        given = both(statistic, AggregatorType.MEAN, quantile_outlier_prob=0.05)
        scale, codes = self.found(weights_range_estimator_params=given)
        rows = self.weight.reshape(16, -1)
        if statistic is StatisticsType.QUANTILE:
            ends = np.abs(np.quantile(rows, [0.05, 0.95], axis=1)).max(axis=0)
        else:
            ends = np.quantile(np.abs(rows), 0.95, axis=1)
        np.testing.assert_allclose(scale, ends / 127, rtol=1e-5)
        assert np.abs(codes.astype(int)).max() == 127

    @pytest.mark.parametrize("mode", QuantizationScheme)
    def test_least_error(self, mode: QuantizationScheme) -> None:
        weight = np.random.default_rng(0).standard_t(3, (16, 8, 20, 20)).astype(np.float32)
        proto = model([helper.make_node("Conv", ["x", "w0"], ["y"], "conv")], {"w0": weight}, ["n", 8, 20, 20])
        data = nncf.Dataset([np.ones((1, 8, 20, 20), np.float32)])

        def loss(ranges: RangeEstimatorParameters) -> np.ndarray:
            advanced = AdvancedQuantizationParameters(
                weights_quantization_params=QuantizationParameters(mode=mode),
                weights_range_estimator_params=ranges,
                quantize_outputs=True,
            )
            scale, *zero_point, codes = self.found(proto=nncf.quantize(proto, data, advanced_parameters=advanced))
            shift = zero_point[0].reshape(-1, 1, 1, 1) if zero_point else 0
            restored = (codes.astype(np.float32) - shift) * scale.reshape(-1, 1, 1, 1)
            return np.square(restored - weight).sum(axis=(1, 2, 3))

        least, whole = loss(RangeEstimatorParametersSet.HISTOGRAM), loss(RangeEstimatorParametersSet.MINMAX)
        assert (least <= 1.0001 * whole).all()
        assert least.sum() < 0.995 * whole.sum()

    def test_onnxruntime_computes_with_integers(self, tmp_path: Any) -> None:
        params = QuantizationParameters(mode=QuantizationScheme.ASYMMETRIC)
        proto = quantized(images(20), weights_quantization_params=params)
        assert executed(proto, tmp_path)["QLinearConv"] == 3
        test = images(20, seed=1)
        assert error(outputs(proto, test), outputs(residual(), test)) < 0.02


RAW_MAX = StatisticsCollectorParameters(StatisticsType.RAW, AggregatorType.MAX)
HISTOGRAM = StatisticsCollectorParameters(StatisticsType.RAW, AggregatorType.HISTOGRAM)


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"activations_range_estimator_params": RangeEstimatorParameters(HISTOGRAM, RAW_MAX)}, "gives both ends"),
        (
            {"weights_range_estimator_params": both(StatisticsType.MEAN, AggregatorType.HISTOGRAM)},
            "weights_range_estimator_params: a histogram",
        ),
        ({"activations_quantization_params": QuantizationParameters(per_channel=True)}, "per_channel True"),
        ({"activations_quantization_params": QuantizationParameters(narrow_range=True)}, "narrow_range True"),
        ({"activations_quantization_params": QuantizationParameters(num_bits=16)}, "num_bits 16"),
        ({"weights_quantization_params": QuantizationParameters(num_bits=16)}, "num_bits 16"),
        (
            {
                "activations_quantization_params": QuantizationParameters(num_bits=4),
                "activations_range_estimator_params": RangeEstimatorParametersSet.HISTOGRAM,
            },
            "HISTOGRAM",
        ),
        ({"weights_quantization_params": QuantizationParameters(signedness_to_force=False)}, "signedness_to_force"),
        (
            {
                "weights_quantization_params": QuantizationParameters(
                    mode=QuantizationScheme.ASYMMETRIC, narrow_range=True
                )
            },
            "narrow_range True",
        ),
    ],
)
def test_what_is_not_supported_is_said(given: dict[str, Any], match: str) -> None:
    with pytest.raises(nncf.ParameterNotSupportedError, match=match):
        quantized(SAMPLES[:2], **given)


def test_a_share_of_outliers_that_leaves_nothing() -> None:
    given = both(StatisticsType.QUANTILE, AggregatorType.MEAN, quantile_outlier_prob=0.5)
    with pytest.raises(nncf.ValidationError, match=r"max.quantile_outlier_prob|min.quantile_outlier_prob is 0.5"):
        quantized(SAMPLES[:2], activations_range_estimator_params=given)


def test_ranges_over_every_pair() -> None:
    x = helper.make_node("Conv", ["x", "w"], ["y"], "conv")
    proto = model([x], {"w": random(64, 8, 3, 3)}, ["n", 8, 16, 16])
    for statistic in StatisticsType:
        for aggregator in AggregatorType:
            if aggregator is AggregatorType.HISTOGRAM and statistic is not StatisticsType.RAW:
                continue
            given = both(statistic, aggregator)
            advanced = AdvancedQuantizationParameters(
                activations_range_estimator_params=given, weights_range_estimator_params=given, quantize_outputs=True
            )
            result = nncf.quantize(proto, nncf.Dataset(SAMPLES[:3]), advanced_parameters=advanced)
            assert range_of(result)[1] >= 0, (statistic, aggregator)
