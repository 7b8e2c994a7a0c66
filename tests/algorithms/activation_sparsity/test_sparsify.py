"""Zeros in place of small inputs of linear layers, on every backend."""

from __future__ import annotations

import numpy as np
import onnxruntime
import openvino
import pytest
import torch
from torch import nn

import nncf
import nncf.torch
from nncf.experimental.torch.sparsify_activations import TargetScope, sparsify_activations
from nncf_core.errors import ValidationError
from nncf_core.pipeline import run
from tests.backends.digits import accuracy, converted, images
from tests.backends.trained_digits import rows
from tests.variants import variants

EVERY = TargetScope(patterns=[".*"])


def batches() -> nncf.Dataset:
    return nncf.Dataset(list(images()[0].split(64)))


def inputs_of(model: nn.Module, x: torch.Tensor) -> dict[str, torch.Tensor]:
    """What linear layers get behind hooks."""
    found: dict[str, torch.Tensor] = {}
    names = {module: name for name, module in model.named_modules()}

    def keep(module: nn.Module, args: tuple[torch.Tensor, ...], _: torch.Tensor) -> None:
        found[names[module]] = args[0].detach()

    hooks = [module.register_forward_hook(keep) for module in names if isinstance(module, nn.Linear)]
    with torch.no_grad():
        model(x)
    for hook in hooks:
        hook.remove()
    return found


def test_inputs_have_the_zeros_asked_for() -> None:
    base, (_, _, x, _) = rows(), images()
    scopes = {TargetScope(patterns=["layers/.*/(up|down)/.*"]): 0.3, TargetScope(names=["head/linear/0"]): 0.1}
    sparse = sparsify_activations(base, batches(), scopes, nncf.IgnoredScope(patterns=["layers/1/.*"]))
    dense_inputs, found = inputs_of(base, images()[0]), inputs_of(sparse, x)
    shares = {name: float((tensor == 0).float().mean()) for name, tensor in found.items()}
    assert shares["layers.0.up"] == pytest.approx(0.3, abs=0.02)
    assert shares["layers.0.down"] == pytest.approx(0.3, abs=0.03)
    assert shares["head"] == pytest.approx(0.1, abs=0.02)
    assert shares["layers.1.up"] == shares["layers.0.query"] == 0
    # the mean, over batches, of the quantile of magnitudes; the first layer's input is that of the dense model
    quantiles = [torch.quantile(part.abs().reshape(-1), 0.3) for part in dense_inputs["layers.0.up"].split(64)]
    buffer = next(value for name, value in sparse.layers[0].up.named_buffers() if "nncf" in name)
    torch.testing.assert_close(buffer.reshape(()), torch.stack(quantiles).mean(), rtol=1e-3, atol=1e-4)
    assert accuracy(sparse) > accuracy(base) - 0.02
    assert not any("nncf" in name for name in base.state_dict())


def test_sparse_models_go_everywhere() -> None:
    base, (_, _, x, _) = rows(), images()
    sparse = sparsify_activations(base, batches(), {TargetScope(patterns=["layers/.*"]): 0.4})
    wanted = sparse(x[:8]).detach()
    restored = nncf.torch.load_from_config(base, nncf.torch.get_config(sparse))
    restored.load_state_dict(sparse.state_dict())
    assert torch.equal(restored(x[:8]), wanted)
    torch.testing.assert_close(torch.export.export(sparse, (x[:8],)).module()(x[:8]), wanted)
    compiled = openvino.compile_model(converted(sparse, x[:8], "openvino"), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    np.testing.assert_allclose(compiled(x[:8].numpy())[0], wanted.numpy(), atol=1e-3)
    compressed = nncf.compress_weights(sparse, mode=nncf.CompressWeightsMode.INT8_SYM, dataset=nncf.Dataset([x[:1]]))
    zeros = {name: float((t == 0).float().mean()) for name, t in inputs_of(compressed, x).items()}
    assert zeros["layers.0.up"] == pytest.approx(0.4, abs=0.03)


@pytest.mark.parametrize("framework", variants(["onnx", "openvino"], "onnx"))
def test_other_backends_cut_off_the_same(framework: str) -> None:
    base, (_, _, x, _) = rows(), images()
    section = {"algorithm": "activation_sparsity", "targets": [{"scope": {"patterns": [".*"]}, "sparsity": 0.3}]}
    model = converted(base, x[:64], framework)
    name = "x" if framework == "onnx" else next(iter(model.inputs[0].get_names()))
    dataset = nncf.Dataset([{name: x[:64].numpy()}])
    sparse = run({"compression": section}, model, dataset=dataset).model
    wanted = run({"compression": section}, base, dataset=nncf.Dataset([x[:64]])).model(x[:64]).detach().numpy()
    if framework == "onnx":
        session = onnxruntime.InferenceSession(sparse.SerializeToString(), providers=["CPUExecutionProvider"])
        (found,) = session.run(None, {name: x[:64].numpy()})
    else:
        precise = openvino.compile_model(sparse, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        found = precise(x[:64].numpy())[0]
    # an element near a threshold may be on its other side
    assert np.mean(np.abs(found - wanted)) < 0.05 * np.mean(np.abs(wanted))


@pytest.mark.parametrize(
    ("scopes", "message"),
    [
        ({EVERY: 1.5}, "at most 1"),
        ({EVERY: 0.5, TargetScope(names=["head/linear/0"]): 0.5}, "two of the target scopes match 'head/linear/0'"),
        ({TargetScope(types=["layer_norm"]): 0.5}, "no linear layer"),
        ({TargetScope(names=["nothing"]): 0.5}, "nothing"),
    ],
)
def test_what_is_not_meant_is_refused(scopes: dict[TargetScope, float], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        sparsify_activations(rows(), batches(), scopes)
