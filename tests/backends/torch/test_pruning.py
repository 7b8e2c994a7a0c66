"""``nncf.prune``, its schedulers and figures, and the adaptation of normalization."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import nn

import nncf
import nncf.torch
from nncf.torch.function_hook.pruning.magnitude.schedulers import (
    ExponentialMagnitudePruningScheduler,
    MultiStepMagnitudePruningScheduler,
)
from nncf.torch.function_hook.pruning.rb.losses import RBLoss
from nncf.torch.function_hook.pruning.rb.schedulers import ExponentialRBPruningScheduler, MultiStepRBPruningScheduler
from nncf_core.errors import (
    InternalError,
    ParameterNotSupportedError,
    UnsupportedDatasetError,
    ValidationError,
)
from tests.backends.digits import converted, convolutions, images

pytestmark = pytest.mark.needs("nncf_magnitude_sparsity", "nncf_rb_sparsity", "sklearn")
LOCAL, GLOBAL = nncf.PruneMode.UNSTRUCTURED_MAGNITUDE_LOCAL, nncf.PruneMode.UNSTRUCTURED_MAGNITUDE_GLOBAL
TRAINED = nncf.PruneMode.UNSTRUCTURED_REGULARIZATION_BASED


@pytest.mark.parametrize("mode", [LOCAL, GLOBAL])
@pytest.mark.parametrize("ratio", [0.0, 0.3])
def test_pruned_as_asked(mode: nncf.PruneMode, ratio: float) -> None:
    model = nncf.prune(convolutions(), mode, ratio=ratio, examples_inputs=images()[0][:1])
    found = nncf.pruning_statistic(model)
    assert found.pruning_ratio == pytest.approx(ratio, abs=1e-3)
    assert found.global_pruning_ratio == pytest.approx(ratio, abs=1e-3)
    for tensor in found.pruned_tensors if mode is LOCAL else ():
        assert tensor.pruned_ratio == pytest.approx(ratio, abs=1 / np.prod(tensor.shape))
    assert "All pruned weights" in str(found)
    names = {tensor.tensor_name for tensor in found.pruned_tensors}
    assert {"head", "stem.weight", "hidden.weight"} <= names


def test_ignored_layers_and_weights_stay() -> None:
    scope = nncf.IgnoredScope(names=["hidden.weight"], patterns=["stem/.*"])
    model = nncf.prune(convolutions(), LOCAL, ratio=0.5, ignored_scope=scope, examples_inputs=images()[0][:1])
    names = {tensor.tensor_name for tensor in nncf.pruning_statistic(model).pruned_tensors}
    assert not names & {"hidden.weight", "stem.weight"}
    assert names


def test_onnx_models_get_zeros() -> None:
    model = converted(convolutions(), images()[0][:1], "onnx")
    pruned = nncf.prune(model, LOCAL, ratio=0.25)
    arrays = [numpy_helper.to_array(each) for each in pruned.graph.initializer]
    for array in arrays:
        if array.ndim > 1:
            assert np.mean(array == 0) == pytest.approx(0.25, abs=1 / array.size)
    assert nncf.pruning_statistic(pruned).pruning_ratio == pytest.approx(0.25, abs=1e-3)
    assert isinstance(pruned, onnx.ModelProto)
    with pytest.raises(ParameterNotSupportedError, match="ONNX models are not trained"):
        nncf.prune(model, TRAINED)


def test_magnitude_schedulers_make_masks_anew() -> None:
    model = nncf.prune(convolutions(), GLOBAL, ratio=0.1, examples_inputs=images()[0][:1])
    scheduler = MultiStepMagnitudePruningScheduler(model, mode=GLOBAL, steps={0: 0.1, 2: 0.4})
    ratios = []
    for _ in range(4):
        scheduler.step()
        ratios.append(nncf.pruning_statistic(model).pruning_ratio)
    np.testing.assert_allclose(ratios, [0.1, 0.1, 0.4, 0.4], atol=1e-3)
    other = ExponentialMagnitudePruningScheduler(
        model, mode=GLOBAL, initial_ratio=0.2, target_ratio=0.8, target_epoch=4
    )
    assert [other.get_pruning_ratio(epoch) for epoch in (0, 4, 9)] == [0.2, 0.8, 0.8]
    assert other.get_pruning_ratio(2) == pytest.approx(1 - 0.8 * (0.2 / 0.8) ** 0.5)
    other.step(4)
    assert nncf.pruning_statistic(model).pruning_ratio == pytest.approx(0.8, abs=1e-3)


def test_the_loss_of_trained_masks() -> None:
    model = nncf.prune(convolutions(), TRAINED, examples_inputs=images()[0][:1])
    loss = RBLoss(model, 0.3)
    assert float(loss().detach()) == pytest.approx((0.3 / 0.05) ** 2)
    assert loss.current_ratio == 0
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name == "hidden.weight_mask_scores":
                parameter.fill_(-1)
    loss()
    total = sum(p.numel() for n, p in model.named_parameters() if n.endswith("mask_scores"))
    assert loss.current_ratio == pytest.approx(2560 / total)
    loss().backward()
    assert model.hidden.weight_mask_scores.grad.abs().sum() > 0
    steps = MultiStepRBPruningScheduler(loss, {0: 0.2, 3: 0.5})
    for ratio in (0.2, 0.2, 0.2, 0.5):
        steps.step()
        assert loss.target_ratio == steps.current_ratio == ratio
    ExponentialRBPruningScheduler(loss, 0.1, 0.6, 3).step(3)
    assert loss.target_ratio == 0.6
    assert nncf.pruning_statistic(nncf.strip(model)).pruning_ratio == 1.0


def test_normalization_sees_data() -> None:
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Dropout(0.5)).train()
    expected = nn.BatchNorm2d(3).train()
    batches = images()[0].split(100)
    with torch.no_grad():
        for batch in batches[:3]:
            expected(model[0](batch))
    given = nncf.Dataset(list(batches))
    assert nncf.batch_norm_adaptation(model, given, num_iterations=3) is model
    torch.testing.assert_close(model[1].running_var, expected.running_var)
    assert all(module.training for module in model.modules())
    nncf.batch_norm_adaptation(model.eval(), given)
    assert not any(module.training for module in model.modules())
    for number in (0, -1, "3", 1.5):
        with pytest.raises(ValidationError, match=r"num_iterations is .*; it must be an integer from 1"):
            nncf.batch_norm_adaptation(model, given, num_iterations=number)
    with pytest.raises(UnsupportedDatasetError, match=r"is a list; wrap the data: nncf\.Dataset"):
        nncf.batch_norm_adaptation(model, list(batches))


def test_normalization_sees_samples_of_a_loader() -> None:
    from nncf.common.initialization.batchnorm_adaptation import BatchnormAdaptationAlgorithm

    pixels = images()[0]
    pairs = torch.utils.data.TensorDataset(pixels, torch.zeros(len(pixels)))
    loader = torch.utils.data.DataLoader(pairs, batch_size=100)
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3)).eval()
    expected = nn.BatchNorm2d(3).train()
    with torch.no_grad():
        for batch, _ in list(loader)[:3]:
            expected(model[0](batch))
    BatchnormAdaptationAlgorithm(loader, 250).run(model)  # whole batches
    torch.testing.assert_close(model[1].running_mean, expected.running_mean)
    torch.testing.assert_close(model[1].running_var, expected.running_var)
    assert not any(module.training for module in model.modules())
    with pytest.raises(ValidationError, match="num_bn_adaptation_samples is -1; it must be an integer from 0"):
        BatchnormAdaptationAlgorithm(loader, -1)


def test_what_is_no_ratio_is_refused() -> None:
    for ratio in (None, 1.0, -0.1, "0.5", True, float("nan")):
        with pytest.raises(ValidationError, match=r"^ratio is .*; it must be a number from 0 to below 1"):
            nncf.prune(convolutions(), LOCAL, ratio=ratio)
    with pytest.raises(ValidationError, match="mode is 'some'; it must be one of"):
        nncf.prune(convolutions(), "some", ratio=0.5)
    model = nncf.prune(convolutions(), LOCAL, ratio=0.1)
    for steps in ({1: 0.5}, {"0": 0.5}, [0.5], None):
        with pytest.raises(InternalError, match="give ratios by the epochs from which they hold, 0 among them"):
            MultiStepMagnitudePruningScheduler(model, mode=LOCAL, steps=steps)
    for steps, part in (
        ({0: 0.1, "1": 0.5}, "epoch of steps is '1'"),
        ({0: 0.1, -1: 0.5}, "epoch of steps is -1"),
        ({0: "0.1"}, r"steps\[0\] is '0.1'; it must be a number from 0"),
    ):
        with pytest.raises(InternalError, match=part):
            MultiStepMagnitudePruningScheduler(model, mode=LOCAL, steps=steps)
    for epoch in (0, 1.5, "3"):
        with pytest.raises(InternalError, match=r"target_epoch is .*; it must be an integer from 1"):
            ExponentialMagnitudePruningScheduler(
                model, mode=LOCAL, initial_ratio=0.1, target_ratio=0.5, target_epoch=epoch
            )
    with pytest.raises(ValidationError, match="epoch is -5"):
        MultiStepMagnitudePruningScheduler(model, mode=LOCAL, steps={0: 0.5}).step(-5)
    with pytest.raises(InternalError, match="below target_ratio"):
        ExponentialMagnitudePruningScheduler(model, mode=LOCAL, initial_ratio=0.5, target_ratio=0.5, target_epoch=1)
    with pytest.raises(InternalError, match="no masks that are trained"):
        RBLoss(model, 0.5)
    with pytest.raises(InternalError, match="from 0 to below 1"):
        RBLoss(nncf.prune(convolutions(), TRAINED), 1.0)
