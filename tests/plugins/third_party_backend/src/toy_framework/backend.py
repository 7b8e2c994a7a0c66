"""The backend: what nncf needs to know of the toy framework."""

from __future__ import annotations

import numpy as np

from nncf_core.errors import ParameterNotSupportedError, UnsupportedDatasetError, ValidationError
from nncf_core.graph import Constant, Graph, Node, OpKind, Port, WeightLayout
from nncf_core.numerics.formats import FORMATS
from nncf_core.numerics.tensor import CompressedTensor
from nncf_core.statistics import Statistics
from nncf_core.transformations import CompressConstant, InsertMultiply, PointKind, TargetPoint
from toy_framework import Factor, Layer, Network
from toy_framework.files import read, write


class GraphBuilder:
    """A layer is one node; its weight is the constant ``<layer>.weight``."""

    framework = "toy"
    title = "Toy"
    suffixes = (".toy",)

    def accepts(self, model):
        """Whether it is a network."""
        return isinstance(model, Network)

    def open(self, source, options):
        """A network of its own, with the arrays of the source."""
        model = source if isinstance(source, Network) else read(source)
        return Network([_copy(layer) for layer in model.layers], model.factors)

    def build(self, model):
        """Multiplications are nodes, too."""
        tensor, nodes, constants = "x", [], {}
        for index, layer in enumerate(model.layers):
            rows, columns = layer.weight.shape
            tensor = _multiplications(model, index, tensor, rows, nodes)
            weight, bias = _weight(layer), _bias(layer)
            constants |= {weight.name: weight, bias.name: bias}
            inputs = (
                Port(tensor, "float32", (None, rows)),
                Port(weight.name, "float32", weight.shape, weight.name, WeightLayout((0,), (1,))),
                Port(bias.name, "float32", bias.shape, bias.name),
            )
            outputs = (Port(f"{layer.name}.out", "float32", (None, columns)),)
            nodes.append(Node(layer.name, "Dense", OpKind.MATMUL, inputs, outputs))
            tensor = f"{layer.name}.out"
        _multiplications(model, len(model.layers), tensor, columns, nodes)
        return Graph("toy", nodes, constants)

    def export(self, model, source):
        """The network itself."""
        return model

    def save(self, model, path):
        """Write a file."""
        write(model, path)


class TargetPointInserter:
    """Knows int8, per channel."""

    framework = "toy"

    def refusal(self, graph, constant, request, options):
        """Anything but int8 with a scale for each output channel."""
        if request.format in ("int8", "uint8") and request.group_size == -1:
            return None
        return "a toy network stores int8 per channel only. Choose int8_sym or int8_asym."

    def apply(self, model, graph, transformations, options):
        """Change the network, which is the caller's."""
        layers = {layer.name: layer for layer in model.layers}
        for edit in transformations:
            if isinstance(edit, InsertMultiply):
                index = _index(model, edit.target) + (edit.target.kind is PointKind.OUTPUT)
                name = edit.name or f"multiply{len(model.factors)}"
                model.factors.append(Factor(name, index, edit.factor.astype(np.float32)))
                continue
            name, _, part = edit.constant.rpartition(".")
            if name not in layers or part not in ("weight", "bias"):
                raise ValidationError(f"The network has no constant {edit.constant!r}.")
            shape = getattr(layers[name], part).shape
            new = edit.tensor if isinstance(edit, CompressConstant) else edit.value
            if tuple(new.shape) != shape:
                raise ValidationError(f"{edit.constant!r} has shape {shape}, not {tuple(new.shape)}.")
            if isinstance(edit, CompressConstant):
                _store(layers[name], part, edit.tensor)
            else:
                setattr(layers[name], part, edit.value.astype(np.float32))
                if part == "weight":
                    layers[name].scale = layers[name].zero_point = None
        return model

    def extract(self, model, inputs, outputs):
        """A function of the activations in between."""
        first = _index(model, inputs[0]) if inputs else 0
        points = [(str(point), _index(model, point) - first, point.kind is PointKind.OUTPUT) for point in outputs]
        # multiplications before the first layer are done already
        kept = [factor for factor in model.factors if factor.index > first or not inputs]
        factors = [Factor(factor.name, factor.index - first, factor.values) for factor in kept]
        return _Part(Network(model.layers[first:], factors), str(inputs[0]) if inputs else "x", points)

    def runner(self, model):
        """``x`` in, ``y`` out."""
        return model.run if isinstance(model, _Part) else lambda feed: {"y": model(feed["x"])}


class StatisticsAggregator:
    """Looks at the activations of one item after the other."""

    framework = "toy"

    def collect(self, model, graph, requests, inputs):
        """Statistics of the requested tensors."""
        points = list(dict.fromkeys(request.target for request in requests))
        part, statistics, count = TargetPointInserter().extract(model, (), points), Statistics(), 0
        for count, item in enumerate(inputs, 1):  # noqa: B007
            if not isinstance(item, dict) or set(item) != {"x"} or np.ndim(item["x"]) != 2:
                raise UnsupportedDatasetError('An item for a toy network is {"x": rows}.')
            tensors = part.run(item)
            for request in requests:
                statistics.aggregator(request).update(tensors[str(request.target)])
        if not count:
            raise UnsupportedDatasetError("The dataset has no items.")
        return statistics


class _Part:
    def __init__(self, network, name, points):
        self.network, self.name, self.points = network, name, points

    def run(self, feed):
        pairs = list(self.network.trace(np.asarray(feed[self.name], np.float32)))
        return {name: pairs[index][is_output] for name, index, is_output in self.points}


def _copy(layer):
    return Layer(layer.name, layer.weight, layer.bias, layer.relu, layer.scale, layer.zero_point)


def _multiplications(model, index, tensor, width, nodes):
    """Nodes for the multiplications before a layer; the name of the last tensor."""
    for factor in (f for f in model.factors if f.index == index):
        ports = [Port(name, "float32", (None, width)) for name in (tensor, f"{factor.name}.out")]
        nodes.append(Node(factor.name, "Multiply", OpKind.MULTIPLY, (ports[0],), (ports[1],)))
        tensor = f"{factor.name}.out"
    return tensor


def _index(model, point: TargetPoint):
    names = [layer.name for layer in model.layers]
    if point.node not in names or point.port != 0:
        raise ValidationError(f"The network has no point {point}.")
    return names.index(point.node)


def _bias(layer):
    bias = layer.bias
    return Constant(f"{layer.name}.bias", "float32", bias.shape, lambda: bias, stored_bytes=bias.nbytes)


def _weight(layer):
    name, shape = f"{layer.name}.weight", layer.weight.shape
    if layer.scale is None:
        weight = layer.weight
        return Constant(name, "float32", shape, lambda: weight, stored_bytes=weight.nbytes)
    parts = [part.nbytes for part in (layer.weight, layer.scale, layer.zero_point) if part is not None]
    kind = "int8" if layer.zero_point is None else "uint8"
    return Constant(
        name, "float32", shape, layer.values, stored_bytes=sum(parts), compressed_format=kind,
        compressed=lambda: _tensor(layer, kind), granularity="per channel",
    )  # fmt: skip


def _store(layer, part, tensor):
    if (
        part == "bias"
        or tensor.format.name not in ("int8", "uint8")
        or tensor.group_size != -1
        or tensor.reduction_axes != (0,)
    ):
        raise ParameterNotSupportedError(f"{layer.name}: a toy network stores int8 per channel only.")
    layer.weight = tensor.codes.view(np.dtype(tensor.format.name)).reshape(tensor.shape)
    layer.scale, layer.zero_point = tensor.scale, tensor.zero_point


def _tensor(layer, kind):
    return CompressedTensor(
        FORMATS[kind], layer.weight.shape, layer.weight.view(np.uint8).reshape(-1), layer.scale, layer.zero_point,
        "float32", (0,),
    )  # fmt: skip
