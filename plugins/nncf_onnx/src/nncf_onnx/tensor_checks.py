"""Whether a serialised tensor has the data that its shape and element type call for."""

from __future__ import annotations

import math

import onnx
import onnx_ir as ir

from nncf_core.errors import UnsupportedModelError

_TYPED_DATA = ("float_data", "int32_data", "string_data", "int64_data", "double_data", "uint64_data")
_COMPLEX = frozenset({onnx.TensorProto.COMPLEX64, onnx.TensorProto.COMPLEX128})
_KNOWN = frozenset(map(int, ir.DataType)) - {onnx.TensorProto.UNDEFINED}


def check_tensor(tensor: onnx.TensorProto, name: str, what: str) -> None:
    """Check a tensor of a model. Where its data is external, only the reference to it is looked at.

    :param what: name of the model, for messages.
    :raises UnsupportedModelError: naming the tensor.
    """
    if tensor.data_type not in _KNOWN:
        raise UnsupportedModelError(
            f"In {what} the tensor {name!r} has the element type {tensor.data_type}, which is not known; update onnx, "
            "or export the model again."
        )
    if any(dim < 0 for dim in tensor.dims):
        raise UnsupportedModelError(
            f"In {what} the tensor {name!r} has the shape {list(tensor.dims)}; sizes are 0 or more."
        )
    in_bytes = tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.HasField("raw_data")
    if in_bytes and tensor.data_type == onnx.TensorProto.STRING:
        raise UnsupportedModelError(
            f"In {what} the strings of tensor {name!r} are given as bytes; ONNX has them in string_data."
        )
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        _check_reference(tensor, name, what)
        return
    dtype, count = ir.DataType(tensor.data_type), math.prod(tensor.dims)
    if in_bytes:
        unit, needed, found = "bytes", -(-count * dtype.bitwidth // 8), len(tensor.raw_data)
    else:
        unit, needed = "stored numbers", count * (2 if tensor.data_type in _COMPLEX else 1)
        if dtype != ir.DataType.STRING and dtype.bitwidth < 8:
            needed = -(-count * dtype.bitwidth // 8)
        found = sum(len(getattr(tensor, field)) for field in _TYPED_DATA)
    if found != needed:
        raise UnsupportedModelError(
            f"In {what} the tensor {name!r} has {found} {unit}; its shape {list(tensor.dims)} and type {dtype.name} "
            f"need {needed}."
        )


def _check_reference(tensor: onnx.TensorProto, name: str, what: str) -> None:
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")
    if not location:
        raise UnsupportedModelError(
            f"In {what} the external data of tensor {name!r} has no location; save the model again (onnx.save_model)."
        )
    for key in ("offset", "length"):
        value = entries.get(key, "0")
        if not (value.isascii() and value.isdigit()):
            raise UnsupportedModelError(
                f"In {what} the external data {location!r} of tensor {name!r} has the {key} {value!r}, which is no "
                "number of bytes."
            )
