"""One network in ONNX, OpenVINO and PyTorch gets the same integers, scales and zero points in all three."""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import openvino
import pytest
import torch
from torch import nn

import nncf
from nncf import CompressWeightsMode as Mode
from nncf_core.numerics.packing import unpack
from nncf_core.numerics.tensor import CompressedTensor

FRAMEWORKS = ("onnx", "openvino", "torch")

SUPPORTED: Mapping[Mode, Sequence[str]] = {
    **dict.fromkeys(Mode, FRAMEWORKS),
    Mode.INT3_SYM: tuple(framework for framework in FRAMEWORKS if framework != "onnx"),
}
"""Which frameworks express a mode."""

ALIVE: list[nn.Module] = []
"""OpenVINO reads bfloat16 weights from PyTorch's memory, without keeping it."""

IDS = torch.arange(24).reshape(3, 8)


class Network(nn.Module):
    """Every kind of weight once, each of a shape of its own."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table = nn.Embedding(40, 64)
        self.conv = nn.Conv1d(64, 64, 3, padding=1)
        self.depthwise = nn.Conv1d(64, 64, 5, padding=2, groups=64)
        self.up = nn.Linear(64, 192)
        self.down = nn.Linear(192, 64, bias=False)
        self.experts = nn.Parameter(torch.randn(3, 64, 96))
        self.head = nn.Linear(96, 50)
        with torch.no_grad():
            self.up.weight[5] = 0  # a channel of zeros
            self.up.weight[6] = 0.25  # a constant one
            self.down.weight[:, :32] *= 1e-3
        self.to(dtype)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.table(ids)
        y = x.transpose(1, 2)
        x = x + (self.conv(y) + self.depthwise(y)).transpose(1, 2)
        x = x + self.down(torch.relu(self.up(x)))
        return self.head(torch.matmul(x, self.experts))


@cache
def network(framework: str, dtype: torch.dtype) -> Any:
    module = Network(dtype).eval()
    if framework == "torch":
        return module
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporters
        if framework == "openvino":
            model = openvino.convert_model(torch.export.export(module, (IDS,)))
            ALIVE.append(module)
            return model
        program = torch.onnx.export(module, (IDS,), dynamo=True, opset_version=21, verbose=False)
    stream = io.BytesIO()
    program.save(stream)
    proto = onnx.load_model_from_string(stream.getvalue())
    proto.opset_import[0].version = 25  # the first that knows 2 bits; nothing else of this network differs
    return proto


def canonical(tensor: CompressedTensor) -> dict[str, Any]:
    """The arrays with the axes that are not summed over first, whatever the operator's order is."""
    kept = [axis for axis in range(len(tensor.shape)) if axis not in tensor.reduction_axes]
    order = [*kept, *tensor.reduction_axes]

    def array(values: np.ndarray) -> list[Any]:
        found = np.ascontiguousarray(values.transpose(order)).squeeze()
        return [found.shape, found.tobytes()]

    codes = unpack(tensor.codes, tensor.format.bits, tensor.size, tensor.format.signed).reshape(tensor.shape)
    return {
        "format": tensor.format.name,
        "group size": tensor.group_size,
        "codes": array(codes.astype(np.int32)),
        "scale": array(tensor.scale.astype(np.float32)),
        "zero point": None if tensor.zero_point is None else array(tensor.zero_point.astype(np.int32)),
        "global scale": tensor.global_scale,
        "table": None if tensor.codebook is None else tensor.codebook.astype(np.float32).tolist(),
    }


def result(framework: str, dtype: torch.dtype, **settings: Any) -> dict[tuple[Any, Any], dict[str, Any]]:
    """What the compressed model itself holds, by the sizes of kept and of reduced axes."""
    # a weight that no module owns is found by tracing, which PyTorch needs an example for
    example = {"torch": IDS}.get(framework)
    dataset = None if example is None else nncf.Dataset([example])
    compressed = nncf.compress_weights(network(framework, dtype), dataset=dataset, **settings)
    found: dict[tuple[Any, Any], dict[str, Any]] = {}
    for constant in nncf.build_graph(compressed, example_input=example).constants.values():
        if constant.compressed is None:
            continue
        tensor = constant.compressed()
        reduced = [n for axis, n in enumerate(tensor.shape) if axis in tensor.reduction_axes]
        kept = [n for axis, n in enumerate(tensor.shape) if axis not in tensor.reduction_axes]
        key = tuple(kept), tuple(n for n in reduced if n != 1)
        assert key not in found
        found[key] = canonical(tensor)
    return found


WEIGHTS_ALONE = nncf.SensitivityMetric.WEIGHT_QUANTIZATION_ERROR
"""With PyTorch's example the default would look at activations."""


def settings_of(mode: Mode) -> dict[str, Any]:
    advanced: dict[str, Any] = {}
    if mode is Mode.CODEBOOK:
        advanced["codebook"] = np.array([-7, -3, -1, 0, 0.5, 1, 2, 6], np.float32)
    settings: dict[str, Any] = {"mode": mode}
    if advanced:
        settings["advanced_parameters"] = nncf.AdvancedCompressionParameters(**advanced)
    return settings


CASES = [
    pytest.param({**settings_of(mode), **more}, id="-".join([mode.value, *map(str, more.values())]))
    for mode in SUPPORTED
    if mode is not Mode.ADAPTIVE_CODEBOOK  # fitted to the example, too, which PyTorch alone has
    for more in (
        [{}] if mode.value.startswith(("int8", "mx", "nv", "e2")) else [{"group_size": 32}, {"group_size": -1}]
    )
] + [
    pytest.param({"mode": Mode.INT4_ASYM, "group_size": 16, "all_layers": True}, id="all layers"),
    pytest.param(
        {"mode": Mode.INT4_SYM, "group_size": 32, "ratio": 0.5, "sensitivity_metric": WEIGHTS_ALONE}, id="half"
    ),
    pytest.param({"mode": Mode.INT4_SYM, "group_size": 32, "backup_mode": nncf.BackupMode.NONE}, id="no backup"),
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("settings", CASES)
def test_the_same_integers_everywhere(settings: dict[str, Any], dtype: torch.dtype) -> None:
    able = SUPPORTED[settings["mode"]]
    results = {framework: result(framework, dtype, **settings) for framework in able}
    first = results[able[0]]
    assert len(first) >= 2
    for framework in able[1:]:
        assert results[framework].keys() == first.keys(), framework
        for size, tensor in results[framework].items():
            for part, value in tensor.items():
                assert value == first[size][part], f"{part} of {size} in {framework} and {able[0]}"


def test_the_table_in_the_docs_is_true() -> None:
    lines = (Path(__file__).parents[2] / "docs/formats.md").read_text().splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| `")]
    stated = {
        row[0].strip("`"): tuple(name for name, cell in zip(FRAMEWORKS, row[1:], strict=True) if cell[:3] != "no:")
        for row in rows
    }
    assert stated == {str(mode): tuple(SUPPORTED.get(mode, ())) for mode in Mode}
    for mode, able in SUPPORTED.items():
        for framework in set(FRAMEWORKS) - set(able):
            with pytest.raises(nncf.ParameterNotSupportedError):
                result(framework, torch.float32, **settings_of(mode), group_size=32)
