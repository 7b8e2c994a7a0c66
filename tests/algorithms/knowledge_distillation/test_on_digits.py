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
