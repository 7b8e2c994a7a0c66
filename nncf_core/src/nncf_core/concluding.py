"""The last step of a run: an edited model becomes the one that is given."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from nncf_core.contracts import DescribingAlgorithm, FinishingInserter, Model, Recorder, quantizes
from nncf_core.parameters import TargetDevice
from nncf_core.rounds import Run
from nncf_core.sections import Step

_METHODS = ("awq", "scale_estimation", "gptq", "lora_correction")
"""Algorithms that are arguments of :func:`nncf.compress_weights`, and recorded as such."""


def concluded(run: Run, steps: Sequence[Step], model: Model, changed: Collection[str]) -> Model:
    """An edited model as it is given: in the form that runs fastest, where the backend knows one, and described.

    :param changed: names of the algorithms that edited it.
    """
    inserter = run.backend.inserter
    quantizing = next((step for step in steps if quantizes(step.algorithm) and step.algorithm.name in changed), None)
    if quantizing is not None and isinstance(inserter, FinishingInserter):
        device = str(getattr(quantizing.params, "target_device", TargetDevice.ANY))
        model = inserter.finish(model, device, run.options)
    _record(run, steps, model, changed)
    return model


def _record(run: Run, steps: Sequence[Step], model: Model, changed: Collection[str]) -> None:
    builder = run.backend.builder
    if not isinstance(builder, Recorder):
        return
    names = {step.algorithm.name for step in steps}
    for step in steps:
        algorithm = step.algorithm
        if algorithm.name not in changed:
            continue
        parameters = step.described()
        if isinstance(algorithm, DescribingAlgorithm):
            has_data = run.dataset is not None or step.statistics_path is not None
            parameters |= algorithm.effective(step.params, has_data)
        if algorithm.name == "weight_compression":
            parameters |= {method: method in names for method in _METHODS}
        builder.record(model, algorithm.name, parameters)
