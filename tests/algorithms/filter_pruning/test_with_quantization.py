"""Filter pruning and quantization in one config: the exported file is smaller, holds integers, and reads as before."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import nncf
import nncf.torch
from nncf_core.training.control import CompressionStage
from tests.algorithms.filter_pruning.networks import Plain, Residual, trained
from tests.algorithms.filter_pruning.test_coupling import counted
from tests.algorithms.filter_pruning.test_training import fit
from tests.backends.digits import accuracy, images
from tests.variants import variants

pytestmark = pytest.mark.needs("nncf_quantization_aware_training", "nncf_post_training_quantization")
PARAMS = {"pruning_steps": 3, "prune_first_conv": True, "prune_downsample_convs": True}
QUANTIZATION = {"algorithm": "quantization", "preset": "mixed"}


def session_of(controller: Any, path: Path) -> onnxruntime.InferenceSession:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter
        controller.export_model(path)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(path, options)


@pytest.mark.parametrize(("kind", "target"), variants([(Plain, 0.5), (Residual, 0.25)], (Residual, 0.25)))
def test_filters_go_and_the_rest_is_integers(kind: type[nn.Module], target: float, tmp_path: Path) -> None:
    dense, (x, y, test_x, test_y) = trained(kind), images()
    pruning = {"algorithm": "filter_pruning", "params": {**PARAMS, "pruning_target": target}}
    made = nncf.NNCFConfig.from_dict(
        {"input_info": {"sample_size": [1, 1, 8, 8]}, "compression": [pruning, QUANTIZATION]}
    )
    nncf.torch.register_default_init_args(made, DataLoader(TensorDataset(x, y), batch_size=64))
    torch.manual_seed(1)
    controller, model = nncf.torch.create_compressed_model(dense, made)
    fit(controller, model, 8)
    assert controller.compression_stage() is CompressionStage.FULLY_COMPRESSED
    assert controller.compression_rate == pytest.approx(target)
    stripped = controller.strip().eval()
    with torch.no_grad():
        torch.testing.assert_close(stripped(test_x), model(test_x), rtol=1e-2, atol=5e-2)
    # most layers lose that share of both their inputs and their outputs
    left = (1 - target) ** 2 + 0.1
    assert counted(stripped) < left * counted(dense)
    assert accuracy(stripped) > accuracy(dense) - 0.02
    session = session_of(controller, tmp_path / "model.onnx")
    weights = [tensor for tensor in onnx.load(tmp_path / "model.onnx").graph.initializer if np.prod(tensor.dims) > 64]
    assert {tensor.data_type for tensor in weights} == {onnx.TensorProto.INT8}
    before = sum(p.numel() for p in dense.parameters() if p.dim() > 1)
    assert sum(numpy_helper.to_array(tensor).size for tensor in weights) < left * before
    name = session.get_inputs()[0].name
    found = np.concatenate([session.run(None, {name: image[None].numpy()})[0] for image in test_x])
    assert float((found.argmax(1) == test_y.numpy()).mean()) > accuracy(dense) - 0.02
