"""Magnitude sparsity of networks that read handwritten digits, in a training and at once."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import openvino
import pytest
import torch
from onnx import numpy_helper
from torch import nn

import nncf
import nncf.torch
from nncf_core.errors import UnsupportedDatasetError, ValidationError
from nncf_core.pipeline import run
from nncf_core.training.control import CompressionStage
from nncf_core.training.statistics import MagnitudeSparsityStatistics
from tests.backends.digits import accuracy, converted, convolutions, images, train
from tests.backends.trained_digits import config, fit, optimizer_of, zeros

SECTION: dict[str, Any] = {
    "algorithm": "magnitude_sparsity",
    "params": {"sparsity_target": 0.7, "sparsity_target_epoch": 4, "sparsity_freeze_epoch": 5},
}


def weights_in(model: onnx.ModelProto) -> list[np.ndarray]:
    arrays = [numpy_helper.to_array(each) for each in model.graph.initializer]
    return [array for array in arrays if array.ndim > 1]


def constants_in(model: openvino.Model) -> list[np.ndarray]:
    found = [op.data for op in model.get_ops() if op.get_type_name() == "Constant"]
    return [array for array in found if array.size > 64 and array.dtype.kind == "f"]


def test_sparsity_asked_for_is_in_the_exported_files_and_accuracy_holds(tmp_path: Path) -> None:
    base = convolutions()
    before = {name: tensor.clone() for name, tensor in base.state_dict().items()}
    controller, model = nncf.torch.create_compressed_model(base, config(SECTION))
    assert controller.compression_stage() == CompressionStage.UNCOMPRESSED
    levels: list[float] = []
    fit(controller, model, optimizer_of(model), range(6), lambda _: levels.append(controller.compression_rate))
    assert controller.compression_stage() == CompressionStage.FULLY_COMPRESSED
    # polynomial: 0.7 · (1 - (1 - e / 4)^0.9)
    wanted = [0.7 * (1 - (1 - min(e, 4) / 4) ** 0.9) for e in range(6)]
    np.testing.assert_allclose(levels, wanted, atol=2e-4)
    assert accuracy(model) > accuracy(base) - 0.02
    controller.export_model(tmp_path / "sparse.onnx")
    assert zeros(weights_in(onnx.load(tmp_path / "sparse.onnx"))) == pytest.approx(0.7, abs=1e-3)
    _, _, x, _ = images()
    made = converted(controller.strip(), x[:1], "openvino")
    assert zeros(constants_in(made)) == pytest.approx(0.7, abs=1e-3)
    # as it is, too
    assert zeros(constants_in(converted(model, x[:1], "openvino"))) == pytest.approx(0.7, abs=1e-3)
    statistics = controller.statistics().magnitude_sparsity
    assert isinstance(statistics, MagnitudeSparsityStatistics)
    assert statistics.model_statistics.sparsity_level == pytest.approx(0.7, abs=1e-3)
    assert "hidden.weight" in controller.statistics().to_str()
    assert all(torch.equal(tensor, before[name]) for name, tensor in base.state_dict().items())


def test_frozen_masks_stay() -> None:
    controller, model = nncf.torch.create_compressed_model(convolutions(), config(SECTION))
    optimizer = optimizer_of(model)
    fit(controller, model, optimizer, range(5))
    before = model.first.weight_mask.clone()
    fit(controller, model, optimizer, range(5, 7))
    assert torch.equal(model.first.weight_mask, before)


@pytest.mark.parametrize("importance", ["abs", "normed_abs"])
@pytest.mark.parametrize("mode", ["local", "global"])
def test_the_least_important_elements_become_zero(importance: str, mode: str) -> None:
    section = {
        "algorithm": "magnitude_sparsity",
        "sparsity_init": 0.6,
        "params": {"sparsity_target": 0.6, "weight_importance": importance, "sparsity_level_setting_mode": mode},
        "ignored_scopes": ["{re}stem"],
    }
    base = convolutions()
    controller, model = nncf.torch.create_compressed_model(base, config(section))
    weights = {
        name: p.detach().numpy() for name, p in base.named_parameters() if p.dim() > 1 and not name.startswith("stem")
    }
    measured = {
        name: np.abs(w) / (np.linalg.norm(w) if importance == "normed_abs" else 1.0) for name, w in weights.items()
    }
    everything = np.sort(np.concatenate([m.reshape(-1) for m in measured.values()]))
    for name, importances in measured.items():
        numbers = everything if mode == "global" else np.sort(importances.reshape(-1))
        kept = importances > numbers[round(0.6 * numbers.size) - 1]
        owner, _, attribute = name.rpartition(".")
        np.testing.assert_array_equal(getattr(model.get_submodule(owner), f"{attribute}_mask").numpy(), kept)
    assert not hasattr(model.stem, "weight_mask")
    assert controller.compression_rate == pytest.approx(0.6, abs=2e-3)


def test_zeros_at_once_on_every_backend(tmp_path: Path) -> None:
    base, (_, _, x, _) = convolutions(), images()
    section = {"compression": {**SECTION, "params": {"sparsity_target": 0.4}}}
    sparse = run({**section, "backend_params": {"example_input": x[:1]}}, base).model
    assert accuracy(sparse) > accuracy(base) - 0.02
    onnx.save(converted(base, x[:1], "onnx"), tmp_path / "dense.onnx")
    run(section, tmp_path / "dense.onnx", output=tmp_path / "sparse.onnx")
    assert zeros(weights_in(onnx.load(tmp_path / "sparse.onnx"))) == pytest.approx(0.4, abs=1e-3)
    openvino.save_model(converted(base, x[:1], "openvino"), tmp_path / "dense.xml", compress_to_fp16=False)
    run(section, tmp_path / "dense.xml", output=tmp_path / "sparse.xml")
    read = openvino.Core().read_model(tmp_path / "sparse.xml")
    assert zeros(constants_in(read)) == pytest.approx(0.4, abs=1e-3)
    # the same elements everywhere
    wanted = {name: p for name, p in sparse.named_parameters() if p.dim() > 1}
    found = {each.name: numpy_helper.to_array(each) for each in onnx.load(tmp_path / "sparse.onnx").graph.initializer}
    for name, parameter in wanted.items():
        np.testing.assert_array_equal(found[name], parameter.detach().numpy())


def test_adaptation_of_normalization_needs_data() -> None:
    class Normalized(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.norm = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.norm(self.layer(x))

    section = {
        "algorithm": "magnitude_sparsity",
        "sparsity_init": 0.4,
        "initializer": {"batchnorm_adaptation": {"num_bn_adaptation_samples": 128}},
    }
    model = Normalized()
    _, made = nncf.torch.create_compressed_model(model, config(section))
    x, _, _, _ = images()
    expected = Normalized()
    expected.load_state_dict(model.state_dict())
    with torch.no_grad():
        expected.layer.weight *= made.layer.weight_mask
        expected.norm.train()
        for batch in (x[:64], x[64:128]):
            expected(batch)
    torch.testing.assert_close(made.norm.running_mean, expected.norm.running_mean)
    torch.testing.assert_close(made.norm.running_var, expected.norm.running_var)
    assert made.training is model.training
    bare = nncf.NNCFConfig.from_dict({"input_info": {"sample_size": [1, 1, 8, 8]}, "compression": section})
    with pytest.raises(UnsupportedDatasetError, match="register_default_init_args"):
        nncf.torch.create_compressed_model(model, bare)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"schedule": "adaptive"}, "polynomial"),
        ({"schedule": "multistep", "multistep_sparsity_levels": [0.1]}, "one more"),
        ({"sparsity_target": 1.0}, "less than"),
        ({"weight_importance": "l3"}, "normed_abs"),
    ],
)
def test_what_is_no_schedule_is_refused(params: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        nncf.torch.create_compressed_model(
            convolutions(), config({"algorithm": "magnitude_sparsity", "params": params})
        )


def test_a_training_that_was_stopped_goes_on_with_the_same_losses(tmp_path: Path) -> None:
    """In a new process, from what was saved."""
    sections = [SECTION, {"algorithm": "knowledge_distillation", "type": "softmax", "temperature": 2.0}]
    _resumed(tmp_path, sections)


def _resumed(folder: Path, sections: list[dict[str, Any]]) -> None:
    base = convolutions()
    made = config(*sections)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        controller, model = nncf.torch.create_compressed_model(base, made)
        for part in model.modules():
            if isinstance(part, nn.Dropout):
                part.p = 0.0
        optimizer = optimizer_of(model)
        fit(controller, model, optimizer, range(2))
        (folder / "state.json").write_text(json.dumps(controller.get_compression_state()))
        (folder / "config.json").write_text(json.dumps(made))
        torch.save(base.state_dict(), folder / "base.pt")
        torch.save(model.state_dict(), folder / "model.pt")
        torch.save(optimizer.state_dict(), folder / "optimizer.pt")
        wanted = fit(controller, model, optimizer, range(2, 4))
    script = [sys.executable, "-m", "tests.backends.resume_digits", str(folder)]
    found = subprocess.run(script, cwd=Path(__file__).parents[3], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    # runs differ in last bits by where arrays lie in memory, by which kernels go
    np.testing.assert_allclose(json.loads(found.stdout), wanted, rtol=1e-4)
    # for use alone, without controllers and their algorithms
    restored = nncf.torch.load_from_config(base, json.loads((folder / "state.json").read_text())["builder_state"])
    restored.load_state_dict(torch.load(folder / "model.pt", weights_only=True))
    assert accuracy(restored.eval()) > accuracy(base) - 0.02


def test_zeros_of_a_network_that_was_not_trained_are_found_by_prune() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
        train(model, 8, 3e-3)
    pruned = nncf.prune(model, nncf.PruneMode.UNSTRUCTURED_MAGNITUDE_LOCAL, ratio=0.5)
    assert nncf.pruning_statistic(pruned).pruning_ratio == pytest.approx(0.5)
    assert nncf.pruning_statistic(nncf.strip(pruned)).pruning_ratio == pytest.approx(0.5)
    assert accuracy(pruned) > accuracy(model) - 0.05
