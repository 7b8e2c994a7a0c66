"""What is said where plugins do what they must not, and models are not what a call needs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nncf
from nncf_core import errors
from nncf_core.config.nncf_config import NNCFConfig
from nncf_core.dataset import Dataset
from nncf_core.pipeline import run
from nncf_core.registry import registry
from nncf_core.sections import steps_of
from nncf_core.statistics import StatisticsRequest
from nncf_core.testing import registered
from nncf_core.testing.numpy_backend import samples
from nncf_core.testing.numpy_backend.builder import NumpyGraphBuilder
from nncf_core.testing.numpy_backend.inserter import NumpyTargetPointInserter
from nncf_core.text_data import generate_text_data
from nncf_core.training.assembling import _check_state
from nncf_core.training.pruning_schedulers import MultiStepMagnitudePruningScheduler, RBLoss
from nncf_core.transformations import PointKind, TargetPoint
from tests.core.pipeline_doubles import Recorder, Scale, module

pytest.importorskip("nncf_weight_compression")

from nncf_weight_compression.algorithm import WeightCompression

CASE = samples.perceptron()
NOWHERE = StatisticsRequest(TargetPoint("last/matmul", PointKind.INPUT, 7), "mean_square", 0)


class Planning(WeightCompression):
    """Plans, and does nothing."""

    name = "planning"

    def transformations(self, *_: Any) -> Iterator[Any]:
        yield from ()


class Refining(Scale):
    """Loses weights."""

    def __init__(self, requests: Sequence[StatisticsRequest] = ()) -> None:
        super().__init__("refining")
        self.wanted = requests

    def requests(self, *_: Any) -> Sequence[StatisticsRequest]:
        return self.wanted

    def refined(self, weights: Sequence[Any], *_: Any) -> Sequence[Any]:
        return weights[:0]


class Setting(Scale):
    """Asks what a runtime computes in 8 bits."""

    def requests(self, graph: Any, params: Any, context: Any, round_index: int) -> Sequence[Any]:
        context.quantization_setup("CPU")
        return ()


def ran(algorithms: Sequence[Any], sections: Sequence[Mapping[str, Any]], backend: object | None = None) -> None:
    plugin = Recorder().plugin if backend is None else backend
    with registered(plugin, "toy"), registered(module(nncf_algorithms=list(algorithms)), "mine"):
        run({"compression": list(sections)}, CASE.make(CASE.weights), dataset=Dataset(CASE.feeds))


COMPRESSING = {"algorithm": "weight_compression", "mode": "int8_sym"}


def test_a_refinement_that_loses_weights() -> None:
    with pytest.raises(
        errors.PluginError, match=r"'refining': refined\(\) must give the weights that it takes, in order"
    ):
        ran([Refining()], [COMPRESSING, {"algorithm": "refining"}])


def test_statistics_of_what_is_not_there() -> None:
    with pytest.raises(
        errors.ValidationError, match=r"'refining' asks for.*last/matmul:input:7, where the model has no"
    ):
        ran([Refining([NOWHERE])], [COMPRESSING, {"algorithm": "refining"}])


def test_a_plan_without_edits() -> None:
    point = StatisticsRequest(TargetPoint("last/matmul", PointKind.INPUT, 0), "mean_square", -1)
    with pytest.raises(errors.PluginError, match=r"An algorithm planned to compress '.*', and yields no edit of it"):
        ran([Planning(), Refining([point])], [{**COMPRESSING, "algorithm": "planning"}, {"algorithm": "refining"}])


def test_a_backend_without_quantizers() -> None:
    whole = NumpyTargetPointInserter(frozenset())

    class Plain:
        """Has what all inserters have, and nothing besides."""

        framework = whole.framework
        refusal, apply, extract, runner = whole.refusal, whole.apply, whole.extract, whole.runner

    backend = module(nncf_graph_builders=[NumpyGraphBuilder()], nncf_target_point_inserters=[Plain()])
    with pytest.raises(
        errors.UnsupportedBackendError, match="backend cannot quantize activations; compress the weights"
    ):
        ran([Setting()], [{"algorithm": "scale"}], backend)


def test_states_of_other_configs() -> None:
    pytest.importorskip("nncf_magnitude_sparsity")
    steps = steps_of(NNCFConfig.from_dict({"compression": {"algorithm": "magnitude_sparsity"}}), registry())
    state: dict[str, Any] = {"builder_state": {}, "ctrl_state": {}}
    with pytest.raises(errors.ValidationError, match=r"section for 'magnitude_sparsity', which.*did not have: go on"):
        _check_state(state, steps)


@pytest.mark.needs("torch", "nncf_torch", "nncf_magnitude_sparsity")
def test_models_that_were_not_pruned() -> None:
    import torch

    model = torch.nn.Sequential(torch.nn.Linear(4, 4))
    with pytest.raises(errors.UnsupportedModelError, match=r"The model has no masks; nncf\.prune gives them"):
        MultiStepMagnitudePruningScheduler(model, mode=nncf.PruneMode.UNSTRUCTURED_MAGNITUDE_LOCAL, steps={0: 0.5})
    with pytest.raises(errors.InternalError, match=r"no masks that are trained; nncf\.prune gives them in the mode"):
        RBLoss(model, 0.5)


def test_a_model_that_writes_one_word() -> None:
    class Tensor(np.ndarray):
        def to(self, _: object) -> Tensor:
            return self

    class Tokenizer:
        def pad(self, tokens: Mapping[str, Any], return_tensors: str) -> dict[str, Any]:
            return {"input_ids": np.array(tokens["input_ids"]).view(Tensor)}

    class Model:
        device = "cpu"
        config = type("Config", (), {"vocab_size": 3})

        def generate(self, start: np.ndarray, *, max_length: int, **_: Any) -> np.ndarray:
            return np.zeros((1, max_length), np.int64)

    with pytest.raises(errors.ValidationError) as caught:
        generate_text_data(Model(), Tokenizer(), seq_len=8, dataset_size=2)
    assert "The model wrote 0 of 2 texts with at least 5 different tokens" in str(caught.value)
    assert "Ask for fewer, or lower unique_tokens_lower_limit" in str(caught.value)


@pytest.mark.needs("onnx", "nncf_onnx", "nncf_accuracy_control", "nncf_post_training_quantization")
def test_plans_of_other_models(tmp_path: Path) -> None:
    from nncf_core.pipeline import apply_plan, make_plan
    from tests.cli.models import onnx_model, weights

    model = onnx_model(tmp_path / "a.onnx")
    plan, _ = make_plan({"compression": {"algorithm": "weight_compression"}}, model)
    with pytest.raises(
        errors.ValidationError, match=r"changes the constant 'w1', which the model does not have: it was"
    ):
        apply_plan(plan, onnx_model(tmp_path / "b.onnx", weights((64, 96))))
    with registered(Recorder().plugin, "toy"), pytest.raises(errors.ValidationError, match="was made for onnx models"):
        apply_plan(plan, CASE.make(CASE.weights))
