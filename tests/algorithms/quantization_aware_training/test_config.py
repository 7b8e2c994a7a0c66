"""What a section may say, what it comes to, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import nncf
from nncf import NNCFConfig
from nncf_core.pipeline import run
from nncf_core.structuring import structure
from nncf_quantization_aware_training.algorithm import QuantizationAwareTraining
from nncf_quantization_aware_training.parameters import StagedParams, TrainingSettings
from nncf_quantization_aware_training.scheduler import StagedQuantizationScheduler
from nncf_quantization_aware_training.translation import translated

SHAPE = (2, 8, 6, 6)


def random(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def network() -> onnx.ModelProto:
    """Three layers one behind the other."""
    weights = [numpy_helper.from_array(random(8, 8, 3, 3, seed=i), f"w{i}") for i in range(3)]
    nodes = [
        helper.make_node("Conv", [f"x{i}", f"w{i}"], [f"x{i + 1}"], f"conv{i}", pads=[1, 1, 1, 1]) for i in range(3)
    ]
    x, y = (helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [None, *SHAPE[1:]]) for name in ("x0", "x3"))
    proto = helper.make_model(
        helper.make_graph(nodes, "g", [x], [y], weights), opset_imports=[helper.make_opsetid("", 18)]
    )
    proto.ir_version = 10
    return proto


def settled(**section: Any) -> dict[str, Any]:
    return translated(structure(section, TrainingSettings, "compression.quantization"))


def quantized(samples: int = 6, **section: Any) -> dict[str, np.ndarray]:
    """The initializers of the network, quantized by a config."""
    given = {"algorithm": "quantization", "quantize_outputs": True, **section}
    data = nncf.Dataset([random(1, *SHAPE[1:], seed=10 + i) for i in range(samples)])
    config = NNCFConfig.from_dict({"target_device": "NPU", "compression": given})
    result = run(config, network(), dataset=data).model
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in result.graph.initializer}


def bits_of(found: dict[str, np.ndarray]) -> list[int]:
    """Bits that each weight's integers need."""
    names = sorted(name for name, array in found.items() if array.dtype in (np.int8, np.uint8) and array.ndim == 4)
    return [max(int(found[n].max()), -int(found[n].astype(int).min()) - 1, 0).bit_length() + 1 for n in names]


def test_defaults() -> None:
    section = settled()
    assert section["preset"] == "performance"
    assert section["subset_size"] == 256
    assert section["overrides"] == []
    assert section["advanced_parameters"] == {
        "overflow_fix": "enable",
        "quantize_outputs": False,
        "disable_bias_correction": False,
        "activations_quantization_params": {"num_bits": 8},
        "weights_quantization_params": {"num_bits": 8},
    }
    assert json.loads(json.dumps(section)) == section


@pytest.mark.parametrize("name", ["quantization", "experimental_quantization"])
def test_both_names(name: str) -> None:
    config = NNCFConfig.from_dict({"compression": {"algorithm": name, "weights": {"bits": 4}}, "target_device": "NPU"})
    data = nncf.Dataset([random(*SHAPE)])
    result = run(config, network(), dataset=data)
    assert len(result.plan.entries) > 3
    assert [p["algorithm"] for p in QuantizationAwareTraining(name).delegates(TrainingSettings())] == [
        "post_training_quantization"
    ]


@pytest.mark.parametrize("bits", range(2, 9))
def test_bits_of_weights(bits: int) -> None:
    found = quantized(weights={"bits": bits}, overflow_fix="enable" if bits == 7 else "disable")
    assert bits_of(found) == [bits] * 3


def test_bits_by_scope() -> None:
    precision = {"type": "manual", "bitwidth_per_scope": [[4, "conv0"], [2, "{re}.*2"]]}
    assert bits_of(quantized(initializer={"precision": precision})) == [4, 8, 2]
    overrides = {"weights": {"{re}conv[01]": {"bits": 5}, "conv1": {"mode": "asymmetric", "per_channel": False}}}
    found = quantized(scope_overrides=overrides)
    assert [found[f"w{i}_quantized"].dtype for i in range(3)] == [np.int8, np.uint8, np.int8]
    assert found["w1_quantized"].max() == 31
    assert [found[f"w{i}_scale"].size for i in range(3)] == [8, 1, 8]


def test_scopes_of_groups() -> None:
    found = quantized(weights={"ignored_scopes": ["conv1"]})
    assert found["w1"].dtype == np.float32
    assert "w0_quantized" in found
    found = quantized(weights={"target_scopes": "{re}conv0"})
    assert [f"w{i}" in found for i in range(3)] == [False, True, True]
    with pytest.raises(nncf.ValidationError, match=r"An override of quantizers names.*'nothing'"):
        quantized(weights={"ignored_scopes": ["nothing"]})
    quantized(weights={"ignored_scopes": ["nothing"], "validate_scopes": False})


def test_scopes_that_match_nothing() -> None:
    off = r"Correct it, or set \"validate_scopes\": false"
    manual = {"precision": {"type": "manual", "bitwidth_per_scope": [[4, "nothing"]]}}
    settings: dict[str, Any]
    for settings in (
        {"weights": {"target_scopes": ["nothing"]}},
        {"scope_overrides": {"weights": {"nothing": {"bits": 4}}}},
        {"initializer": manual},
    ):
        with pytest.raises(nncf.ValidationError, match=rf"'nothing'.*{off} in \"(weights|activations)\""):
            quantized(**settings)
        for group in ("weights", "activations"):
            settings[group] = {**settings.get(group, {}), "validate_scopes": False}
        quantized(**settings)
    for key in ("ignored_scopes", "target_scopes"):
        with pytest.raises(nncf.ValidationError, match=rf"config's \"{key}\" names .*'nothing'.*{off}\.$"):
            quantized(**{key: ["nothing"]})


def test_inputs_stay_as_they_are() -> None:
    for given in (True, False):
        found = quantized(quantize_inputs=given)
        assert any(name.startswith("conv0/input") for name in found) is given
        assert bits_of(found) == [8] * 3


def range_of(found: dict[str, np.ndarray]) -> tuple[float, float]:
    """Of what enters the first layer."""
    (stem,) = {
        name.removesuffix("_scale") for name in found if name.startswith("conv0/input") and name.endswith("_scale")
    }
    scale, zero_point = float(found[f"{stem}_scale"]), int(found[f"{stem}_zero_point"])
    return -zero_point * scale, (255 - zero_point) * scale


@pytest.mark.parametrize(
    ("kind", "wanted"),
    [
        ("min_max", lambda x: (x.min(), x.max())),
        ("mean_min_max", lambda x: (x.min((1, 2, 3, 4)).mean(), x.max((1, 2, 3, 4)).mean())),
        ("mixed_min_max", lambda x: (x.min((1, 2, 3, 4)).mean(), x.max((1, 2, 3, 4)).mean())),
        ("percentile", lambda x: tuple(np.percentile(x, [2, 95]))),
        ("mean_percentile", lambda x: tuple(np.percentile(x, [2, 95], axis=(1, 2, 3, 4)).mean(1))),
    ],
)
@pytest.mark.parametrize("listed", [False, True])
def test_ranges(kind: str, wanted: Any, listed: bool) -> None:
    given: Any = {"type": kind, "params": {"min_percentile": 2, "max_percentile": 95}, "num_init_samples": 6}
    if listed:
        given = [
            {**given, "target_quantizer_group": "activations"},
            {"type": "min_max", "target_quantizer_group": "weights"},
        ]
    found = quantized(preset="mixed", initializer={"range": given})
    data = np.stack([random(1, *SHAPE[1:], seed=10 + i) for i in range(6)])
    np.testing.assert_allclose(range_of(found), wanted(data), rtol=0.02)


@pytest.mark.parametrize(
    ("section", "match"),
    [
        (
            {"initializer": {"precision": {"type": "autoq"}}},
            r"initializer.precision.*'autoq' is not supported: it trains",
        ),
        ({"initializer": {"range": {"type": "threesigma"}}}, "'threesigma' is not supported.*0.135"),
        ({"activations": {"per_channel": True}}, "activations.per_channel is not supported"),
        ({"scope_overrides": {"activations": {"a": {"per_channel": True}}}}, r"activations\.a\.per_channel"),
        ({"weights": {"logarithm_scale": True}}, "logarithm_scale is not supported: scales are trained"),
        ({"activations": {"unified_scale_ops": [["a", "b"]]}}, "unified_scale_ops is not supported.*target_device"),
        ({"weights": {"signed": False}}, "weights.signed false is not supported"),
        ({"weights": {"bits": 9}}, r"weights.bits: 9 is not allowed; it must be at most 8"),
        ({"weights": {"bits": 1}}, r"weights.bits: 1 is not allowed; it must be at least 2"),
        ({"preset": "best"}, r'preset: "best" is not allowed; allowed: "performance", "mixed"'),
        ({"initializer": {"rang": {}}}, "did you mean 'range'"),
        ({"initializer": {"range": {"num_init_samples": 0}}}, "num_init_samples"),
        (
            {"initializer": {"range": {"type": "percentile", "params": {"max_percentile": 40}}}},
            "max_percentile leaves out",
        ),
    ],
)
def test_refused_before_any_work(section: dict[str, Any], match: str) -> None:
    config = {"compression": {"algorithm": "quantization", **section}}
    with pytest.raises((nncf.ValidationError, nncf.ParameterNotSupportedError), match=match):
        run(config, "there is no such model.onnx")


def test_two_that_quantize() -> None:
    sections = [{"algorithm": "quantization"}, {"algorithm": "post_training_quantization"}]
    with pytest.raises(nncf.ValidationError, match="'quantization' and 'post_training_quantization' cannot be"):
        NNCFConfig.from_dict({"compression": sections})


def test_learning_rate_and_weight_decay() -> None:
    told = list[tuple[bool, bool]]()
    params = StagedParams(
        activations_quant_start_epoch=0,
        weights_quant_start_epoch=1,
        lr_poly_drop_start_epoch=2,
        lr_poly_drop_duration_epochs=4,
        disable_wd_start_epoch=3,
        base_lr=0.1,
        base_wd=0.01,
    )
    scheduler = StagedQuantizationScheduler(params, lambda weights, active: told.append((weights, active)))
    rates, decays = [], []
    for _ in range(8):
        scheduler.epoch_step()
        rates.append(scheduler.learning_rate)
        decays.append(scheduler.weight_decay)
    np.testing.assert_allclose(rates, [0.1 * (1 - t) ** 0.9 for t in (0, 0, 0, 0.25, 0.5, 0.75, 1, 1)])
    assert decays == [0.01] * 3 + [0.0] * 5
    assert told[0] == (True, False)
    assert told[-2:] == [(True, True), (False, True)]
    other = StagedQuantizationScheduler(params, lambda *_: None)
    other.load_state(json.loads(json.dumps(scheduler.get_state())))
    assert (other.current_epoch, other.learning_rate) == (7, 0.0)


def test_samples_of_batches_count() -> None:
    """Four samples are two batches of two; what lies in the third is not seen."""

    class Loader:
        batch_size = 2

        def __iter__(self) -> Iterator[np.ndarray]:
            return iter([random(*SHAPE, seed=10 + i) * 10.0 ** (i > 1) for i in range(3)])

    config = {
        "target_device": "NPU",
        "compression": {
            "algorithm": "quantization",
            "preset": "mixed",
            "quantize_outputs": True,
            "initializer": {"range": {"type": "min_max", "num_init_samples": 4}},
        },
    }
    result = run(config, network(), dataset=nncf.Dataset(Loader())).model
    found = {tensor.name: numpy_helper.to_array(tensor) for tensor in result.graph.initializer}
    seen = np.stack([random(*SHAPE, seed=10 + i) for i in range(2)])
    np.testing.assert_allclose(range_of(found), (seen.min(), seen.max()), rtol=0.02)
