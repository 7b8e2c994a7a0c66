"""Networks that learn from the one before their compression."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional

import nncf
import nncf.torch
from nncf_core.errors import InternalError, ValidationError
from nncf_core.pipeline import run
from tests.backends.digits import accuracy, convolutions, images
from tests.backends.trained_digits import config, fit, optimizer_of

SPARSE = {"algorithm": "magnitude_sparsity", "sparsity_init": 0.5, "params": {"sparsity_target": 0.5}}


@pytest.mark.parametrize("kind", ["mse", "softmax"])
def test_the_loss_is_that_of_the_formula(kind: str) -> None:
    base, (x, _, _, _) = convolutions(), images()
    section = {"algorithm": "knowledge_distillation", "type": kind, "scale": 0.5, "temperature": 3.0}
    controller, model = nncf.torch.create_compressed_model(base, config(SPARSE, section))
    with pytest.raises(InternalError, match=r"model\.train\(\)"):
        controller.loss()
    model.train()
    for part in model.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.0
    student = model(x[:32])
    loss = controller.loss()
    with torch.no_grad():
        teacher = base(x[:32])
    if kind == "mse":
        wanted = functional.mse_loss(student, teacher)
    else:
        probabilities = (teacher / 3).softmax(1)
        divergence = functional.kl_div((student / 3).log_softmax(1), probabilities, reduction="batchmean")
        wanted = divergence - (probabilities * (teacher / 3).log_softmax(1)).sum(1).mean()
        wanted = wanted * 9
    torch.testing.assert_close(loss, 0.5 * wanted)
    (gradient,) = torch.autograd.grad(loss, student, retain_graph=True)
    (expected,) = torch.autograd.grad(0.5 * wanted, student)
    torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-7)


def test_a_sparse_network_learns_from_the_dense_one_alone() -> None:
    base, (x, _, _, _) = convolutions(), images()
    section = {"algorithm": "knowledge_distillation", "type": "mse"}
    sparse = {**SPARSE, "sparsity_init": 0.7, "params": {"sparsity_target": 0.7}}
    controller, model = nncf.torch.create_compressed_model(base, config(sparse, section))
    before = accuracy(model.eval())
    optimizer = optimizer_of(model)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for epoch in range(12):
            model.train()
            for chosen in torch.randperm(len(x), generator=torch.Generator().manual_seed(epoch)).split(64):
                optimizer.zero_grad()
                model(x[chosen])
                controller.loss().backward()
                optimizer.step()
    model.eval()
    assert accuracy(model) > max(before, accuracy(base) - 0.02)


def test_the_teacher_is_no_part_of_the_model() -> None:
    base = convolutions()
    controller, model = nncf.torch.create_compressed_model(
        base, config({"algorithm": "knowledge_distillation", "type": "mse"})
    )
    assert set(model.state_dict()) == set(base.state_dict())
    fit(controller, model, optimizer_of(model), [0])
    copied = copy.deepcopy(model)
    assert accuracy(copied) == accuracy(model)
    assert type(controller.strip()) is type(base)


def test_it_only_trains() -> None:
    with pytest.raises(ValidationError, match="'knowledge_distillation' acts while a model is trained"):
        run({"compression": {"algorithm": "knowledge_distillation", "type": "mse"}}, convolutions())
    with pytest.raises(ValidationError, match="'type' must be given"):
        nncf.NNCFConfig.from_dict({"compression": {"algorithm": "knowledge_distillation"}})


class ChangesItsInput(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x.mul_(2))


def test_the_teacher_sees_inputs_as_they_were() -> None:
    section = {"algorithm": "knowledge_distillation", "type": "mse"}
    config = nncf.NNCFConfig.from_dict({"input_info": {"sample_size": [2, 8]}, "compression": section})
    controller, model = nncf.torch.create_compressed_model(ChangesItsInput(), config)
    model.train()
    model(torch.ones(3, 8))
    assert controller.loss().item() == 0
    model.eval()
    model(torch.ones(3, 8))
    with pytest.raises(nncf.InternalError, match="leave the term out of validation"):
        controller.loss()


def test_a_state_without_a_section_of_the_config_is_refused() -> None:
    section = {"algorithm": "magnitude_sparsity", "sparsity_init": 0.5}
    settings = {"input_info": {"sample_size": [2, 8]}}
    before = nncf.NNCFConfig.from_dict({**settings, "compression": section})
    controller, _ = nncf.torch.create_compressed_model(nn.Linear(8, 4), before)
    state = controller.get_compression_state()
    sections = [section, {"algorithm": "knowledge_distillation", "type": "mse"}]
    config = nncf.NNCFConfig.from_dict({**settings, "compression": sections})
    with pytest.raises(nncf.ValidationError, match="which the config of the compression state"):
        nncf.torch.create_compressed_model(nn.Linear(8, 4), config, compression_state=state)


def test_a_rate_can_be_set_once_the_schedule_is_disabled() -> None:
    params = {"multistep_steps": [1], "multistep_sparsity_levels": [0.25, 0.5], "sparsity_freeze_epoch": 2}
    section = {"algorithm": "magnitude_sparsity", "params": {"schedule": "multistep", **params}}
    config = nncf.NNCFConfig.from_dict({"input_info": {"sample_size": [2, 8]}, "compression": section})
    controller, _ = nncf.torch.create_compressed_model(nn.Linear(8, 4), config)
    for _ in range(3):
        controller.scheduler.epoch_step()
    assert controller.compression_rate == 0.5
    controller.disable_scheduler()
    controller.compression_rate = 0.75
    assert controller.compression_rate == 0.75
