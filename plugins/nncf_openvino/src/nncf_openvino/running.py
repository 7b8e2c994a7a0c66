"""Running models on the CPU."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

import numpy as np
import openvino as ov
from attrs import Factory, frozen

from nncf_core.contracts import Runner
from nncf_core.dataset import RESET_STATE
from nncf_core.errors import UnsupportedModelError
from nncf_core.memory import is_of_memory
from nncf_core.misfits import InputType
from nncf_openvino.constants import owning
from nncf_openvino.element_types import numpy_name, type_name
from nncf_openvino.opening import reason_of
from nncf_openvino.signal_stack import signal_stack_kept
from nncf_openvino.unpacking import one_stream
from nncf_openvino.working import WorkingModel

# the binding sets itself up for arrays when it sees the first one; two threads that come to that at once, one with
# Python's lock and one with the binding's, wait for each other for ever
ov.Tensor(np.zeros(1, np.float32))

EXACT: Mapping[str, Any] = {
    "INFERENCE_PRECISION_HINT": "f32",
    "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0",
    "KV_CACHE_PRECISION": "f32",
}
"""Compute with activations as they are: by default the CPU rounds those of compressed layers to 8 bits, and takes
bfloat16 where the processor knows it."""


@frozen
class Session:
    """A compiled model.

    :param compiled: ``openvino.CompiledModel``.
    :param inputs: names of the inputs in order.
    :param outputs: names of the outputs in order.
    :param kept: what owns memory that it computes with.
    :param spare: requests that no thread has yet. They are made before the model runs: OpenVINO 2026.4 crashes now and
        then where one thread makes a request of a model while another runs it.
    :param stateful: whether it keeps state, from which a run that is fed ``False`` as
        :data:`~nncf_core.dataset.RESET_STATE` goes on.
    """

    compiled: Any
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    kept: WorkingModel
    spare: list[Any]
    stateful: bool = False
    requests: threading.local = Factory(threading.local)

    @property
    def expected(self) -> dict[str, InputType]:
        """What each input takes, in order, for messages."""
        ports = zip(self.inputs, self.compiled.inputs, strict=True)
        return {
            name: InputType(numpy_name(type_name(port.get_element_type())), _sizes(port.get_partial_shape()))
            for name, port in ports
        }

    def named(self, item: Any) -> Any:
        """An item of a dataset with the inputs' own names.

        OpenVINO lets inputs be told by their place, their port, or any of their names as well.
        """
        if not isinstance(item, Mapping) or set(item) <= {*self.inputs, RESET_STATE}:
            return item
        known: dict[Any, str] = dict(enumerate(self.inputs))
        for port, name in zip(self.compiled.inputs, self.inputs, strict=True):
            known |= dict.fromkeys((*port.get_names(), port.get_node().get_friendly_name()), name)
        plain = {key: _name(key) if isinstance(key, (ov.Output, ov.ConstOutput)) else key for key in item}
        return {known.get(plain[key], plain[key]): value for key, value in item.items()}

    def run(self, feed: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Outputs by name, in the order of the model."""
        return {name: np.array(view) for name, view in self.views(feed).items()}

    def views(self, feed: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Outputs by name, which the same thread's next run overwrites."""
        goes_on = self.stateful and not feed.get(RESET_STATE, True)
        feed = {name: array for name, array in feed.items() if name != RESET_STATE}
        unknown = [name for name in feed if name not in self.inputs]
        if unknown or len(feed) != len(self.inputs):
            raise ValueError(f"the feed has {sorted(feed)}, the model's inputs are {list(self.inputs)}")
        arrays = {index: np.asarray(feed[name], order="C") for index, name in enumerate(self.inputs)}
        if not hasattr(self.requests, "own"):
            try:
                self.requests.own = self.spare.pop()
            except IndexError:
                self.requests.own = self.compiled.create_infer_request()
        if self.stateful and not goes_on:
            self.requests.own.reset_state()
        results = self.requests.own.infer(arrays, share_inputs=True, share_outputs=True)
        return dict(zip(self.outputs, results.to_tuple(), strict=True))


def session_for(working: WorkingModel, streams: int = 1, *, rounded: bool = False, usual: bool = False) -> Session:
    """A session on the CPU that computes with activations as they are.

    :param streams: how many threads run it at the same time.
    :param rounded: whether activations may be rounded to bfloat16, where the processor knows it.
    :param usual: whether OpenVINO's own settings hold instead, for one thread.
    :raises UnsupportedModelError: when OpenVINO does not compile the model.
    """
    model = working.model
    try:
        count = 1 if streams > 1 and one_stream(model) else streams
        with signal_stack_kept():
            core = ov.Core()
            half = rounded and "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
            precision = {"INFERENCE_PRECISION_HINT": "bf16"} if half else {}
            settings = {} if usual else {**EXACT, **precision, "NUM_STREAMS": str(count)}
            compiled = core.compile_model(model, "CPU", settings)
        spare = [compiled.create_infer_request() for _ in range(streams)]
    except RuntimeError as error:
        if is_of_memory(error):
            raise MemoryError(f"OpenVINO does not run the model, {reason_of(error)}") from None
        raise UnsupportedModelError(f"OpenVINO does not run the model: {reason_of(error)}") from None
    inputs = working.inputs or tuple(_name(port) for port in model.inputs)
    outputs = working.outputs or tuple(_name(port) for port in model.outputs)
    return Session(compiled, inputs, outputs, working, spare, bool(model.get_variables()))


def deployed(working: WorkingModel) -> ov.CompiledModel:
    """A compiled model that owns its weights; what is not quantized is computed in float32.

    By default it is bfloat16 where the processor knows it, whose errors are as large as those of 8 bits, so that
    the metric of a model with no quantizers would be chance.

    :raises UnsupportedModelError: when OpenVINO does not compile the model.
    """
    try:
        with signal_stack_kept():
            return ov.Core().compile_model(owning(working), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    except RuntimeError as error:
        if is_of_memory(error):
            raise MemoryError(f"OpenVINO does not run the model, {reason_of(error)}") from None
        raise UnsupportedModelError(f"OpenVINO does not run the model: {reason_of(error)}") from None


def runner(working: WorkingModel) -> Runner:
    """A callable from arrays by input name to arrays by output name."""
    return session_for(working).run


def sampling_runner(working: WorkingModel, threads: int) -> Runner:
    """The same for several threads, with activations in bfloat16 where the processor knows it.

    OpenVINO 2026.4 does not run all models of dynamic shapes so; these run as they are. The next run in the
    same thread writes over what it gives.
    """
    sessions = [session_for(working, threads, rounded=True)]
    lock = threading.Lock()

    def run(feed: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        try:
            return sessions[0].views(feed)
        except RuntimeError:
            with lock:
                if len(sessions) == 1:
                    sessions.append(session_for(working, threads))
                sessions[0] = sessions[1]
            return sessions[1].views(feed)

    return run


def _sizes(shape: ov.PartialShape) -> tuple[int | str | None, ...] | None:
    """Sizes, limits (``1..8``) where there are some, and ``None`` for those that are free."""
    if shape.rank.is_dynamic:
        return None
    texts = [str(size) for size in shape]
    return tuple(int(text) if text.isdecimal() else None if text == "?" else text for text in texts)


def _name(port: Any) -> str:
    """A tensor's first name, or its operator's where it has none."""
    return str(min(port.get_names())) if port.get_names() else str(port.get_node().get_friendly_name())
