"""Opening models: from a path with weights left in the file, or from a model in memory."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir
from google.protobuf.message import DecodeError

from nncf_core.errors import InvalidPathError, UnsupportedModelError, UnsupportedVersionError, ValidationError
from nncf_core.log import nncf_logger
from nncf_onnx.external import EXTERNAL_DATA_DIR, map_tensors
from nncf_onnx.mapped import MappedFile
from nncf_onnx.slots import slots
from nncf_onnx.structure import check_structure, check_values
from nncf_onnx.traversal import is_sorted, walk
from nncf_onnx.wire import SELF, skeleton

OLDEST_OPSET = 13
"""The first with a scale for each channel; models of older ones are converted."""


def open_path(path: Path) -> ir.Model:
    """The model of a file, with all large weights left in the file or its external data.

    :raises InvalidPathError: when a file is missing, or external data lies outside the model's folder.
    :raises UnsupportedModelError: when the model is malformed.
    :raises UnsupportedVersionError: when its opset is not supported, and cannot be converted.
    """
    proto, file = _read(path)
    return _open(proto, path.parent, file, str(path))


def external_files(path: Path) -> set[str]:
    """Names of the files that hold weights of a model; none when there is no such model."""
    try:
        proto, _ = _read(path)
    except (InvalidPathError, UnsupportedModelError):
        return set()
    tensors = (slot.tensor for slot in slots(ir.from_proto(proto)))
    return {str(tensor.location) for tensor in tensors if isinstance(tensor, ir.ExternalTensor)} - {SELF}


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

    :raises InvalidPathError: when external data is missing or lies outside the model's folder.
    :raises UnsupportedModelError: when the model is malformed.
    :raises UnsupportedVersionError: when its opset is not supported, and cannot be converted.
    """
    check_values(model.graph, "the model")
    try:
        copy = model.clone()
    except (RuntimeError, ValueError):  # every value is there, so one is taken before it is produced
        raise UnsupportedModelError(
            "In the model a node takes what a later one produces: its graph has a cycle, or needs model.graph.sort()."
        ) from None
    return _prepared(copy, "the model", Path.cwd(), None)


def _read(path: Path) -> tuple[onnx.ModelProto, MappedFile]:
    """The message of a file without its large weights, and the file."""
    if not path.is_file():
        raise InvalidPathError(f"There is no model file {path}." if not path.exists() else f"{path} is not a file.")
    file = MappedFile(path)
    if file.size == 0:
        raise UnsupportedModelError(f"{path} is empty; copy or export the model again.")
    try:
        return onnx.ModelProto.FromString(skeleton(file.view(0, file.size))), file
    except UnsupportedModelError as error:
        raise UnsupportedModelError(f"Cannot read {path}: {error}") from None
    except DecodeError as error:
        raise UnsupportedModelError(f"Cannot read {path}: it is not an ONNX model ({error}).") from None


def _open(proto: onnx.ModelProto, folder: Path, itself: MappedFile | None, what: str) -> ir.Model:
    if not proto.HasField("graph"):
        raise UnsupportedModelError(f"Cannot read {what}: it has no graph.")
    if not (proto.graph.node or proto.graph.initializer):
        raise UnsupportedModelError(f"Cannot read {what}: it has no operators and no weights; export the model again.")
    check_structure(proto, what)
    for field in ("training_info", "configuration"):  # onnx_ir knows neither
        if getattr(proto, field, ()):
            nncf_logger.warning("The result will not have the %s of %s.", field, what)
    return _prepared(ir.from_proto(proto), what, folder, itself)


def _prepared(model: ir.Model, what: str, folder: Path, itself: MappedFile | None) -> ir.Model:
    opsets = model.graph.opset_imports
    if "ai.onnx" in opsets:
        opsets[""] = opsets.pop("ai.onnx")  # the other name of the default domain
    _check_versions(model, what)
    if model.functions:
        _inline(model, what)
    if not is_sorted(model.graph):
        try:
            model.graph.sort()  # and the bodies with it, which alone could not be: they use what the graph produces
        except ValueError:
            raise UnsupportedModelError(
                f"Cannot read {what}: its graph has a cycle; a node takes what depends on it."
            ) from None
    map_tensors(model, folder, itself)
    if model.graph.opset_imports[""] < OLDEST_OPSET:
        from nncf_onnx.old_opsets import converted

        model = converted(model, what)
    for node, _ in walk(model.graph):
        if node.op_type == "Constant" and node.domain == "":
            _read_constant(node, what)
    return model


def _check_versions(model: ir.Model, what: str) -> None:
    opset = model.graph.opset_imports.get("")
    newest = onnx.defs.onnx_opset_version()
    if opset is None:
        raise UnsupportedVersionError(
            f"{what} imports no opset of the default domain; add one: onnx.helper.make_opsetid('', {newest})."
        )
    # what a newer format adds would be lost when the model is written
    for title, version, known in (("opset", opset, newest), ("IR version", model.ir_version, onnx.IR_VERSION)):
        if version > known:
            raise UnsupportedVersionError(
                f"{what} has {title} {version}; the installed onnx {onnx.__version__} knows versions up to {known}. "
                f"Update onnx, or export the model with an older {title}."
            )


def _inline(model: ir.Model, what: str) -> None:
    """Replace calls of functions by their bodies: weights reach operators through a function's inputs."""
    from onnx_ir.passes.common import InlinePass

    for function in model.functions.values():
        for domain, version in function.opset_imports.items():
            if model.graph.opset_imports.get(domain, version) != version:
                raise UnsupportedModelError(
                    f"In {what} the function {function.domain}::{function.name} imports opset {version} of the domain "
                    f"{domain or 'ai.onnx'!r}, the model {model.graph.opset_imports[domain]}. Inline it first: "
                    "onnx.inliner.inline_local_functions(model, convert_version=True)."
                )
    nncf_logger.debug("%s: inlining %d functions", what, len(model.functions))
    InlinePass()(model)


def _read_constant(node: ir.Node, what: str) -> None:
    """Let initializers and Constant nodes be read in the same way."""
    output = node.outputs[0]
    if "value" in node.attributes:
        tensor = node.attributes["value"].as_tensor()
    else:
        # not for ``value``, whose tensor it would rename in the user's model
        found = ir.convenience.get_const_tensor(output)
        if found is None:
            raise UnsupportedModelError(f"In {what} the Constant node that produces {output.name!r} has no value.")
        tensor = found
    output.const_value, output.dtype, output.shape = tensor, tensor.dtype, ir.Shape(tensor.shape.numpy())
