"""Carries out transformations on the toy framework's models."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from attrs import evolve, frozen

from nncf_core.contracts import CompressionRequest, Runner
from nncf_core.errors import ParameterNotSupportedError, ValidationError
from nncf_core.graph import Constant, Graph, Node, OpKind
from nncf_core.hardware import OperatorSetup, QuantizationSetup
from nncf_core.low_rank import branched_layers, layers_of
from nncf_core.numerics.quantizer import FLOAT8
from nncf_core.numerics.tensor import CompressedTensor
from nncf_core.testing.numpy_backend.builder import NumpyGraphBuilder, array_of
from nncf_core.testing.numpy_backend.model import Input, NumpyModel, Operation
from nncf_core.training.refusals import without_masks
from nncf_core.transformations import (
    CompressConstant,
    FoldMask,
    InsertBias,
    InsertLowRank,
    InsertMask,
    InsertMultiply,
    InsertQuantizer,
    InsertThreshold,
    PointKind,
    ReplaceConstant,
    TargetPoint,
    Transformation,
    is_extension,
)


@frozen
class NumpyTargetPointInserter:
    """Changes :class:`~nncf_core.testing.numpy_backend.NumpyModel`, which stores every format.

    :param refused: number formats that it refuses all the same, to see what algorithms make of that.
    """

    refused: frozenset[str] = frozenset()
    framework: ClassVar[str] = "numpy"

    def refusal(
        self, graph: Graph, constant: Constant, request: CompressionRequest, options: Mapping[str, Any]
    ) -> str | None:
        """Nothing is refused but what :attr:`refused` names."""
        if request.format not in self.refused:
            return None
        return f"this backend was told to refuse {request.format}. Choose another format."

    def apply(
        self,
        model: NumpyModel,
        graph: Graph,
        transformations: Iterable[Transformation],
        options: Mapping[str, Any],
    ) -> NumpyModel:
        """Change ``model`` in place and return it.

        :raises ValidationError: when a transformation names what the model lacks.
        """
        for transformation in transformations:
            if isinstance(transformation, InsertMultiply):
                _insert(model, transformation, Operation("", "Multiply", ("factor",), ""), transformation.factor)
                continue
            if isinstance(transformation, InsertThreshold):
                limit = np.asarray(transformation.threshold, np.float32)
                _insert(model, transformation, Operation("", "Threshold", ("limit",), ""), limit)
                continue
            if isinstance(transformation, InsertQuantizer):
                quantizer = transformation.quantizer
                operation = Operation("", "Quantize", ("scale", "zero_point", "ends"), "", axis=quantizer.axis)
                dtype = np.dtype(np.int64) if quantizer.float8 is None else FLOAT8[quantizer.float8]
                ends = np.array([quantizer.lo, quantizer.hi]).astype(dtype)
                _insert(model, transformation, operation, quantizer.scale, quantizer.zero_point, ends)
                continue
            if isinstance(transformation, InsertBias):
                _insert(model, transformation, Operation("", "Add", ("bias",), ""), transformation.value)
                continue
            if isinstance(transformation, InsertLowRank):
                _branch(model, graph, transformation)
                continue
            name = transformation.constant
            if isinstance(transformation, (InsertMask, FoldMask)):
                raise without_masks("numpy", name)
            if name not in model.constants:
                raise ValidationError(f"The model has no constant {name!r}.")
            new = transformation.tensor if isinstance(transformation, CompressConstant) else transformation.value
            old, replaces = tuple(model.constants[name].shape), isinstance(transformation, ReplaceConstant)
            if not (is_extension(old, tuple(new.shape)) if replaces else old == tuple(new.shape)):
                raise ValidationError(f"The constant {name!r} has shape {old}, its new values {new.shape}.")
            if isinstance(transformation, ReplaceConstant):
                model.constants[name] = array_of(transformation.value, model.constants[name])
            elif transformation.tensor.format.name in self.refused:
                raise ParameterNotSupportedError(f"{name!r} cannot be stored as {transformation.tensor.format.name}.")
            else:
                model.constants[name] = transformation.tensor
        return model

    def extract(self, model: NumpyModel, inputs: Sequence[TargetPoint], outputs: Sequence[TargetPoint]) -> NumpyModel:
        """A sub-model whose inputs and outputs are named ``str(target_point)``.

        :raises ValidationError: when a point does not exist, or an output needs more than the inputs.
        """
        part = model.copy()
        ends = [(str(point), _tensor_at(part, point)) for point in outputs]
        if inputs:
            ports = {
                port.tensor: port for node in NumpyGraphBuilder().build(model) for port in (*node.inputs, *node.outputs)
            }
            starts = [(point, ports[_tensor_at(part, point)]) for point in inputs]
            part.inputs = {str(p): Input(port.dtype or "float32", port.shape or ()) for p, port in starts}
            for point, port in starts:
                _feed_from(part, point, port.tensor)
        part.operations += [Operation(f"{name}/output", "Identity", (tensor,), name) for name, tensor in ends]
        part.outputs = [name for name, _ in ends]
        _prune(part)
        return part

    def takes_bias(self, model: NumpyModel, graph: Graph, node: Node) -> bool:
        """Products do."""
        return node.kind is OpKind.MATMUL

    def takes_low_rank(self, model: NumpyModel, graph: Graph, constant: str) -> bool:
        """Wherever a branch has a meaning."""
        return bool(branched_layers(graph, constant))

    def quantization_setup(self, device: str) -> QuantizationSetup:
        """As if products were computed with integers or 8-bit floats, and additions of integers between them."""
        operators = {"MatMul": OperatorSetup(needs_weight=True), "Add": OperatorSetup(only_between=True)}
        float8 = {name: {"MatMul": OperatorSetup()} for name in ("f8e4m3", "f8e5m2")}
        return QuantizationSetup(operators, frozenset({"Identity"}), frozenset({"Relu"}), float8=float8)

    def runner(self, model: NumpyModel) -> Runner:
        """The model's own :meth:`~nncf_core.testing.numpy_backend.NumpyModel.run`."""
        return model.run


def _position(model: NumpyModel, point: TargetPoint) -> int:
    for index, operation in enumerate(model.operations):
        if operation.name == point.node:
            ports = len(operation.inputs) if point.kind is PointKind.INPUT else 1
            if 0 <= point.port < ports:
                return index
    raise ValidationError(f"The model has no point {point}.")


def _tensor_at(model: NumpyModel, point: TargetPoint) -> str:
    operation = model.operations[_position(model, point)]
    return operation.inputs[point.port] if point.kind is PointKind.INPUT else operation.output


def _feed_from(model: NumpyModel, point: TargetPoint, tensor: str) -> None:
    """Let a new input of the model take the place of the tensor at a point."""
    if point.kind is PointKind.INPUT:
        _redirect(model, _position(model, point), point.port, str(point))
        return
    for index, operation in enumerate(model.operations):
        for port, name in enumerate(operation.inputs):
            if name == tensor:
                _redirect(model, index, port, str(point))


def _redirect(model: NumpyModel, index: int, port: int, tensor: str) -> None:
    operation = model.operations[index]
    inputs = (*operation.inputs[:port], tensor, *operation.inputs[port + 1 :])
    model.operations[index] = evolve(operation, inputs=inputs)


def _prune(model: NumpyModel) -> None:
    needed = set(model.outputs)
    kept = []
    for operation in reversed(model.operations):
        if operation.output in needed:
            needed.update(operation.inputs)
            kept.append(operation)
    model.operations = kept[::-1]
    model.constants = {name: stored for name, stored in model.constants.items() if name in needed}
    made = {operation.output for operation in kept}
    unknown = needed - made - set(model.constants) - set(model.inputs)
    if unknown:
        raise ValidationError(f"The outputs depend on {sorted(unknown)}, which are not among the inputs given.")
    model.inputs = {name: spec for name, spec in model.inputs.items() if name in needed}


def _insert(
    model: NumpyModel,
    command: InsertMultiply | InsertThreshold | InsertBias | InsertQuantizer,
    operation: Operation,
    *constants: np.ndarray,
) -> None:
    """Put an operation, given with the last parts of its constants' names, at a point."""
    point = TargetPoint(command.node) if isinstance(command, InsertBias) else command.target
    index = _position(model, point)
    tensor = _tensor_at(model, point)
    wanted = "" if isinstance(command, InsertBias) else command.name
    name = _free_name(model, wanted or f"{point.node}/{operation.type.lower()}")
    operands = tuple(f"{name}/{part}" for part in operation.inputs)
    model.constants |= dict(zip(operands, constants, strict=True))
    if point.kind is PointKind.INPUT:
        new = evolve(operation, name=name, inputs=(tensor, *operands), output=f"{name}/output")
        model.operations.insert(index, new)
        _redirect(model, index + 1, point.port, new.output)
        return
    # users and outputs keep asking for the tensor by its name
    model.operations[index] = evolve(model.operations[index], output=f"{name}/before")
    new = evolve(operation, name=name, inputs=(f"{name}/before", *operands), output=tensor)
    model.operations.insert(index + 1, new)


def _branch(model: NumpyModel, graph: Graph, command: InsertLowRank) -> None:
    """Two products and a sum behind each layer that takes a weight."""
    for layer, port in layers_of(graph, command):
        index = _position(model, TargetPoint(layer.name))
        operation, name = model.operations[index], _free_name(model, f"{layer.name}/low_rank")
        activations = operation.inputs[port]
        steps: list[Operation] = []
        for part, adapter in (("down", command.down), ("up", command.up)):
            if not isinstance(adapter, CompressedTensor):
                adapter = adapter.astype(np.dtype(layer.outputs[0].dtype or "float32"))
            model.constants[f"{name}/{part}"] = adapter
            inputs = (steps[-1].output if steps else activations, f"{name}/{part}")
            steps.append(Operation(f"{name}/{part}/product", "MatMul", inputs, f"{name}/{part}/output", True))
        model.operations[index] = evolve(operation, output=f"{name}/before")
        steps.append(Operation(name, "Add", (f"{name}/before", steps[-1].output), operation.output))
        model.operations[index + 1 : index + 1] = steps


def _free_name(model: NumpyModel, wanted: str) -> str:
    taken = {operation.name for operation in model.operations}
    name, number = wanted, 1
    while name in taken:
        name, number = f"{wanted}_{number}", number + 1
    return name
