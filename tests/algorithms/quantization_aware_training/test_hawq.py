"""Bits by traces of the loss's Hessian."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.numpy_helper
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import nncf
import nncf.torch
from nncf import NNCFConfig
from nncf_core.pipeline import run
from nncf_post_training_quantization.mixed_precision import Choice, choose
from nncf_torch.hessian import traces
from nncf_torch.module_model import ModuleModel
from nncf_torch.structures import QuantizationPrecisionInitArgs
from tests.algorithms.quantization_aware_training.test_config import SHAPE, bits_of, network, random
from tests.algorithms.quantization_aware_training.training import dense, trained
from tests.backends.digits import accuracy, images


def section(**precision: Any) -> dict[str, Any]:
    precision = {"type": "hawq", "iter_number": 50, **precision}
    return {"algorithm": "quantization", "preset": "mixed", "initializer": {"precision": precision}}


def test_traces_are_those_of_the_whole_hessian() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    x, y = torch.randn(8, 3), torch.randint(0, 2, (8,))
    loss = nn.CrossEntropyLoss()
    given = QuantizationPrecisionInitArgs(lambda z, t, f: f(z, t), loss, DataLoader(TensorDataset(x, y), batch_size=4))
    names = ["0.weight", "2.weight"]
    module.requires_grad_(False)
    vectors = 1500
    found = traces(ModuleModel(module), names, given, samples=8, vectors=vectors, tolerance=0.0)
    assert not any(p.requires_grad for p in module.parameters())
    for name in names:

        def of(weight: torch.Tensor, name: str = name) -> torch.Tensor:
            return loss(torch.func.functional_call(module, {name: weight}, (x,)), y)

        weight = module.get_parameter(name)
        whole = torch.autograd.functional.hessian(of, weight.detach()).reshape(weight.numel(), -1)
        # an estimate has the variance 2 · what lies off the diagonal, squared; there are two batches
        off = float((whole - whole.diagonal().diag()).square().sum())
        spread = (2 * off / vectors) ** 0.5
        assert abs(found[name] * weight.numel() - float(whole.trace())) < 4 * spread < 0.2 * whole.norm()


def test_choice_is_the_best_of_all() -> None:
    random_ = np.random.default_rng(0)
    for _ in range(20):
        choices = [
            Choice(
                str(i), int(random_.integers(1, 50)), dict(zip((2, 4, 8), sorted(random_.random(3))[::-1], strict=True))
            )
            for i in range(5)
        ]
        whole = sum(c.operations(8) for c in choices)
        for ratio in (1.2, 3.0, 9.0):
            best = min(
                sum(c.costs[n] for c, n in zip(choices, bits, strict=True))
                for bits in itertools.product((2, 4, 8), repeat=5)
                if sum(c.operations(n) for c, n in zip(choices, bits, strict=True)) * ratio <= whole
            )
            found = choose(choices, ratio)
            assert sum(c.operations(found[c.name]) for c in choices) * ratio <= whole
            cost, dearest = sum(c.costs[found[c.name]] for c in choices), max(max(c.costs.values()) for c in choices)
            assert best <= cost <= best + dearest  # the last step may be one too far
    with pytest.raises(nncf.ValidationError, match="cannot be reached with these bits, 16 at most"):
        choose(choices, 17)


def test_digits_with_four_times_fewer_operations() -> None:
    x, y, _, _ = images()
    config = NNCFConfig.from_dict({"compression": section(compression_ratio=4, bits=[2, 4, 8])})
    loader = DataLoader(TensorDataset(x, y), batch_size=64)
    nncf.torch.register_default_init_args(config, loader, criterion=nn.CrossEntropyLoss())
    controller, model = nncf.torch.create_compressed_model(dense(), config)
    found = controller.statistics().quantization
    assert len(found.num_wq_per_bitwidth) > 1
    assert set(found.num_wq_per_bitwidth) | set(found.num_aq_per_bitwidth) <= {2, 4, 8}
    trained(controller, model, 3)
    assert accuracy(model) > accuracy(dense()) - 0.025


def test_traces_from_a_file_on_another_backend(tmp_path: Path) -> None:
    """The loss is flat at two layers."""
    path = tmp_path / "traces.json"
    path.write_text(json.dumps({"w0": 1e-9, "w1": 1.0, "w2": 1e-9}))
    given = {**section(traces_per_layer_path=str(path), compression_ratio=2), "quantize_outputs": True}
    data = nncf.Dataset([random(*SHAPE)])
    result = run({"target_device": "NPU", "compression": given}, network(), dataset=data).model
    found = {t.name: onnx.numpy_helper.to_array(t) for t in result.graph.initializer}
    bits = bits_of(found)
    assert bits[1] == 8
    assert min(bits) < 8
    path.write_text(json.dumps({"w0": 1}))
    with pytest.raises(nncf.ValidationError, match="no trace of 'w1', 'w2'"):
        run({"target_device": "NPU", "compression": given}, network(), dataset=data)
    path.write_text("[1]")
    with pytest.raises(nncf.ValidationError, match="holds no traces"):
        run({"compression": given}, network(), dataset=data)


def test_no_loss() -> None:
    data = nncf.Dataset([random(*SHAPE)])
    given = {**section(), "quantize_outputs": True}
    with pytest.raises(nncf.ParameterNotSupportedError, match="cannot be had of ONNX models"):
        run({"target_device": "NPU", "compression": given}, network(), dataset=data)
    x, y, _, _ = images()
    config = NNCFConfig.from_dict({"compression": section()})
    nncf.torch.register_default_init_args(config, DataLoader(TensorDataset(x, y), batch_size=64))
    with pytest.raises(nncf.ParameterNotSupportedError, match="criterion="):
        nncf.torch.create_compressed_model(dense(), config)
    with pytest.raises(nncf.ValidationError, match="'strict' is not supported"):
        run({"compression": section(bitwidth_assignment_mode="strict")}, "missing.onnx")


def test_errors_of_the_loss_stay_as_they_are() -> None:
    def fails(*_: Any) -> torch.Tensor:
        raise LookupError("no such class")

    x, y, _, _ = images()
    config = NNCFConfig.from_dict({"compression": section()})
    loader = DataLoader(TensorDataset(x, y), batch_size=64)
    nncf.torch.register_default_init_args(config, loader, criterion=nn.CrossEntropyLoss(), criterion_fn=fails)
    with pytest.raises(LookupError, match="no such class"):
        nncf.torch.create_compressed_model(dense(), config)
