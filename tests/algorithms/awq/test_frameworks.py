"""One network in every framework: what is computed stays, the same constants change, and rounding does less harm."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import nncf
from nncf_core.gathering import Round
from nncf_core.pipeline import make_plan, run
from nncf_core.refining_steps import RefiningRun
from tests.algorithms.post_training_quantization.frameworks import FRAMEWORKS, network, outputs

WIDTH, HIDDEN = 64, 96
GROUP = 32


class Norm(nn.Module):
    """RMSNorm, as models write it out."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(WIDTH))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6))


class Block(nn.Module):
    """Attention of one head behind RMSNorm, a gated network behind LayerNorm, one with GELU, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = Norm(), nn.LayerNorm(WIDTH), Norm()
        self.q, self.k, self.v, self.o = (nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(4))
        self.gate, self.up = nn.Linear(WIDTH, HIDDEN), nn.Linear(WIDTH, HIDDEN)
        self.down = nn.Linear(HIDDEN, WIDTH)
        self.wide, self.narrow = nn.Linear(WIDTH, HIDDEN), nn.Linear(HIDDEN, WIDTH)
        self.head = nn.Linear(WIDTH, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.first(x)
        scores = torch.softmax(self.q(y) @ self.k(y).transpose(1, 2) / 8, -1)
        x = x + self.o(scores @ self.v(y))
        y = self.second(x)
        x = x + self.down(functional.silu(self.gate(y)) * self.up(y))
        x = x + self.narrow(functional.gelu(self.wide(self.third(x))))
        return self.head(x)


@cache
def block() -> Block:
    """Channels of very different size, which weights make up for, as in trained networks."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = Block().eval()
        with torch.no_grad():
            for norm, layers in (
                (module.first, (module.q, module.k, module.v)),
                (module.second, (module.gate, module.up)),
                (module.third, (module.wide,)),
            ):
                size = torch.exp(torch.randn(WIDTH))
                norm.weight.copy_(size)
                for layer in layers:
                    layer.weight /= size**0.7
            module.second.bias.normal_()
            for giver, taker in ((module.up, module.down), (module.wide, module.narrow)):
                size = torch.exp(1.5 * torch.randn(HIDDEN))
                giver.weight *= size[:, None]
                giver.bias *= size
                taker.weight /= size**0.7
    return module


def samples(count: int, seed: int) -> list[np.ndarray]:
    generator = np.random.default_rng(seed)
    return [generator.normal(size=(1, 12, WIDTH)).astype(np.float32) for _ in range(count)]


def section(data: bool) -> dict[str, Any]:
    """Of AWQ alone. Without data the dataset only serves to trace a module."""
    return {
        "algorithm": "awq",
        "mode": "int4_asym",
        "group_size": GROUP,
        "prefer_data_aware_scaling": data,
    }


def changed(framework: str, data: bool) -> tuple[Any, Any, list[Any]]:
    """The model, what AWQ alone makes of it, and the entries of the plan."""
    model, items = network(block(), samples(6, 0), framework)
    result = run({"compression": section(data)}, model, dataset=nncf.Dataset(items))
    return model, result.model, list(result.plan.entries)


@pytest.mark.parametrize("data", [True, False], ids=["data", "data-free"])
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_what_is_computed_stays(framework: str, data: bool) -> None:
    model, result, entries = changed(framework, data)
    test = samples(4, 1)
    wanted = outputs(model, test)
    np.testing.assert_allclose(outputs(result, test), wanted, rtol=0, atol=3e-6 * np.abs(wanted).max())
    actions = [entry.action for entry in entries]
    # norms and q, k, v; norm, its shift, gate and up; norm and wide; up and its bias with down; narrow by a product
    assert actions.count("replace") == (4 + 4 + 2 + 2 + 1 if data else 4 + 4 + 2 + 2)
    assert actions.count("multiply") == (1 if data else 0)


@pytest.mark.parametrize("data", [True, False], ids=["data", "data-free"])
def test_factors_are_the_same_everywhere(data: bool) -> None:
    def factors(framework: str) -> list[np.ndarray]:
        model, items = network(block(), samples(6, 0), framework)
        plan, _ = make_plan({"compression": section(data)}, model, dataset=nncf.Dataset(items))
        found = [edit.value for _, edits in plan.steps for edit in edits if hasattr(edit, "value")]
        return sorted((np.sort(np.abs(value), axis=None) for value in found), key=lambda v: (v.size, v.sum()))

    first = factors(FRAMEWORKS[0])
    for framework in FRAMEWORKS[1:]:
        others = factors(framework)
        assert len(others) == len(first)
        for one, other in zip(first, others, strict=True):
            # OpenVINO computes activations in bfloat16 where the processor knows it
            np.testing.assert_allclose(one, other, rtol=2e-3 if framework == "openvino" else 2e-5)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_rounding_does_less_harm(framework: str) -> None:
    model, items = network(block(), samples(6, 0), framework)
    test = samples(8, 1)
    wanted = outputs(model, test)

    def loss(**more: Any) -> float:
        given = {"mode": nncf.CompressWeightsMode.INT4_ASYM, "group_size": GROUP}
        if "dataset" not in more and framework == "torch":
            more["advanced_parameters"] = nncf.AdvancedCompressionParameters(backend_params={"example_input": items[0]})
        return float(np.linalg.norm(outputs(nncf.compress_weights(model, **given, **more), test) - wanted))

    plain = loss()
    assert loss(awq=True, dataset=nncf.Dataset(items)) < 0.7 * plain
    assert loss(awq=True) < 0.9 * plain


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_scales_are_estimated_with_what_awq_has_seen(framework: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Means and mean squares behind AWQ are those before, divided by factors: the data is looked at once."""
    model, items = network(block(), samples(6, 0), framework)
    given = {"mode": nncf.CompressWeightsMode.INT4_ASYM, "group_size": GROUP, "dataset": nncf.Dataset(items)}
    passes: list[int] = []
    look = RefiningRun.edits

    def seen(run: RefiningRun, planned: Any, edits: Any) -> Any:
        requests = [each for asked in run._refinement(run.graph, planned).requests.values() for each in asked]
        anew = run.gathering.statistics(Round("anew", samples=6), run.model, run.graph, tuple(requests))
        passes.append(len(requests))
        for request in requests:
            # a mean of numbers of both signs is small beside them
            near = 2e-2 if framework == "openvino" else 1e-4
            np.testing.assert_allclose(run.known[request], anew[request], near, near * np.abs(anew[request]).max())
        monkeypatch.setattr(run.gathering.dataset, "get_inference_data", lambda: pytest.fail("looked at again"))
        return look(run, planned, edits)

    monkeypatch.setattr(RefiningRun, "edits", seen)
    nncf.compress_weights(model, awq=True, scale_estimation=True, **given)
    assert passes == [12]


def test_what_is_known_of_fewer_samples_is_collected_again(monkeypatch: pytest.MonkeyPatch) -> None:
    model, items = network(block(), samples(6, 0), "onnx")
    main = {"algorithm": "weight_compression", "mode": "int4_asym", "group_size": GROUP}

    def compressed(first: int) -> tuple[bytes, int]:
        taken: list[int] = []
        dataset = nncf.Dataset(items, lambda item: taken.append(1) or item)
        sections = [{**section(data=True), "subset_size": first}, main, {"algorithm": "scale_estimation"}]
        found = run({"compression": sections}, model, dataset=dataset).model.SerializeToString()
        return found, len(taken)

    assert compressed(6)[1] == 6
    assert compressed(3)[1] == 9
