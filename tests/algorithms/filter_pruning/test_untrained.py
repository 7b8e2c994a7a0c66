"""Filters go at once, in a run without a training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import openvino
import pytest
import torch
from torch import nn

import nncf
from nncf_core.errors import ParameterNotSupportedError, ValidationError
from nncf_core.pipeline import apply_plan, make_plan, run
from nncf_core.plan import Plan
from tests.algorithms.filter_pruning.networks import EXAMPLE, Blocked, Literal, Residual, Separable, converted, trained
from tests.algorithms.filter_pruning.test_coupling import counted
from tests.backends.digits import accuracy, images


def config(**params: Any) -> dict[str, Any]:
    return {"compression": {"algorithm": "filter_pruning", "params": {"prune_downsample_convs": True, **params}}}


def outputs(model: Any, x: np.ndarray) -> np.ndarray:
    if isinstance(model, nn.Module):
        with torch.no_grad():
            return model.eval()(torch.from_numpy(x)).numpy()
    if isinstance(model, torch.export.ExportedProgram):
        return model.module()(torch.from_numpy(x)).detach().numpy()
    if isinstance(model, onnx.ModelProto):
        onnx.checker.check_model(model, full_check=True)
        session = onnxruntime.InferenceSession(model.SerializeToString())
        return session.run(None, {session.get_inputs()[0].name: x})[0]
    return openvino.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(x)[0]


@pytest.mark.parametrize("framework", ["torch", "program", "onnx", "openvino"])
@pytest.mark.parametrize("params", [{"pruning_target": 0.25}, {"pruning_flops_target": 0.3}])
def test_frameworks_lose_the_same_filters(framework: str, params: dict[str, float]) -> None:
    dense = trained(Separable)
    options = {"backend_params": {"example_input": EXAMPLE}}
    result = run({**config(**params), **(options if framework == "torch" else {})}, converted(dense, framework))
    torch_result = run({**config(**params), **options}, dense)
    wanted = torch_result.model
    # normalization is folded in converted models, which changes the norms of filters
    if framework in ("torch", "program"):
        np.testing.assert_allclose(
            outputs(result.model, EXAMPLE.numpy()), outputs(wanted, EXAMPLE.numpy()), rtol=1e-3, atol=1e-4
        )
    x = images()[2][:2].numpy()
    assert np.isfinite(outputs(result.model, x)).all()
    note = result.report.notes[-1]
    assert "operations become" in note
    if "pruning_flops_target" in params:
        assert 0.3 <= 1 - counted(wanted) / counted(dense) < 0.36
    kinds = {entry.action for entry in result.plan.entries}
    assert "shrink" in kinds
    assert result.report.bytes_after < 0.9 * result.report.bytes_before


def test_the_file_is_smaller(tmp_path: Path) -> None:
    dense = trained(Residual)
    for framework, suffix in (("onnx", ".onnx"), ("openvino", ".xml")):
        sizes = []
        for name, section in (("dense", None), ("pruned", config(pruning_target=0.5, prune_first_conv=True))):
            path = tmp_path / f"{name}{suffix}"
            model = converted(dense, framework)
            if section is not None:
                run(section, model, output=path)
            elif framework == "onnx":
                onnx.save(model, path)
            else:
                openvino.save_model(model, path, compress_to_fp16=False)
            data = path if framework == "onnx" else path.with_suffix(".bin")
            sizes.append(data.stat().st_size)
        assert sizes[1] < 0.35 * sizes[0]
        read = onnx.load(path) if framework == "onnx" else openvino.Core().read_model(path)
        assert np.isfinite(outputs(read, EXAMPLE.numpy())).all()


def test_a_few_filters_less_do_little_harm() -> None:
    dense = trained(Residual)
    result = run({**config(pruning_target=0.03), "backend_params": {"example_input": EXAMPLE}}, dense)
    assert accuracy(result.model) > accuracy(dense) - 0.05
    assert dense.two[0].weight.shape == (24, 24, 3, 3)  # the user's model is as it was


def test_a_plan_holds_the_edits(tmp_path: Path) -> None:
    model = converted(trained(Separable), "onnx")
    plan, _ = make_plan(config(pruning_target=0.4), model)
    plan.save(tmp_path)
    applied = apply_plan(Plan.load(tmp_path), model)
    np.testing.assert_array_equal(
        outputs(applied, EXAMPLE.numpy()), outputs(run(config(pruning_target=0.4), model).model, EXAMPLE.numpy())
    )


@pytest.mark.parametrize("framework", ["onnx", "openvino", "program"])
def test_programs_state_sizes_and_follow(framework: str) -> None:
    torch.manual_seed(0)
    model = converted(Literal().eval(), framework)
    result = run(config(pruning_target=0.5, prune_first_conv=True), model)
    assert outputs(result.model, EXAMPLE.numpy()).shape == (2, 3)
    assert "Of 19 filters 8 are pruned" in result.report.notes[-1]


def test_code_that_states_sizes_keeps_channels_by_name() -> None:
    torch.manual_seed(0)
    section = {**config(pruning_target=0.5, prune_first_conv=True), "backend_params": {"example_input": EXAMPLE}}
    result = run(section, Literal().eval())
    (note,) = (note for note in result.report.notes if note.startswith("next/conv2d/0 keeps"))
    assert "does not run with fewer channels" in note
    assert result.model.conv.out_channels == 4
    assert result.model.next.out_channels == 8


def test_nothing_to_prune_is_told() -> None:
    torch.manual_seed(0)
    result = run({**config(), "backend_params": {"example_input": EXAMPLE}}, Blocked("cumsum").eval())
    assert any("takes the model's input" in note or "is not understood" in note for note in result.report.notes)


def test_a_learned_ranking_needs_a_training() -> None:
    with pytest.raises(ParameterNotSupportedError, match="load_ranking_coeffs_path"):
        run(config(interlayer_ranking_type="learned_ranking"), converted(trained(Residual), "onnx"))


def test_what_cannot_be_reached_is_refused() -> None:
    with pytest.raises(ValidationError, match="at most"):
        run(config(pruning_flops_target=0.999), converted(trained(Residual), "onnx"))


def test_quantization_follows_pruning() -> None:
    model = converted(trained(Residual), "onnx")
    x = images()[0]
    dataset = nncf.Dataset([{model.graph.input[0].name: x[i : i + 2].numpy()} for i in range(0, 64, 2)])
    sections = [config(pruning_target=0.25)["compression"], {"algorithm": "post_training_quantization"}]
    result = run({"compression": sections}, model, dataset=dataset)
    pruned = run(config(pruning_target=0.25), model).model
    found, wanted = (outputs(model, x[64:66].numpy()) for model in (result.model, pruned))
    assert any(node.op_type == "QuantizeLinear" for node in result.model.graph.node)
    assert np.abs(found - wanted).max() < 0.1 * np.abs(wanted).max()
