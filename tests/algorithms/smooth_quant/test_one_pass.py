"""SmoothQuant and quantization look at each item once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import nncf
from nncf_core.api import quantize_config
from nncf_core.errors import UnsupportedDatasetError
from nncf_core.pipeline import run
from tests.algorithms.post_training_quantization.networks import perceptron

pytestmark = pytest.mark.needs("nncf_onnx", "onnxruntime")


def network() -> onnx.ModelProto:
    """One whose channels between its two products differ."""
    made = perceptron(16, 64)
    spread = np.exp(np.random.default_rng(1).normal(0, 1.5, 64)).astype(np.float32)
    for tensor in made.graph.initializer:
        if tensor.name in ("w0", "b0"):
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * spread, tensor.name))
    return made


def items(count: int) -> list[np.ndarray]:
    random = np.random.default_rng(2)
    return [random.normal(random.normal(), 1, (16, 64)).astype(np.float32) for _ in range(count)]


def scales(model: onnx.ModelProto) -> Mapping[str, np.ndarray]:
    found = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    return {name: array for name, array in found.items() if "scale" in name}


def quantized(data: Any, **more: Any) -> Any:
    return run(quantize_config(**more), network(), dataset=data)


@pytest.mark.parametrize("subset_size", [20, 32, 45, 300])
def test_each_item_is_taken_once(subset_size: int) -> None:
    taken: list[int] = []
    data = items(50)

    def transform(index: int) -> np.ndarray:
        taken.append(index)
        return data[index]

    result = quantized(nncf.Dataset(range(50), transform), subset_size=subset_size)
    assert taken == list(range(min(subset_size, 50)))
    assert any("evened out" in note for note in result.report.notes)


def test_ranges_are_those_of_two_passes(tmp_path: Path) -> None:
    once = quantized(nncf.Dataset(items(50)))
    # files are of one algorithm each
    config = {**quantize_config(), "statistics_path": str(tmp_path)}
    twice = run(config, network(), dataset=nncf.Dataset(items(50)))
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "post_training_quantization-0.npz",
        "smooth_quant-0.npz",
    ]
    found, wanted = scales(once.model), scales(twice.model)
    assert found.keys() == wanted.keys()
    assert len(found) >= 3
    for name, array in wanted.items():
        np.testing.assert_allclose(found[name], array, rtol=1e-5)


def test_a_source_of_unknown_length() -> None:
    found = quantized(nncf.Dataset(item for item in items(50)))
    for name, array in scales(quantized(nncf.Dataset(items(50))).model).items():
        np.testing.assert_array_equal(scales(found.model)[name], array)


def _onnx() -> onnx.ModelProto:
    return network()


def _openvino() -> Any:
    openvino = pytest.importorskip("openvino")
    return openvino.Core().read_model(network().SerializeToString(), b"")


def _torch() -> Any:
    torch = pytest.importorskip("torch")
    pytest.importorskip("nncf_torch")
    torch.manual_seed(0)
    layers = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 64)).eval()
    with torch.no_grad():
        layers[0].weight *= torch.exp(torch.linspace(-3, 3, 64))[:, None]
    return layers


@pytest.mark.parametrize("made", [_onnx, _openvino, _torch])
def test_an_item_is_named_by_its_number(made: Callable[[], Any]) -> None:
    model, data = made(), items(50)
    data[40] = data[40][:, :10]
    given: list[Any] = data
    if made is _torch:
        given = list(map(pytest.importorskip("torch").from_numpy, data))
    with pytest.raises(UnsupportedDatasetError, match="Item 40 of the dataset"):
        run(quantize_config(), model, dataset=nncf.Dataset(given))
