"""Movement sparsity of a small transformer that reads handwritten digits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

import nncf
import nncf.torch
from nncf_core.errors import ValidationError
from nncf_core.training.control import CompressionStage
from nncf_movement_sparsity.groups import Group, groups_in
from tests.algorithms.magnitude_sparsity.test_on_digits import constants_in
from tests.backends.digits import accuracy, converted, images
from tests.backends.trained_digits import HIDDEN, WIDTH, config, fit, optimizer_of, rows, zeros

PARAMS = {"warmup_start_epoch": 1, "warmup_end_epoch": 5, "importance_regularization_factor": 1.0}
IGNORED = ["{re}embed", "{re}head"]
STRUCTURES = [
    {"mode": "block", "sparse_factors": [16, 16], "target_scopes": "{re}.*(query|key|value|out)"},
    {"mode": "per_dim", "axis": 0, "target_scopes": "{re}.*up"},
    {"mode": "per_dim", "axis": 1, "target_scopes": "{re}.*down"},
]


def section(*structures: dict[str, Any], **params: Any) -> dict[str, Any]:
    return {
        "algorithm": "movement_sparsity",
        "params": {**PARAMS, **params},
        "sparse_structure_by_scopes": list(structures),
        "ignored_scopes": IGNORED,
    }


def test_elements_that_move_towards_zero_become_zero() -> None:
    base = rows()
    controller, model = nncf.torch.create_compressed_model(base, config(section(enable_structured_masking=False)))
    rates, stages = [], []

    def tell(_: int) -> None:
        rates.append(controller.compression_rate)
        stages.append(controller.compression_stage())

    fit(controller, model, optimizer_of(model, of_scores=0.02), range(8), tell)
    assert rates[0] == 0
    assert rates[0] < rates[1] < rates[3] < rates[4]
    assert rates[5] == rates[7] > 0.4
    assert stages[0] == CompressionStage.UNCOMPRESSED
    assert stages[1] == stages[4] == CompressionStage.PARTIALLY_COMPRESSED
    assert stages[5] == CompressionStage.FULLY_COMPRESSED
    assert accuracy(model) > accuracy(base) - 0.02
    _, _, x, _ = images()
    made = converted(controller.strip(), x[:1], "openvino")
    masked = [array for array in constants_in(made) if min(array.shape) > 10]
    assert zeros(masked) == pytest.approx(rates[7], abs=1e-3)


def test_channels_between_layers_are_removed_as_a_whole() -> None:
    base = rows()
    controller, model = nncf.torch.create_compressed_model(base, config(section(*STRUCTURES)))
    assert model.layers[0].query.weight_mask_scores.shape == (2, 2)
    assert model.layers[0].up.weight_mask_scores.shape == (HIDDEN, 1)
    assert model.layers[0].down.weight_mask_scores.shape == (1, HIDDEN)
    fit(controller, model, optimizer_of(model, of_scores=0.02), range(8))
    stripped = controller.strip()
    removed = 0
    for layer in stripped.layers:
        of_up, of_down = (~layer.up.weight.any(1)), (~layer.down.weight.any(0))
        assert torch.equal(of_up, of_down)
        removed += int(of_up.sum())
        # heads: rows of queries, keys and values, and columns of what is behind them
        heads = [~p.weight.reshape(2, WIDTH // 2, WIDTH).any(2).any(1) for p in (layer.query, layer.key, layer.value)]
        assert torch.equal(heads[0], heads[1])
        assert torch.equal(heads[1], heads[2])
    assert removed > HIDDEN // 4
    assert accuracy(stripped) > accuracy(base) - 0.02
    assert not model.layers[0].up.weight_mask_scores.requires_grad


def test_groups_of_a_transformer() -> None:
    graph = nncf.build_graph(rows(), example_input=images()[0][:1])
    masked = [name for name in graph.constants if name.endswith("weight")]
    wanted = []
    for index in range(2):
        at = f"layers.{index}."
        layers = tuple(f"{at}{name}.weight" for name in ("query", "key", "value"))
        wanted.append(Group(layers, f"{at}out.weight", 16, 2, of_heads=True))
        wanted.append(Group((f"{at}up.weight",), f"{at}down.weight", 1, HIDDEN))
    assert groups_in(graph, masked) == wanted
    assert groups_in(graph, [name for name in masked if "up" not in name and "key" not in name]) == []


class Attention(torch.nn.Module):
    """A block of four heads, with attention in one of the ways in which it is written."""

    def __init__(self, attention: Any, width: int = 16) -> None:
        super().__init__()
        self.attention = attention
        self.query, self.key, self.value, self.out = (torch.nn.Linear(width, width) for _ in range(4))
        self.up, self.down = torch.nn.Linear(width, 32), torch.nn.Linear(32, width)
        self.register_buffer("mask", torch.full((6, 6), -1e4).triu(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        b, t, width = x.shape
        q, k, v = (f(x).view(b, t, 4, 4).transpose(1, 2) for f in (self.query, self.key, self.value))
        # a mask that depends on the input, too
        hidden = (x[:, None, :1, :1] * 0 - self.mask.T[None, None]).abs() * -1
        x = x + self.out(self.attention(q, k, v, self.mask, hidden).transpose(1, 2).reshape(b, t, width))
        return x + self.down(functional.gelu(self.up(x)))


ATTENTION = {
    "operator": lambda q, k, v, *_: functional.scaled_dot_product_attention(q, k, v),
    "scaled scores": lambda q, k, v, *_: torch.softmax(q @ k.transpose(-1, -2) / 2, -1) @ v,
    "scaled queries": lambda q, k, v, *_: torch.softmax((q / 2) @ k.transpose(-1, -2), -1) @ v,
    "torch.matmul": lambda q, k, v, *_: torch.matmul(torch.softmax(torch.matmul(q, k.transpose(-1, -2)) * 0.5, -1), v),
    "mask": lambda q, k, v, mask, _: functional.softmax(q @ k.transpose(-1, -2) / 2 + mask, dim=-1) @ v,
    "mask of the input": lambda q, k, v, mask, hidden: (
        functional.dropout(torch.softmax(hidden + (q @ k.transpose(-1, -2)) / 2 + mask, -1), 0.1, training=False) @ v
    ),
}


def section_of(**params: Any) -> dict[str, Any]:
    warm_up = {"warmup_start_epoch": 0, "warmup_end_epoch": 1, "importance_regularization_factor": 0.01}
    params = {**warm_up, "steps_per_epoch": 1, **params}
    return {
        "input_info": {"sample_size": [2, 6, 16]},
        "compression": {"algorithm": "movement_sparsity", "params": params},
    }


@pytest.mark.parametrize("how", ATTENTION)
def test_heads_of_attention_go_as_a_whole_however_it_is_written(how: str, caplog: pytest.LogCaptureFixture) -> None:
    controller, model = nncf.torch.create_compressed_model(Attention(ATTENTION[how]), section_of())
    assert "removes no heads" not in caplog.text
    scores = {name.split(".")[0]: p for name, p in model.named_parameters() if name.endswith("scores")}
    with torch.no_grad():
        for p in scores.values():
            p.fill_(1.0)
        for name in ("query", "key", "value"):
            scores[name][4:8] = -1
        scores["out"][:, 4:8] = -1
        # neither head 0 nor head 2 is empty
        scores["query"][0:4] = -1
        scores["query"][9, 3] = -1
    model.train()
    for _ in range(3):
        controller.scheduler.epoch_step()
        controller.scheduler.step()
    for name in ("query", "key", "value"):
        assert (getattr(model, name).weight == 0).nonzero()[:, 0].unique().tolist() == [4, 5, 6, 7]
        assert (getattr(model, name).weight[4:8] == 0).all()
    assert (model.out.weight == 0).nonzero()[:, 1].unique().tolist() == [4, 5, 6, 7]


@pytest.mark.parametrize("structured", [True, False])
def test_attention_that_is_not_recognised_is_told_of_once(structured: bool, caplog: pytest.LogCaptureFixture) -> None:
    def attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *_: torch.Tensor) -> torch.Tensor:
        return torch.softmax(torch.cumsum(q @ k.transpose(-1, -2), -1), -1) @ v

    nncf.torch.create_compressed_model(Attention(attention), section_of(enable_structured_masking=structured))
    assert caplog.text.count("enable_structured_masking removes no heads") == int(structured)


def test_the_loss_is_that_of_the_formula() -> None:
    controller, model = nncf.torch.create_compressed_model(rows(), config(section(*STRUCTURES[:1])))
    assert controller.loss() == 0
    controller.scheduler.epoch_step(3)
    named = [(n, p) for n, p in model.named_parameters() if n.endswith("mask_scores")]
    total, elements = 0.0, 0
    with torch.no_grad():
        for name, scores in named:
            scores.copy_(torch.linspace(-2, 2, scores.numel()).reshape(scores.shape))
            size = dict(model.named_parameters())[name.removesuffix("_mask_scores")].numel()
            total += float((1 / (1 + np.exp(-scores.double().numpy()))).mean()) * size
            elements += size
    factor = 1 - (1 - (3 - 1) / 4) ** 3
    assert float(controller.loss().detach()) == pytest.approx(total / elements * factor, rel=1e-5)


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (section(warmup_end_epoch=1), "warmup_end_epoch"),
        (section({"mode": "block", "target_scopes": "{re}.*up"}), "sparse_factors"),
        (section({"mode": "block", "sparse_factors": [7, 8], "target_scopes": "{re}.*up"}), "do not divide"),
        (section({"mode": "per_dim", "target_scopes": "{re}.*up"}), "axis"),
        (section(STRUCTURES[1], {"mode": "fine", "target_scopes": "{re}.*layers.*"}), "match"),
        (section({"mode": "fine", "target_scopes": "nothing"}), "nothing"),
    ],
)
def test_what_is_no_structure_is_refused(made: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        nncf.torch.create_compressed_model(rows(), config(made))
