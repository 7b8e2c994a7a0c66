"""RB sparsity of a network that reads handwritten digits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import nncf
import nncf.torch
from nncf_core.errors import ValidationError
from nncf_core.pipeline import run
from nncf_core.training.control import CompressionStage
from tests.algorithms.magnitude_sparsity.test_on_digits import _resumed, constants_in
from tests.backends.digits import accuracy, converted, convolutions, images
from tests.backends.trained_digits import config, fit, optimizer_of, zeros
from tests.variants import variants

PARAMS = {"sparsity_target": 0.6, "sparsity_target_epoch": 4, "sparsity_freeze_epoch": 9}


@pytest.mark.parametrize(("mode", "target"), variants([("global", 0.6), ("local", 0.5)], ("global", 0.6)))
def test_sparsity_asked_for_is_reached_and_accuracy_holds(mode: str, target: float) -> None:
    base = convolutions()
    section = {
        "algorithm": "rb_sparsity",
        "params": {**PARAMS, "sparsity_target": target, "sparsity_level_setting_mode": mode},
    }
    with torch.random.fork_rng():
        torch.manual_seed(0)
        controller, model = nncf.torch.create_compressed_model(base, config(section))
        fit(controller, model, optimizer_of(model), range(16))
    assert controller.compression_stage() == CompressionStage.FULLY_COMPRESSED
    _, _, x, _ = images()
    made = converted(controller.strip(), x[:1], "openvino")
    assert zeros(constants_in(made)) == pytest.approx(target, abs=0.02)
    if mode == "local":
        assert all(abs(zeros([array]) - target) < 0.06 for array in constants_in(made))
    assert accuracy(controller.strip()) > accuracy(base) - 0.02
    # frozen
    assert controller.loss() == 0
    before = accuracy(model), model.first.weight_mask_scores.clone()
    assert not model.first.weight_mask_scores.requires_grad
    assert accuracy(model.train().eval()) == before[0]
    assert "mean" not in str(controller.get_state())


def test_the_loss_is_that_of_the_formula() -> None:
    controller, model = nncf.torch.create_compressed_model(
        convolutions(), config({"algorithm": "rb_sparsity", "sparsity_init": 0.2, "params": PARAMS})
    )
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("mask_scores"):
                parameter.copy_(torch.linspace(-1, 3, parameter.numel()).reshape(parameter.shape))
    scores = [p.detach().numpy() for n, p in model.named_parameters() if n.endswith("mask_scores")]
    kept = sum((s > 0).sum() for s in scores) / sum(s.size for s in scores)
    assert float(controller.loss().detach()) == pytest.approx(((kept - 0.8) / 0.05) ** 2, rel=1e-4)
    controller.loss().backward()
    total = sum(s.size for s in scores)
    gradient = model.first.weight_mask_scores.grad.numpy()
    sigmoid = 1 / (1 + np.exp(-model.first.weight_mask_scores.detach().numpy()))
    wanted = 2 * (kept - 0.8) / 0.05**2 / total * sigmoid * (1 - sigmoid)
    np.testing.assert_allclose(gradient, wanted, rtol=1e-4)


def test_gradients_are_multiplied() -> None:
    grads = []
    for more in ({}, {"compression_lr_multiplier": 3.0}):
        made = config({"algorithm": "rb_sparsity", "sparsity_init": 0.2}, **more)
        controller, model = nncf.torch.create_compressed_model(convolutions(), made)
        controller.loss().backward()
        grads.append(model.first.weight_mask_scores.grad)
    torch.testing.assert_close(grads[1], 3 * grads[0])


@pytest.mark.slow
def test_noise_of_a_resumed_training_is_the_same(tmp_path: Path) -> None:
    _resumed(tmp_path, [{"algorithm": "rb_sparsity", "params": {**PARAMS, "schedule": "adaptive"}}])


def test_it_only_trains() -> None:
    with pytest.raises(ValidationError, match="'rb_sparsity' acts while a model is trained"):
        run({"compression": {"algorithm": "rb_sparsity"}}, convolutions())


@pytest.mark.parametrize("other", ["magnitude_sparsity", "const_sparsity"])
def test_other_masks_are_refused_by_name(other: str) -> None:
    sections = [{"algorithm": "rb_sparsity"}, {"algorithm": other}]
    with pytest.raises(ValidationError, match=f"'rb_sparsity' and '{other}' cannot be in the same config"):
        nncf.NNCFConfig.from_dict({"compression": sections})
