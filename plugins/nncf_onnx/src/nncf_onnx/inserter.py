"""The target-point inserter: carries out transformations on onnx_ir models."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from nncf_core.contracts import CompressionRequest, Runner
from nncf_core.graph import Constant, Graph, Node
from nncf_core.hardware import QuantizationSetup
from nncf_core.numerics.tensor import CompressedTensor
from nncf_core.transformations import TargetPoint, Transformation

if TYPE_CHECKING:
    import numpy as np
    import onnx_ir as ir


class OnnxTargetPointInserter:
    """Changes ``onnx_ir.Model``; see :mod:`nncf_onnx.forms` for how compressed weights are written."""

    framework: ClassVar[str] = "onnx"

    def refusal(
        self, graph: Graph, constant: Constant, request: CompressionRequest, options: Mapping[str, Any]
    ) -> str | None:
        """Why a constant cannot be compressed in this way, with what would work; ``None`` when it can.

        :raises ValidationError: for unknown options.
        """
        from nncf_onnx.choice import refusal
        from nncf_onnx.options import write_options

        return refusal(graph, constant, request, write_options(options))

    def stored_bytes(
        self, graph: Graph, constant: Constant, tensor: CompressedTensor, options: Mapping[str, Any]
    ) -> int:
        """Bytes that a compressed constant will take: ONNX has no float16 scales for float32 activations.

        :raises ValidationError: for unknown options.
        """
        from nncf_onnx.choice import stored_bytes
        from nncf_onnx.options import write_options

        return stored_bytes(graph, constant, tensor, write_options(options))

    def apply(
        self,
        model: ir.Model,
        graph: Graph,
        transformations: Iterable[Transformation],
        options: Mapping[str, Any],
    ) -> ir.Model:
        """Change ``model`` in place and return it.

        :raises ValidationError: for unknown options, or when a transformation names what the model lacks.
        """
        from nncf_onnx.editing import apply
        from nncf_onnx.options import write_options

        return apply(model, graph, transformations, write_options(options))

    def prepare(self, model: ir.Model, options: Mapping[str, Any]) -> ir.Model:
        """Fold constants, normalization and arithmetic with constants, in place.

        :raises ValidationError: for unknown options.
        """
        from nncf_onnx.preparing import prepare

        return prepare(model, options)

    def finish(self, model: ir.Model, device: str, options: Mapping[str, Any]) -> ir.Model:
        """Let convolutions of few output channels fill the kernels of the device, in place.

        :raises ValidationError: for unknown options.
        """
        from nncf_onnx.options import prepare_options
        from nncf_onnx.quantization_setup import setup_for
        from nncf_onnx.wide_convolutions import widen

        width = setup_for(device).width
        if width is not None and prepare_options(options).widen_convolutions:
            widen(model, width)
        return model

    def shaped(self, model: ir.Model, graph: Graph) -> Graph:
        """With shapes that onnx infers."""
        from nncf_onnx.shapes import shaped

        return shaped(model, graph)

    def trial(self, model: ir.Model, graph: Graph, edits: Sequence[Transformation]) -> Sequence[np.ndarray] | None:
        """On random numbers; ``None`` where inputs are of other types than floating point.

        :raises UnsupportedModelError: when the copy does not run.
        """
        from nncf_onnx.trying import trial

        return trial(model, graph, edits)

    def takes_bias(self, model: ir.Model, graph: Graph, node: Node) -> bool:
        """Convolutions and Gemm have an operand for it, behind a MatMul it is added."""
        if node.scope or node.op_type not in ("Conv", "ConvTranspose", "Gemm", "MatMul"):
            return False
        return node.op_type == "MatMul" or (
            all(not port.tensor for port in node.inputs[2:]) and node.attributes.get("beta", 1.0) == 1.0
        )

    def takes_low_rank(self, model: ir.Model, graph: Graph, constant: str) -> bool:
        """Beside MatMul and Gemm without a factor, outside of the bodies of control flow."""
        from nncf_onnx.branches import takes_low_rank

        return takes_low_rank(graph, constant)

    def quantization_setup(self, device: str) -> QuantizationSetup:
        """What onnxruntime computes with integers on the CPU.

        :raises ParameterNotSupportedError: for other devices.
        """
        from nncf_onnx.quantization_setup import setup_for

        return setup_for(device)

    def extract(self, model: ir.Model, inputs: Sequence[TargetPoint], outputs: Sequence[TargetPoint]) -> ir.Model:
        """A sub-model from the input points to the output points, with outputs named ``str(target_point)``.

        :raises ValidationError: when a point does not exist, or an output does not depend on the inputs alone.
        """
        from nncf_onnx.extraction import extract

        return extract(model, inputs, outputs)

    def runner(self, model: ir.Model) -> Runner:
        """A callable that runs the model in onnxruntime on the CPU."""
        from nncf_onnx.running import runner

        return runner(model)

    def deployed(self, model: ir.Model) -> Any:
        """An ``onnxruntime.InferenceSession`` on the CPU, at onnxruntime's own settings."""
        from nncf_onnx.running import deployed

        return deployed(model)

    def usual_runner(self, model: ir.Model) -> Runner:
        """A callable that runs the model in onnxruntime on the CPU at onnxruntime's own settings."""
        from nncf_onnx.running import session_for

        return session_for(model, usual=True).run

    def sampling_runner(self, model: ir.Model, threads: int) -> Runner:
        """A callable that runs the model in onnxruntime on the CPU; each thread has its share of the cores."""
        from nncf_core.numerics.work import available_cores
        from nncf_onnx.running import session_for

        return session_for(model, threads=max(available_cores() // threads, 1)).run
