"""Models of old opsets, brought to one that has what compressed weights and quantizers need."""

from __future__ import annotations

import onnx
import onnx_ir as ir

from nncf_core.errors import UnsupportedVersionError
from nncf_core.log import nncf_logger
from nncf_onnx.opening import OLDEST_OPSET
from nncf_onnx.saving import LIMIT, stored_bytes

_ITS_IR_VERSION = 7


def converted(model: ir.Model, what: str) -> ir.Model:
    """The same model with the oldest opset that is supported; its weights are read into memory.

    :param what: name of the model, for messages.
    :raises UnsupportedVersionError: when onnx cannot convert it.
    """
    opset = model.graph.opset_imports[""]
    if stored_bytes(model) >= LIMIT:
        raise _unsupported(what, opset, "its weights exceed 2 GB")
    try:
        proto = onnx.version_converter.convert_version(ir.to_proto(model), OLDEST_OPSET)
        if proto.ir_version < _ITS_IR_VERSION:
            _leave_ir_3(proto)
        onnx.checker.check_model(proto)
    except Exception as error:
        # the converter raises RuntimeError, its own ConvertError and others
        raise _unsupported(what, opset, str(error).strip().split("\n")[0]) from None
    nncf_logger.info("%s had opset %d; the result has opset %d.", what, opset, OLDEST_OPSET)
    result = ir.from_proto(proto)
    result.meta.update(model.meta)
    return result


def _leave_ir_3(proto: onnx.ModelProto) -> None:
    """Before IR version 4 all initializers were inputs, too; since then such inputs may be replaced by callers."""
    if proto.ir_version < 4:
        constants = {tensor.name for tensor in proto.graph.initializer}
        kept = [value for value in proto.graph.input if value.name not in constants]
        del proto.graph.input[:]
        proto.graph.input.extend(kept)
    proto.ir_version = _ITS_IR_VERSION


def _unsupported(what: str, opset: int, reason: str) -> UnsupportedVersionError:
    return UnsupportedVersionError(
        f"{what} has opset {opset}; {OLDEST_OPSET} or later is needed, and onnx cannot convert it: {reason}. Export "
        f"the model with opset {OLDEST_OPSET} or later."
    )
