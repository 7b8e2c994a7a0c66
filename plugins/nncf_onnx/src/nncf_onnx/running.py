"""Running onnx_ir models in onnxruntime."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
from attrs import frozen

from nncf_core.contracts import Runner
from nncf_core.errors import UnsupportedModelError
from nncf_core.memory import is_of_memory
from nncf_core.misfits import InputType
from nncf_onnx.saving import LIMIT, save, stored_bytes, without_large

_ELEMENT_TYPES = frozenset(
    {
        ir.DataType.FLOAT,
        ir.DataType.DOUBLE,
        ir.DataType.FLOAT16,
        ir.DataType.INT8,
        ir.DataType.UINT8,
        ir.DataType.INT32,
        ir.DataType.INT64,
    }
)
"""Types of weights that onnxruntime takes as numpy arrays."""


@frozen
class Session:
    """An onnxruntime session on the CPU.

    :param session: ``onnxruntime.InferenceSession``.
    :param weights: memory that the session reads weights from.
    """

    session: Any
    weights: tuple[np.ndarray, ...]

    @property
    def inputs(self) -> dict[str, InputType]:
        """What each input takes, in order, for messages."""
        return {value.name: InputType(_dtype(value.type), tuple(value.shape)) for value in self.session.get_inputs()}

    def run(self, feed: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Outputs by name. Numbers of double precision, numpy's own, become what the model takes."""
        names = [output.name for output in self.session.get_outputs()]
        wanted = {value.name: _FLOATS.get(value.type) for value in self.session.get_inputs()}
        fed = {name: _fitting(array, wanted.get(name)) for name, array in feed.items()}
        return dict(zip(names, self.session.run(names, fed), strict=True))


_FLOATS: Mapping[str, Any] = {"tensor(float)": np.dtype(np.float32), "tensor(float16)": np.dtype(np.float16)}


def _dtype(kind: str) -> str:
    """numpy's name of an element type, by onnxruntime's: ``tensor(float)``."""
    name = kind.removeprefix("tensor(").removesuffix(")")
    types = ir.DataType.__members__
    known = name.upper() in types and name != "string"
    return types[name.upper()].numpy().name if known else name


def _fitting(array: np.ndarray, dtype: Any) -> np.ndarray:
    return array.astype(dtype) if dtype is not None and array.dtype == np.float64 else array


def session_for(model: ir.Model, optimized: bool = True, threads: int = 0, *, usual: bool = False) -> Session:
    """A session for a model, which computes with activations as they are and the same each time.

    Large weights are not copied: the session reads them where they are, in memory or in a mapped file.

    :param optimized: whether onnxruntime may first rewrite the graph and reorder weights, which takes time and memory.
    :param threads: cores for one run; 0 for all.
    :param usual: whether onnxruntime may compute as it does by default.
    :raises UnsupportedModelError: when onnxruntime does not take the model.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    options.use_deterministic_compute = not usual
    if not optimized:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.add_session_config_entry("session.disable_prepacking", "1")
    # by default, a DequantizeLinear that is fused with its MatMul makes onnxruntime round activations to 8 bits
    if not usual:
        options.add_session_config_entry("session.qdq_matmulnbits_accuracy_level", "0")
    # onnxruntime 1.32 crashes where it fuses a Transpose into a MatMul of float16
    left_out = ["MatmulTransposeFusion"] if _has_float16(model) else []
    try:
        proto, weights = _without_weights(model)
        if proto is not None:
            values = [onnxruntime.OrtValue.ortvalue_from_numpy(array) for array in weights.values()]
            options.add_external_initializers(list(weights), values)
            return Session(_session(proto.SerializeToString(), options, left_out), tuple(weights.values()))
        with tempfile.TemporaryDirectory(prefix="nncf_") as folder:
            path = Path(folder) / "model.onnx"
            save(model, path)
            return Session(_session(path, options, left_out), ())
    except Exception as error:
        # onnxruntime's own errors have no common public base
        if is_of_memory(error):
            raise MemoryError(f"onnxruntime does not run the model, {error}") from None
        raise UnsupportedModelError(f"onnxruntime does not run the model: {error}") from None


class DeployedSession(onnxruntime.InferenceSession):  # type: ignore[misc] # onnxruntime has no types
    """An ``onnxruntime.InferenceSession`` that has what the model's ``onnx.ModelProto`` has besides.

    nncf 3.4.0 gives a validation function the latter, of which it makes a session itself, by ``SerializeToString``.
    """

    def __init__(self, source: bytes | Path, options: Any, left_out: Sequence[str], model: ir.Model) -> None:
        self._nncf_model = model
        super().__init__(source, options, providers=["CPUExecutionProvider"], disabled_optimizers=left_out)

    @cached_property
    def _nncf_proto(self) -> onnx.ModelProto:
        return ir.to_proto(self._nncf_model)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # a session's own, which is not there yet
            raise AttributeError(name)
        return getattr(self._nncf_proto, name)


def deployed(model: ir.Model) -> DeployedSession:
    """A session that owns its weights, at the settings that users have by default.

    :raises UnsupportedModelError: when onnxruntime does not take the model.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    left_out = ["MatmulTransposeFusion"] if _has_float16(model) else []
    try:
        if stored_bytes(model) < LIMIT:
            return DeployedSession(ir.to_proto(model).SerializeToString(), options, left_out, model)
        with tempfile.TemporaryDirectory(prefix="nncf_") as folder:
            path = Path(folder) / "model.onnx"
            save(model, path)
            return DeployedSession(path, options, left_out, model)
    except Exception as error:
        if is_of_memory(error):
            raise MemoryError(f"onnxruntime does not run the model, {error}") from None
        raise UnsupportedModelError(f"onnxruntime does not run the model: {error}") from None


def _session(model: bytes | Path, options: Any, left_out: Sequence[str]) -> Any:
    return onnxruntime.InferenceSession(
        model, options, providers=["CPUExecutionProvider"], disabled_optimizers=left_out
    )


def _has_float16(model: ir.Model) -> bool:
    return any(
        value.dtype == ir.DataType.FLOAT16 for value in (*model.graph.inputs, *model.graph.initializers.values())
    )


def element_types(model: ir.Model) -> dict[str, ir.DataType]:
    """Element types of the main graph's tensors that the model itself does not state, by name.

    onnxruntime infers them, since it knows its own operators, too. Nothing is run.
    """
    copy = model.clone()
    graph = copy.graph
    for node in graph:
        graph.outputs.extend(o for o in node.outputs if o.dtype is None and o.name and not o.is_graph_output())
    types: dict[str, ir.DataType] = {}
    for value in session_for(copy, optimized=False).session.get_outputs():
        kind = value.type.removeprefix("tensor(").removesuffix(")")
        if kind.isalnum():  # not a sequence or an optional
            types[value.name] = ir.DataType[kind.upper()]
    return types


def runner(model: ir.Model) -> Runner:
    """A callable from arrays by input name to arrays by output name."""
    return session_for(model).run


def _without_weights(model: ir.Model) -> tuple[onnx.ModelProto | None, dict[str, np.ndarray]]:
    """The model with its large weights as references, and their arrays by name.

    Weights of types that numpy lacks stay in the model, and so do those that bodies of control flow take, which
    onnxruntime does not find; there is none when they exceed what protobuf can hold.
    """
    with without_large(model) as large:
        captured = {name for name, value in model.graph.initializers.items() if _is_captured(model, value)}
        inside = {
            name: tensor for name, tensor in large.items() if tensor.dtype not in _ELEMENT_TYPES or name in captured
        }
        if sum(tensor.nbytes for tensor in inside.values()) >= LIMIT:
            return None, {}
        proto = ir.to_proto(model)
    for header in proto.graph.initializer:
        if header.name in inside:
            header.ClearField("external_data")
            header.ClearField("data_location")
            header.raw_data = inside[header.name].tobytes()
    return proto, {name: np.ascontiguousarray(tensor.numpy()) for name, tensor in large.items() if name not in inside}


def _is_captured(model: ir.Model, value: ir.Value) -> bool:
    return any(use.node.graph is not model.graph for use in value.uses())
