"""A network for handwritten digits with layers that 8 bits destroy, and what validates it in every framework."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

import numpy as np
import onnx
import onnxruntime
import openvino
import torch
from torch import nn
from torch.nn import functional

import nncf
from nncf_core.graph import OpKind
from tests.backends.digits import converted, images, train

FRAMEWORKS = ("onnx", "openvino", "torch")
ITEMS = 100


class Fragile(nn.Module):
    """Gives its input, by way of its exponential: of 256 levels almost all are above most elements.

    No factors of channels help, for large and small elements are in each of them.
    """

    def __init__(self, width: int, strength: float) -> None:
        super().__init__()
        self.same = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.strength = strength
        with torch.no_grad():
            self.same.weight.zero_()
            for channel in range(width):
                self.same.weight[channel, channel, 1, 1] = 1

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.log(self.same(torch.exp(x * self.strength)) + 1e-3) / self.strength


class Digits(nn.Module):
    """Convolutions, two with a residual sum, and a fragile layer behind some of them.

    :param fragile: indices of the convolutions that one stands behind.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 32, 3, padding=1)
        self.layers = nn.ModuleList([nn.Conv2d(32, 32, 3, padding=1) for _ in range(6)])
        self.head = nn.Linear(32, 10)
        self.fragile = nn.ModuleDict()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.relu6(self.stem(x))
        for index, layer in enumerate(self.layers):
            y = functional.relu6(layer(x))
            if str(index) in self.fragile:
                y = self.fragile[str(index)](y)
            x = x + y if index in (2, 5) else y
        return self.head(x.amax((2, 3)))


@cache
def digits(*fragile: int, strength: float = 6.0) -> nn.Module:
    """The trained network with fragile layers behind some convolutions; nobody changes it."""
    model = Digits()
    model.load_state_dict(_trained())
    for index in fragile:
        model.fragile[str(index)] = Fragile(32, strength)
    return model.eval()


@cache
def _trained() -> dict[str, torch.Tensor]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Digits()
        train(model, 8, 2e-3)
    return model.state_dict()


@cache
def in_framework(module: nn.Module, framework: str) -> Any:
    """The network as a model of a framework; nobody changes it."""
    return converted(module, images()[0][:1], framework)


def samples() -> list[np.ndarray]:
    """Inputs to calibrate with."""
    return [image[None].numpy() for image in images()[0][:30]]


def labelled() -> list[tuple[np.ndarray, int]]:
    """Inputs and labels to validate on."""
    _, _, x, y = images()
    return [(image[None].numpy(), int(label)) for image, label in zip(x[:ITEMS], y[:ITEMS], strict=True)]


def scores(model: Any, image: np.ndarray) -> np.ndarray:
    """What a deployed model gives."""
    if isinstance(model, nn.Module):
        with torch.no_grad():
            return model(torch.from_numpy(image)).numpy()
    if hasattr(model, "get_inputs"):
        return model.run(None, {model.get_inputs()[0].name: image})[0]
    return np.array(model([image])[0])


class Accuracy:
    """A validation function that counts its calls, and how many items each saw.

    :param per_item: whether it gives hits and misses, too.
    """

    def __init__(self, per_item: bool = False, before: Callable[[int], None] = lambda _: None) -> None:
        self.calls: list[int] = []
        self.per_item = per_item
        self.before = before
        self.models: list[Any] = []

    def __call__(self, model: Any, items: Iterable[Any]) -> Any:
        self.before(len(self.calls))
        self.models.append(type(model).__name__)
        hits = [float(scores(model, image).argmax() == label) for image, label in items]
        self.calls.append(len(hits))
        return (float(np.mean(hits)), hits) if self.per_item else float(np.mean(hits))

    @property
    def full(self) -> int:
        """Calls with all items."""
        return self.calls.count(ITEMS)


def datasets(framework: str, *, inputs: bool = True) -> tuple[nncf.Dataset, nncf.Dataset]:
    """For calibration and validation.

    :param inputs: whether the second has a function that makes inputs of its items.
    """
    wanted = torch.from_numpy if framework == "torch" else np.asarray
    calibration = nncf.Dataset([wanted(sample) for sample in samples()])
    return calibration, nncf.Dataset(labelled(), (lambda item: wanted(item[0])) if inputs else None)


def controlled(
    framework: str, function: Any, *fragile: int, inputs: bool = True, restorer: Any = None, **options: Any
) -> Any:
    """The network with fragile layers behind some convolutions, quantized with accuracy control.

    :param restorer: fields of the advanced parameters.
    """
    model = in_framework(digits(*fragile), framework)
    calibration, validation = datasets(framework, inputs=inputs)
    advanced = nncf.AdvancedAccuracyRestorerParameters(**{"ranking_subset_size": 40, **(restorer or {})})
    return nncf.quantize_with_accuracy_control(
        model, calibration, validation, function, advanced_accuracy_restorer_parameters=advanced, **options
    )


def metric(model: Any) -> float:
    """Accuracy of a model of any framework on all items."""
    if isinstance(model, onnx.ModelProto):
        deployed: Any = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    elif isinstance(model, openvino.Model):
        deployed = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    else:
        deployed = model
    return Accuracy()(deployed, labelled())


def quantizers(model: Any, framework: str) -> int:
    """Number of quantizers of activations, counted in the model itself."""
    if framework == "onnx":
        return sum(node.op_type == "QuantizeLinear" for node in model.graph.node)
    if framework == "openvino":
        return sum(op.get_type_name() == "FakeQuantize" for op in model.get_ops())
    return sum(node.kind is OpKind.QUANTIZE for node in nncf.build_graph(model, example_input=images()[0][:1]))
