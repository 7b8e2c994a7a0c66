"""The target-point inserter: carries out transformations on OpenVINO models."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from nncf_core.contracts import CompressionRequest, Runner
from nncf_core.graph import Constant, Graph, Node, OpKind
from nncf_core.hardware import QuantizationSetup
from nncf_core.numerics.tensor import CompressedTensor
from nncf_core.transformations import TargetPoint, Transformation

if TYPE_CHECKING:
    import numpy as np

    from nncf_openvino.working import WorkingModel


class OpenVINOTargetPointInserter:
    """Changes working models; see :mod:`nncf_openvino.forms` for how compressed weights are written."""

    framework: ClassVar[str] = "openvino"

    def refusal(
        self, graph: Graph, constant: Constant, request: CompressionRequest, options: Mapping[str, Any]
    ) -> str | None:
        """Why a constant cannot be compressed in this way, with what would work; ``None`` when it can.

        :raises ValidationError: for unknown options.
        """
        from nncf_openvino.options import check_options
        from nncf_openvino.refusals import refusal

        check_options(options)
        return refusal(constant, request)

    def stored_bytes(
        self, graph: Graph, constant: Constant, tensor: CompressedTensor, options: Mapping[str, Any]
    ) -> int:
        """Bytes that a compressed constant will take; tables are kept with each of them."""
        from nncf_openvino.forms.emission import stored_bytes

        return stored_bytes(tensor)

    def apply(
        self,
        model: WorkingModel,
        graph: Graph,
        transformations: Iterable[Transformation],
        options: Mapping[str, Any],
    ) -> WorkingModel:
        """Change ``model`` in place and return it.

        :raises ValidationError: for unknown options, or when a transformation names what the model lacks.
        """
        from nncf_openvino.editing import apply
        from nncf_openvino.options import check_options

        check_options(options)
        return apply(model, graph, transformations)

    def shaped(self, model: WorkingModel, graph: Graph) -> Graph:
        """As it is: OpenVINO knows shapes."""
        return graph

    def trial(self, model: WorkingModel, graph: Graph, edits: Sequence[Transformation]) -> Sequence[np.ndarray] | None:
        """On random numbers; ``None`` where inputs are of other types than floating point.

        :raises UnsupportedModelError: when the copy does not run.
        """
        from nncf_openvino.trying import trial

        return trial(model, graph, edits)

    def takes_bias(self, model: WorkingModel, graph: Graph, node: Node) -> bool:
        """It is added behind layers whose result has a known number of axes."""
        shaped = bool(node.outputs) and node.outputs[0].shape is not None
        return not node.scope and shaped and node.kind in (OpKind.CONV, OpKind.CONV_TRANSPOSE, OpKind.MATMUL)

    def takes_low_rank(self, model: WorkingModel, graph: Graph, constant: str) -> bool:
        """Beside MatMul, outside of the bodies of control flow."""
        from nncf_openvino.branches import takes_low_rank

        return takes_low_rank(graph, constant)

    def prepare(self, model: WorkingModel, options: Mapping[str, Any]) -> WorkingModel:
        """Fold constants, normalization and arithmetic with constants in place, as OpenVINO's converter does.

        :raises ValidationError: for unknown options.
        """
        from nncf_openvino.options import wants_transformations
        from nncf_openvino.preparing import fold

        if wants_transformations(options):
            fold(model.model)
        return model

    def quantization_setup(self, device: str) -> QuantizationSetup:
        """What OpenVINO computes with integers.

        :raises ParameterNotSupportedError: for devices that are not known.
        """
        from nncf_openvino.quantization_setup import setup_for

        return setup_for(device)

    def extract(
        self, model: WorkingModel, inputs: Sequence[TargetPoint], outputs: Sequence[TargetPoint]
    ) -> WorkingModel:
        """A sub-model from the input points to the output points, with outputs named ``str(target_point)``.

        :raises ValidationError: when a point does not exist, or an output does not depend on the inputs alone.
        """
        from nncf_openvino.extraction import extract

        return extract(model, inputs, outputs)

    def runner(self, model: WorkingModel) -> Runner:
        """A callable that runs the model on the CPU."""
        from nncf_openvino.running import runner

        return runner(model)

    def sampling_runner(self, model: WorkingModel, threads: int) -> Runner:
        """A callable that runs the model on the CPU, in bfloat16 where the processor knows it."""
        from nncf_openvino.running import sampling_runner

        return sampling_runner(model, threads)

    def deployed(self, model: WorkingModel) -> Any:
        """An ``openvino.CompiledModel`` on the CPU; what is not quantized is computed in float32."""
        from nncf_openvino.running import deployed

        return deployed(model)

    def usual_runner(self, model: WorkingModel) -> Runner:
        """A callable that runs the model on the CPU at OpenVINO's own settings."""
        from nncf_openvino.running import session_for

        return session_for(model, usual=True).run

    def divisible(self, model: WorkingModel) -> WorkingModel | None:
        """A copy; none of a model that keeps state between runs, of which a part would lack one end."""
        from nncf_openvino.working import WorkingModel

        if model.model.get_sinks() or model.model.get_variables():
            return None
        return WorkingModel(model.model.clone(), inputs=model.inputs, outputs=model.outputs, kept=[*model.kept])
