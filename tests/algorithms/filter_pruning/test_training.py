"""Digits networks pruned while they are trained: the level is reached in the exported file, and accuracy stays."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

import nncf
from nncf.torch import create_compressed_model, get_config, load_from_config, register_default_init_args
from nncf_core.config.nncf_config import NNCFConfig
from nncf_core.errors import InvalidPathError, ParameterNotSupportedError, ValidationError
from nncf_core.training.control import CompressionStage
from tests.algorithms.filter_pruning.networks import EXAMPLE, NETWORKS, Excite, Plain, Residual, trained
from tests.algorithms.filter_pruning.test_coupling import counted
from tests.backends.digits import accuracy, images
from tests.variants import variants

INFO = {"sample_size": [1, 1, 8, 8]}


def config(**params: Any) -> dict[str, Any]:
    section = {"algorithm": "filter_pruning", "params": {"pruning_steps": 3, **params}}
    return {"input_info": INFO, "compression": section}


def fit(controller: Any, model: nn.Module, epochs: int, rate: float = 4e-3) -> list[float]:
    """Losses of the steps."""
    x, y, _, _ = images()
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate)
    losses = []
    model.train()
    for epoch in range(epochs):
        for group in optimizer.param_groups:
            group["lr"] = rate * (1 + np.cos(np.pi * epoch / epochs)) / 2
        controller.scheduler.epoch_step()
        for chosen in torch.randperm(len(x)).split(64):
            controller.scheduler.step()
            optimizer.zero_grad()
            loss = functional.cross_entropy(model(x[chosen]), y[chosen]) + controller.loss()
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
    model.eval()
    return losses


def exported(controller: Any, path: Path) -> onnxruntime.InferenceSession:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter
        controller.export_model(path)
    return onnxruntime.InferenceSession(path)


def elements(path: Path) -> int:
    """Elements of the weights in a file."""
    return sum(int(np.prod(tensor.dims)) for tensor in onnx.load(path).graph.initializer)


@pytest.mark.parametrize("kind", variants(NETWORKS, Plain, Residual))
def test_half_of_the_filters_go_and_accuracy_stays(kind: type[nn.Module], tmp_path: Path) -> None:
    dense = trained(kind)
    torch.manual_seed(1)
    controller, model = create_compressed_model(
        dense, config(pruning_target=0.5, prune_first_conv=True, prune_downsample_convs=True)
    )
    assert controller.compression_stage() is CompressionStage.UNCOMPRESSED
    fit(controller, model, 12)
    assert controller.compression_stage() is CompressionStage.FULLY_COMPRESSED
    assert controller.compression_rate == 0.5
    stripped = controller.strip().eval()
    _, _, x, _ = images()
    with torch.no_grad():
        torch.testing.assert_close(stripped(x), model(x), rtol=1e-3, atol=1e-3)
    assert accuracy(stripped) > accuracy(dense) - 0.02

    session = exported(controller, tmp_path / "pruned.onnx")
    one = x[:1].numpy()
    (result,) = session.run(None, {session.get_inputs()[0].name: one})
    np.testing.assert_allclose(result, stripped(x[:1]).detach().numpy(), rtol=1e-3, atol=1e-4)
    whole, _ = create_compressed_model(dense, config())
    exported(whole, tmp_path / "dense.onnx")
    sizes = [sum(f.stat().st_size for f in tmp_path.glob(f"{name}.onnx*")) for name in ("pruned", "dense")]
    assert sizes[0] < 0.75 * sizes[1]  # most of such small files are names and shapes
    assert elements(tmp_path / "pruned.onnx") < 0.4 * elements(tmp_path / "dense.onnx")
    # both channels of a layer's input and of its output are halved, of the first and the last layer one of them
    assert counted(stripped) < 0.35 * counted(dense)


def test_a_share_of_operations_goes() -> None:
    dense = trained(Residual)
    torch.manual_seed(1)
    controller, model = create_compressed_model(dense, config(pruning_flops_target=0.6, prune_downsample_convs=True))
    fit(controller, model, 12)
    stripped = controller.strip()
    share = 1 - counted(stripped) / counted(dense)
    assert 0.6 <= share < 0.64
    assert controller.compression_rate == pytest.approx(share)
    assert accuracy(stripped.eval()) > accuracy(dense) - 0.02
    assert controller.maximal_compression_rate > 0.6
    text = controller.statistics().to_str()
    assert f"{counted(dense)}" in text
    assert f"{counted(stripped)}" in text


class Wide(nn.Module):
    """Three convolutions, half of the second one's filters near zero."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(1, 12, 3, padding=1), nn.Conv2d(12, 20, 3, padding=1)
        self.d, self.c = nn.Conv2d(20, 20, 3, padding=1), nn.Linear(20, 5)
        with torch.no_grad():
            self.b.weight[:10] *= 0.01

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in (self.a, self.b, self.d):
            x = functional.relu(layer(x))
        return self.c(x.mean((2, 3)))  # type: ignore[no-any-return]


@pytest.mark.parametrize("all_weights", [False, True])
def test_a_share_of_operations_goes_evenly_unless_all_filters_are_compared(all_weights: bool) -> None:
    torch.manual_seed(1)
    dense = Wide()
    controller, _ = create_compressed_model(
        dense, config(pruning_flops_target=0.4, prune_first_conv=True, all_weights=all_weights)
    )
    controller.compression_rate = 0.4
    stripped = controller.strip()
    left = [layer.out_channels for layer in (stripped.a, stripped.b, stripped.d)]

    def share_with(gone: float) -> float:
        """The share of operations that go with a share of each layer's filters."""
        a, b, d = (n - np.ceil(gone * n - 1e-9) for n in (12, 20, 20))
        return float(1 - 2 * (64 * 9 * (a + a * b + b * d) + d * 5) / counted(dense))

    if all_weights:
        assert left[1] < 12
        assert left[2] == 20
    else:
        share = min(count / n for n in (12, 20) for count in range(n) if share_with(count / n) >= 0.4)
        assert left == [n - np.ceil(share * n - 1e-9) for n in (12, 20, 20)]
    assert 1 - counted(stripped) / counted(dense) >= 0.4


def test_operations_that_cannot_go_are_refused_by_name() -> None:
    controller, _ = create_compressed_model(trained(Plain), config(pruning_flops_target=0.5))
    with pytest.raises(ValidationError, match=r"pruning_flops_target is 0\.99\d*, but at most"):
        controller.compression_rate = 0.999


def test_layers_are_left_out() -> None:
    dense = trained(Residual)
    controller, _ = create_compressed_model(dense, config(pruning_target=0.5))
    controller.compression_rate = 0.5
    shapes = {name: tuple(p.shape) for name, p in controller.strip().named_parameters()}
    before = {name: tuple(p.shape) for name, p in dense.named_parameters()}
    # the stem takes the image and is summed with the second block's output; the layers with strides, too
    assert shapes["stem.0.weight"] == before["stem.0.weight"]
    assert shapes["down.0.weight"] == before["down.0.weight"]
    assert shapes["one.0.weight"] == (12, 24, 3, 3)
    assert shapes["two.0.weight"] == (24, 12, 3, 3)
    section = {"algorithm": "filter_pruning", "ignored_scopes": ["{re}one/.*"]}
    controller, _ = create_compressed_model(dense, {"input_info": INFO, "compression": section})
    controller.compression_rate = 0.5
    assert {n: tuple(p.shape) for n, p in controller.strip().named_parameters()} == before


@pytest.mark.parametrize("importance", ["L1", "L2", "geometric_median"])
def test_the_least_important_filters_of_each_cluster_go(importance: str) -> None:
    dense = trained(Plain)
    controller, _ = create_compressed_model(dense, config(filter_importance=importance))
    controller.compression_rate = 0.25
    weight = dense.third.weight.detach().numpy().reshape(32, -1).astype(np.float64)
    expected = {
        "L1": np.abs(weight).sum(1),
        "L2": np.linalg.norm(weight, axis=1),
        "geometric_median": np.array([sum(np.linalg.norm(a - b) for b in weight) for a in weight]),
    }[importance]
    kept = np.sort(np.argsort(expected)[8:])
    left = controller.strip().third.weight
    assert left.shape[0] == 24
    inputs = np.sort(np.argsort(importance_of(dense.second.weight, importance))[8:])
    torch.testing.assert_close(left, dense.third.weight[kept][:, inputs])


def importance_of(weight: torch.Tensor, importance: str) -> np.ndarray:
    rows = weight.detach().numpy().reshape(len(weight), -1).astype(np.float64)
    if importance == "geometric_median":
        return np.array([sum(np.linalg.norm(a - b) for b in rows) for a in rows])
    return np.linalg.norm(rows, 1 if importance == "L1" else 2, axis=1)


@pytest.mark.parametrize(
    ("schedule", "levels"),
    [
        ("baseline", [0.0, 0.5, 0.5, 0.5, 0.5]),
        ("exponential", [0.0, 0.0, 1 - 0.5 ** (1 / 3), 1 - 0.5 ** (2 / 3), 0.5]),
    ],
)
def test_schedules(schedule: str, levels: list[float]) -> None:
    controller, _ = create_compressed_model(trained(Plain), config(schedule=schedule, num_init_steps=1))
    found = []
    for _ in range(5):
        controller.scheduler.epoch_step()
        found.append(controller.scheduler.current_pruning_level)
    assert found == pytest.approx(levels)


def test_the_schedule_with_bias_is_three_quarters_there_after_an_eighth() -> None:
    params = {"schedule": "exponential_with_bias", "pruning_steps": 8, "pruning_target": 0.6}
    controller, _ = create_compressed_model(trained(Plain), config(**params))
    found = []
    for _ in range(9):
        controller.scheduler.epoch_step()
        found.append(controller.scheduler.current_pruning_level)
    assert found[0] == pytest.approx(0)
    assert found[1] == pytest.approx(0.45)
    assert found[8] == pytest.approx(0.6)
    assert found == sorted(found)


def test_a_training_goes_on_in_a_fresh_model() -> None:
    dense = trained(Excite)
    torch.manual_seed(1)
    controller, model = create_compressed_model(dense, config(pruning_target=0.5, prune_first_conv=True))
    fit(controller, model, 3)
    state = json.loads(json.dumps(controller.get_compression_state()))
    tensors = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    torch.manual_seed(2)
    losses = fit(controller, model, 2)
    again, resumed = create_compressed_model(dense, config(pruning_target=0.5, prune_first_conv=True), state)
    resumed.load_state_dict(tensors)
    torch.manual_seed(2)
    assert fit(again, resumed, 2) == losses
    for one, other in zip(controller.strip().parameters(), again.strip().parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_a_shrunk_model_is_made_again_from_its_config() -> None:
    controller, _ = create_compressed_model(trained(Residual), config(prune_downsample_convs=True))
    controller.compression_rate = 0.5
    stripped = controller.strip().eval()
    fresh = load_from_config(Residual(), json.loads(json.dumps(get_config(stripped))))
    fresh.load_state_dict(stripped.state_dict())
    torch.testing.assert_close(fresh.eval()(EXAMPLE), stripped(EXAMPLE), rtol=0, atol=0)
    assert str(fresh) == str(stripped)
    other = Residual()
    other.one[0] = nn.Conv2d(24, 20, 3, padding=1, bias=False)
    with pytest.raises(ValidationError, match="another model"):
        load_from_config(other, get_config(stripped))


def steps_fn(loader: Any, model: nn.Module, optimizer: Any, steps: int) -> None:
    for _, (x, y) in zip(range(steps), loader, strict=False):
        optimizer.zero_grad()
        functional.cross_entropy(model(x), y).backward()
        optimizer.step()


def validate_fn(model: nn.Module, loader: Any) -> tuple[float, float]:
    x, y = loader.dataset.tensors
    loss = float(functional.cross_entropy(model(x), y))
    return -loss, loss


def test_a_ranking_is_learned_and_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    dense, path = trained(Residual), tmp_path / "ranking.json"
    x, y, test_x, test_y = images()
    params = {
        "interlayer_ranking_type": "learned_ranking",
        "prune_first_conv": True,
        "prune_downsample_convs": True,
        "legr_params": {"generations": 8, "train_steps": 3, "population_size": 4, "num_samples": 2},
        "save_ranking_coeffs_path": str(path),
    }
    made = NNCFConfig.from_dict(config(**params))
    loader = DataLoader(TensorDataset(x, y), batch_size=64)
    validation = DataLoader(TensorDataset(test_x, test_y), batch_size=256)
    register_default_init_args(made, loader, train_steps_fn=steps_fn, validate_fn=validate_fn, val_loader=validation)
    controller, model = create_compressed_model(dense, made)
    assert "learned_ranking compares filters of all layers although all_weights is false" in caplog.text
    torch.testing.assert_close(model.eval()(EXAMPLE), dense(EXAMPLE), rtol=0, atol=0)  # as it was before the search
    coefficients = json.loads(path.read_text())
    assert set(coefficients) == {layer.node.name for layer in controller.coupling.layers if layer.output.any()}
    controller.compression_rate = 0.5
    assert controller.compression_rate == pytest.approx(0.5, abs=0.01)

    loaded = {**params, "load_ranking_coeffs_path": str(path), "save_ranking_coeffs_path": str(tmp_path / "none")}
    other, _ = create_compressed_model(dense, config(**loaded))
    other.compression_rate = 0.5
    assert not (tmp_path / "none").exists()
    for one, two in zip(controller.strip().parameters(), other.strip().parameters(), strict=True):
        assert one.shape == two.shape
    with pytest.raises(ValidationError, match="is of another model"):
        create_compressed_model(trained(Plain), config(**loaded))
    with pytest.raises(InvalidPathError, match="no ranking coefficients"):
        create_compressed_model(dense, config(**{**loaded, "load_ranking_coeffs_path": str(tmp_path / "none")}))
    with pytest.raises(ParameterNotSupportedError, match="register_default_init_args"):
        create_compressed_model(dense, config(interlayer_ranking_type="learned_ranking"))


def test_settings_that_exclude_each_other_are_refused() -> None:
    with pytest.raises(ValidationError, match="either pruning_target or pruning_flops_target"):
        create_compressed_model(trained(Plain), config(pruning_target=0.5, pruning_flops_target=0.5))
    made = config(pruning_target=0.3)
    made["compression"]["pruning_init"] = 0.4
    with pytest.raises(ValidationError, match=r"pruning_init is 0\.4"):
        create_compressed_model(trained(Plain), made)
    both = config()
    both["compression"] = [both["compression"], {"algorithm": "magnitude_sparsity"}]
    with pytest.raises(ValidationError, match="magnitude_sparsity"):
        create_compressed_model(trained(Plain), both)


def test_masks_of_normalization_are_a_choice() -> None:
    for chosen in (True, False):
        _, model = create_compressed_model(trained(Residual), config(prune_batch_norms=chosen))
        assert ("one.1.bias_mask" in model.state_dict()) is chosen


def test_strip_leaves_the_model_in_training_as_it_is() -> None:
    controller, model = create_compressed_model(trained(Plain), config())
    controller.compression_rate = 0.5
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert controller.strip() is not model
    assert nncf.strip(model, do_copy=True).second.weight.shape == trained(Plain).second.weight.shape
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(tensor, before[name], rtol=0, atol=0)
