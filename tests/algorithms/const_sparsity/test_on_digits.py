"""Zeros of a network that stay zero while it is trained on."""

from __future__ import annotations

import pytest
import torch

import nncf
import nncf.torch
from nncf_core.errors import ParameterNotSupportedError
from nncf_core.pipeline import run
from nncf_core.training.control import CompressionStage
from tests.algorithms.magnitude_sparsity.test_on_digits import constants_in
from tests.backends.digits import accuracy, converted, convolutions, images
from tests.backends.trained_digits import config, fit, optimizer_of, zeros

SPARSE = {"algorithm": "magnitude_sparsity", "params": {"sparsity_target": 0.5}, "ignored_scopes": ["{re}stem"]}

ZEROS = 0.5 * (1 - (144 + 400) / 9464)
"""Neither the first layer has any, nor the matrix of the last, of which modules do not tell."""


def test_zeros_stay() -> None:
    sparse = run({"compression": SPARSE}, convolutions()).model
    controller, model = nncf.torch.create_compressed_model(sparse, config({"algorithm": "const_sparsity"}))
    assert controller.compression_stage() == CompressionStage.FULLY_COMPRESSED
    fit(controller, model, optimizer_of(model), range(3))
    stripped = controller.strip()
    for name, before in sparse.named_parameters():
        after = dict(stripped.named_parameters())[name]
        assert torch.equal(after[before == 0], before[before == 0])
        assert not torch.equal(after, before)
    assert not hasattr(model.stem, "weight_mask")
    _, _, x, _ = images()
    found = zeros(constants_in(converted(stripped, x[:1], "openvino")))
    assert found == pytest.approx(ZEROS, abs=0.01)
    assert accuracy(stripped) > accuracy(convolutions()) - 0.02
    with pytest.raises(ParameterNotSupportedError, match="not set"):
        controller.compression_rate = 0.7
    assert "Sparsity level" in controller.statistics().to_str()


@pytest.mark.slow
def test_zeros_stay_with_quantization() -> None:
    sparse = run({"compression": SPARSE}, convolutions()).model
    sections = [{"algorithm": "const_sparsity"}, {"algorithm": "post_training_quantization"}]
    controller, model = nncf.torch.create_compressed_model(sparse, config(*sections))
    fit(controller, model, optimizer_of(model), range(2))
    _, _, x, _ = images()
    made = converted(controller.strip(), x[:1], "openvino")
    codes = [op.data for op in made.get_ops() if op.get_type_name() == "Constant" and op.data.dtype == "int8"]
    assert zeros(codes) >= ZEROS - 0.01
    assert accuracy(controller.strip()) > accuracy(convolutions()) - 0.02


def test_nothing_is_done_without_a_training() -> None:
    plan = run({"compression": {"algorithm": "const_sparsity"}}, convolutions()).plan
    assert not plan.entries
