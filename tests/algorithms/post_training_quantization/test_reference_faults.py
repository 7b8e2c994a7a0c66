"""What NNCF 3.4.0 does wrong in ``quantize``, found by running and reading it, does not happen here."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper
from torch import nn

import nncf
from nncf import AdvancedBiasCorrectionParameters, AdvancedQuantizationParameters, AdvancedSmoothQuantParameters
from nncf_core.errors import UnsupportedVersionError
from tests.algorithms.post_training_quantization.frameworks import FRAMEWORKS, network, outputs
from tests.algorithms.post_training_quantization.networks import images, model, random, residual
from tests.processors import has_vnni

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:torch.*")
frameworks = pytest.mark.parametrize("framework", FRAMEWORKS)
correction = pytest.mark.parametrize("fast", [True, False], ids=["fast", "accurate"])


def everything() -> AdvancedQuantizationParameters:
    """All that edits a network before and after it is quantized."""
    return AdvancedQuantizationParameters(
        disable_channel_alignment=False,
        smooth_quant_alphas=AdvancedSmoothQuantParameters(convolution=0.5, matmul=0.5),
        bias_correction_params=AdvancedBiasCorrectionParameters(apply_for_all_nodes=True, threshold=10.0),
    )


def sequential() -> nn.Sequential:
    """A Sequential at the top, which quantizers once made iterate over themselves; one bias holds a zero."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = nn.Sequential(
            nn.Conv2d(8, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 48, 1, bias=False), nn.SiLU(),
            nn.Conv2d(48, 32, 3, groups=2), nn.Flatten(2), nn.Linear(196, 5),
        ).eval()  # fmt: skip
        with torch.no_grad():
            layers[5].bias[2] = 0
    return layers


def error(found: np.ndarray, wanted: np.ndarray) -> float:
    return float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))


@frameworks
@correction
def test_all_edits_go_together(framework: str, fast: bool) -> None:
    # NotImplementedError for a Sequential, InternalError for apply_for_all_nodes, names given twice for both in ONNX
    samples = images(10)
    given, items = network(sequential(), samples, framework)
    advanced = everything()
    before = deepcopy(advanced)
    made = nncf.quantize(given, nncf.Dataset(items), fast_bias_correction=fast, advanced_parameters=advanced)
    assert advanced == before  # batchwise_statistics and more were written into it
    test = images(6, seed=1)
    assert error(outputs(made, test), outputs(given, test)) < 0.05
    if isinstance(made, onnx.ModelProto):
        onnx.checker.check_model(made, full_check=True)
        names = [name for node in made.graph.node for name in node.output]
        assert len(names) == len(set(names))


@frameworks
def test_every_form_computes_the_same_and_is_exported(framework: str) -> None:
    # DQ and IN_PLACE failed, and torch.export of what quantize gave
    samples = images(6)
    given, items = network(sequential(), samples, framework)
    made = nncf.quantize(given, nncf.Dataset(items), advanced_parameters=everything())
    wanted = outputs(made, samples)
    for form in nncf.StripFormat:
        # onnxruntime rounds in other places once weights are floating-point numbers, and without VNNI in others again
        near = (0.02 if has_vnni() else 0.06) if framework == "onnx" else 1e-5
        assert error(outputs(nncf.strip(made, strip_format=form), samples), wanted) < near
    if framework == "torch":
        program = torch.export.export(made, (items[0],))
        assert error(outputs(program, samples), wanted) < 1e-6


@correction
def test_half_precision_is_valid_onnx(fast: bool) -> None:
    # scales of float32 made models that onnx.checker and onnxruntime refuse
    nodes = [
        helper.make_node("Conv", ["x", "w0", "b0"], ["c0"], "first"),
        helper.make_node("Relu", ["c0"], ["r0"], "relu"),
        helper.make_node("Conv", ["r0", "w1", "b1"], ["c1"], "second"),
        helper.make_node("GlobalAveragePool", ["c1"], ["y"], "average"),
    ]
    values = {"w0": random(16, 8, 3, 3), "b0": np.zeros(16, np.float32), "w1": random(48, 16, 1, 1), "b1": random(48)}
    proto = model(nodes, values, ["n", 8, 16, 16], "float16")
    samples = [x.astype(np.float16) for x in images(6)]
    made = nncf.quantize(proto, nncf.Dataset(samples), fast_bias_correction=fast)
    onnx.checker.check_model(made, full_check=True)
    assert "w0_quantized" in {tensor.name for tensor in made.graph.initializer}
    assert error(outputs(made, samples), outputs(proto, samples)) < 0.05


def test_a_generator_is_read_once_and_serves_every_pass() -> None:
    # the first pass consumed it; smoothing, means, ranges and correction are four
    samples = images(8)
    read: list[int] = []

    def once() -> Iterator[np.ndarray]:
        for index, sample in enumerate(samples):
            read.append(index)
            yield sample

    arguments: dict[str, Any] = {"fast_bias_correction": False, "advanced_parameters": everything()}
    made = nncf.quantize(residual(), nncf.Dataset(once()), **arguments)
    assert read == list(range(len(samples)))
    wanted = nncf.quantize(residual(), nncf.Dataset(samples), **arguments)
    assert made.SerializeToString(deterministic=True) == wanted.SerializeToString(deterministic=True)


@correction
def test_parameters_hold_for_an_old_opset(fast: bool) -> None:
    # they were overwritten with a warning: one scale for all channels of a weight
    proto, samples = residual(), images(4)
    next(node for node in proto.graph.node if node.op_type == "HardSwish").op_type = "Sigmoid"
    old = deepcopy(proto)
    old.opset_import[0].version = 12
    made, wanted = (nncf.quantize(p, nncf.Dataset(samples), fast_bias_correction=fast) for p in (old, proto))
    assert made.opset_import[0].version == 13
    found, expected = ({t.name: numpy_helper.to_array(t) for t in p.graph.initializer} for p in (made, wanted))
    for name in ("w0_scale", "w0_quantized", "b0", "b3"):
        np.testing.assert_array_equal(found[name].ravel(), expected[name].ravel())
    assert found["w0_scale"].size == 16
    assert error(outputs(made, samples), outputs(wanted, samples)) < 1e-6


def test_what_cannot_be_converted_is_one_error() -> None:
    proto = residual()  # HardSwish came with opset 14
    proto.opset_import[0].version = 12
    with pytest.raises(UnsupportedVersionError, match=r"opset 12; 13 .*HardSwish.* Export the model with opset 13"):
        nncf.quantize(proto, nncf.Dataset(images(2)))


def test_overlapping_subgraphs_take_no_time() -> None:
    # all simple paths were enumerated: 2 to the power of 60 here
    nodes, tensor = [], "x"
    for index in range(60):
        sides = [f"{index}/{side}" for side in "ab"]
        nodes += [helper.make_node("Relu", [tensor], [side], side) for side in sides]
        tensor = f"{index}/sum"
        nodes.append(helper.make_node("Add", sides, [tensor], tensor))
    nodes.append(helper.make_node("Conv", [tensor, "w"], ["y"], "conv"))
    proto = model(nodes, {"w": random(64, 8, 3, 3)}, ["n", 8, 16, 16])
    overlapping = [nncf.Subgraph(inputs=[f"{i}/a", f"{i}/b"], outputs=["conv"]) for i in range(3)]
    advanced = AdvancedQuantizationParameters(quantize_outputs=True)  # without which nothing is, whatever is ignored
    made, ignoring = (
        nncf.quantize(proto, nncf.Dataset(images(2)), ignored_scope=scope, advanced_parameters=advanced)
        for scope in (None, nncf.IgnoredScope(subgraphs=overlapping))
    )
    assert "w_quantized" in {tensor.name for tensor in made.graph.initializer}
    assert "w" in {tensor.name for tensor in ignoring.graph.initializer}
