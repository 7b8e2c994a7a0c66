"""Opening models: from a path with weights left in the file, or from a model in memory."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir
from google.protobuf.message import DecodeError

from nncf_core.errors import InvalidPathError, UnsupportedModelError, UnsupportedVersionError, ValidationError
from nncf_core.log import nncf_logger
from nncf_onnx.mapped import MappedFile, MappedTensor
from nncf_onnx.structure import check_structure
from nncf_onnx.traversal import all_graphs, walk
from nncf_onnx.wire import SELF, skeleton

OLDEST_OPSET = 13
EXTERNAL_DATA_DIR = "external_data_dir"


def open_path(path: Path) -> ir.Model:
    """The model of a file, with all large weights left in the file or its external data.

    :raises InvalidPathError: when a file is missing, or external data lies outside the model's folder.
    :raises UnsupportedModelError: when the model is malformed.
    :raises UnsupportedVersionError: when its opset is not supported.
    """
    if not path.is_file():
        raise InvalidPathError(f"There is no model file {path}." if not path.exists() else f"{path} is not a file.")
    file = MappedFile(path)
    if file.size == 0:
        raise UnsupportedModelError(f"{path} is empty.")
    try:
        proto = onnx.ModelProto.FromString(skeleton(file.view(0, file.size)))
    except UnsupportedModelError as error:
        raise UnsupportedModelError(f"Cannot read {path}: {error}") from None
    except DecodeError as error:
        raise UnsupportedModelError(f"Cannot read {path}: it is not an ONNX model ({error}).") from None
    return _open(proto, path.parent, file, str(path))


def open_proto(proto: onnx.ModelProto, options: Mapping[str, Any]) -> ir.Model:
    """The model of a ModelProto, which is not changed; its weights are not copied.

    :param options: ``external_data_dir``: absolute path of the folder of external data; by default the working
        directory.
    :raises ValidationError: when ``external_data_dir`` is not absolute.
    :raises InvalidPathError: when external data is missing or lies outside the folder.
    :raises UnsupportedModelError: when the model is malformed.
    """
    folder = options.get(EXTERNAL_DATA_DIR)
    if folder is not None and not Path(folder).is_absolute():
        raise ValidationError(f"backend_params: {EXTERNAL_DATA_DIR} is {str(folder)!r}; it must be an absolute path.")
    return _open(proto, Path(folder) if folder is not None else Path.cwd(), None, "the model")


def open_ir(model: ir.Model) -> ir.Model:
    """A copy of an onnx_ir model that shares its constants.

    :raises UnsupportedModelError: when the model is malformed.
    """
    copy = model.clone()
    check_opset(copy, "the model")
    return _prepared(copy, "the model")


def _open(proto: onnx.ModelProto, folder: Path, itself: MappedFile | None, what: str) -> ir.Model:
    if not proto.HasField("graph"):
        raise UnsupportedModelError(f"Cannot read {what}: it has no graph.")
    check_structure(proto.graph, what)
    model = ir.from_proto(proto)
    check_opset(model, what)
    _map_tensors(model, folder, itself)
    return _prepared(model, what)


def check_opset(model: ir.Model, what: str) -> None:
    """Whether the model's opset is one that can be processed.

    :raises UnsupportedVersionError: when it is missing, too old, or unknown to the installed onnx.
    """
    opset = model.graph.opset_imports.get("")
    newest = onnx.defs.onnx_opset_version()
    if opset is None:
        raise UnsupportedVersionError(f"{what} imports no opset of the default domain.")
    if opset < OLDEST_OPSET:
        raise UnsupportedVersionError(
            f"{what} has opset {opset}; {OLDEST_OPSET} or later is needed. Convert it: "
            f"onnx.version_converter.convert_version(model, {OLDEST_OPSET})."
        )
    if opset > newest:
        raise UnsupportedVersionError(
            f"{what} has opset {opset}, and the installed onnx {onnx.__version__} knows opsets up to {newest}. "
            "Update onnx, or export the model with an older opset."
        )


def _prepared(model: ir.Model, what: str) -> ir.Model:
    if model.functions:
        from onnx_ir.passes.common import InlinePass

        # weights reach the operators of a function through its inputs: seen only when it is inlined
        nncf_logger.debug("%s: inlining %d functions", what, len(model.functions))
        InlinePass()(model)
    try:
        model.graph.sort()  # and the bodies with it, which alone could not be: they use what the graph produces
    except ValueError:
        raise UnsupportedModelError(f"Cannot read {what}: its graph has a cycle.") from None
    for node, _ in walk(model.graph):
        if node.op_type == "Constant" and node.domain == "" and "value" in node.attributes:
            # initializers and Constant nodes are then read in the same way
            output, tensor = node.outputs[0], node.attributes["value"].as_tensor()
            output.const_value, output.dtype, output.shape = tensor, tensor.dtype, ir.Shape(tensor.shape.numpy())
    return model


def _map_tensors(model: ir.Model, folder: Path, itself: MappedFile | None) -> None:
    """Replace onnx_ir's external tensors by mapped ones."""
    files: dict[str, MappedFile] = {}

    def mapped(tensor: ir.ExternalTensor) -> MappedTensor:
        location = str(tensor.location)
        if location == SELF and itself is not None:
            file = itself
        else:
            if location not in files:
                files[location] = MappedFile(_inside(folder, location, tensor.name))
            file = files[location]
        offset = tensor.offset or 0
        name = tensor.name or ""
        return MappedTensor(file, offset, tensor.length, tensor.dtype, tensor.shape, name)

    for graph in all_graphs(model):
        for value in graph.initializers.values():
            if isinstance(value.const_value, ir.ExternalTensor):
                value.const_value = mapped(value.const_value)
    nodes = [node for owner in itertools.chain(all_graphs(model), model.functions.values()) for node in owner]
    for node in nodes:
        for name, attribute in list(node.attributes.items()):
            if isinstance(attribute.value, ir.ExternalTensor):
                node.attributes[name] = ir.AttrTensor(name, mapped(attribute.value))


def _inside(folder: Path, location: str, tensor: str | None) -> Path:
    """The path of external data, which must lie in the model's folder, links followed."""
    path = (folder / location).resolve()
    if Path(location).is_absolute() or not path.is_relative_to(folder.resolve()):
        raise InvalidPathError(
            f"The external data {location!r} of tensor {tensor!r} lies outside of the model's folder {folder}."
        )
    if not path.is_file():
        raise InvalidPathError(
            f"The external data {location!r} of tensor {tensor!r} is missing in {folder}. Where it lies elsewhere, "
            f"give the absolute path of the folder in backend_params: {EXTERNAL_DATA_DIR}."
        )
    return path


def tensors_of(model: ir.Model) -> Iterator[ir.TensorProtocol]:
    """Every initializer's tensor."""
    for graph in all_graphs(model):
        for value in graph.initializers.values():
            if value.const_value is not None:
                yield value.const_value
