"""The target-point inserter: carries out transformations on PyTorch models."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from nncf_core.contracts import CompressionRequest, Runner
from nncf_core.dataset import Dataset
from nncf_core.errors import ParameterNotSupportedError
from nncf_core.graph import FLOAT_DTYPES, Constant, Graph, Node
from nncf_core.hardware import QuantizationSetup
from nncf_core.numerics.formats import FORMATS
from nncf_core.numerics.tensor import CompressedTensor
from nncf_core.transformations import TargetPoint, Transformation

if TYPE_CHECKING:
    import numpy as np
    from torch import nn

    from nncf_torch.graph_model import GraphModel
    from nncf_torch.hook_tracing import Probe
    from nncf_torch.module_model import ModuleModel
    from nncf_torch.training import TrainedModule


class TorchTargetPointInserter:
    """Changes working models; see :mod:`nncf_torch.stored` for how compressed weights are kept."""

    framework: ClassVar[str] = "torch"

    def refusal(
        self, graph: Graph, constant: Constant, request: CompressionRequest, options: Mapping[str, Any]
    ) -> str | None:
        """``None``: every format can be stored for every weight."""
        return None

    def training_refusal(
        self, graph: Graph, constant: Constant, request: CompressionRequest, options: Mapping[str, Any]
    ) -> str | None:
        """Integers of 2 to 8 bits can be trained, in modules."""
        number_format = FORMATS.get(request.format)
        if number_format is None or number_format.family != "integer":
            integers = ", ".join(name for name, known in FORMATS.items() if known.family == "integer")
            return f"the PyTorch backend trains {integers}, not {request.format}; choose a mode with one of these."
        if graph.properties.get("model") == "program":
            return "programs are not trained; give the torch.nn.Module that this one was made from."
        return None

    def mask_refusal(self, graph: Graph, constant: str) -> str | None:
        """Parameters of modules can have masks, one each, while they are floating-point numbers."""
        if graph.properties.get("model") == "program":
            return "programs are not trained; give the torch.nn.Module that this one was made from"
        found = graph.constants[constant]
        if found.masked:
            return "it has a mask already"
        if found.dtype not in FLOAT_DTYPES or (found.compressed_format is not None and not found.stored_as_float):
            return "it is not stored as floating-point numbers"
        return None

    def trained(
        self, model: Any, original: Any, dataset: Dataset[Any, Any] | None, *, new: bool = True
    ) -> TrainedModule:
        """Handles of a working model.

        :raises UnsupportedModelError: for programs.
        """
        from nncf_torch.training import trained

        return trained(model, original, dataset, new=new)

    def resumed(self, model: Any, dataset: Dataset[Any, Any] | None = None) -> TrainedModule:
        """Handles of a module that is in training already.

        :raises UnsupportedModelError: for programs.
        """
        from nncf_torch.training import resumed

        return resumed(model, dataset)

    def restored(self, original: Any, description: Mapping[str, Any], options: Mapping[str, Any]) -> ModuleModel:
        """A working model to which was done what :func:`nncf.torch.get_config` told.

        :raises ValidationError: when it is of another model.
        """
        from nncf_torch.training import restored

        return restored(original, description, options)

    def stored_bytes(
        self, graph: Graph, constant: Constant, tensor: CompressedTensor, options: Mapping[str, Any]
    ) -> int:
        """Bytes that a compressed constant will take; tables are kept with each of them."""
        from nncf_torch.stored import encoded_bytes

        return encoded_bytes(tensor)

    def apply(
        self,
        model: ModuleModel | GraphModel,
        graph: Graph,
        transformations: Iterable[Transformation],
        options: Mapping[str, Any],
    ) -> ModuleModel | GraphModel:
        """Change ``model`` in place and return it.

        :raises ValidationError: when a transformation names what the model lacks.
        """
        from nncf_torch.editing import apply

        return apply(model, graph, transformations)

    def shaped(self, model: ModuleModel | GraphModel, graph: Graph) -> Graph:
        """As it is: a run shows all shapes."""
        return graph

    def trial(
        self, model: ModuleModel | GraphModel, graph: Graph, edits: Sequence[Transformation]
    ) -> Sequence[np.ndarray] | None:
        """On the example input, or that of a program.

        :raises UnsupportedModelError: when the copy does not run.
        """
        from nncf_torch.trying import trial

        return trial(model, graph, edits)

    def hessian_traces(
        self,
        model: ModuleModel | GraphModel,
        names: Sequence[str],
        samples: int,
        vectors: int,
        tolerance: float,
        options: Mapping[str, Any],
    ) -> Mapping[str, float]:
        """Traces of the loss that the training script registered.

        :raises ParameterNotSupportedError: when there is none, and for programs.
        """
        from nncf_torch.module_model import ModuleModel

        given = options.get("precision_init")
        if given is None or not isinstance(model, ModuleModel):
            raise ParameterNotSupportedError(
                "Traces of the Hessian are those of a loss: give one to nncf.torch.register_default_init_args "
                "(criterion=...) and train a module (nncf.torch.create_compressed_model), or give traces "
                "(traces_per_layer_path), or bits by names."
            )
        from nncf_torch.hessian import traces

        return traces(model, names, given, samples, vectors, tolerance)

    def takes_multiplication(self, model: ModuleModel | GraphModel, graph: Graph, point: TargetPoint) -> bool:
        """At all points of a program; otherwise where a module that runs one operator takes its input or gives."""
        from nncf_torch.boundaries import is_boundary
        from nncf_torch.graph_model import GraphModel

        return isinstance(model, GraphModel) or is_boundary(model.module, graph, point)

    def takes_bias(self, model: ModuleModel | GraphModel, graph: Graph, node: Node) -> bool:
        """In a program all layers do; otherwise modules with a place for a bias, which run once."""
        from nncf_torch.biases import takes_bias

        return takes_bias(model, graph, node)

    def takes_low_rank(self, model: ModuleModel | GraphModel, graph: Graph, constant: str) -> bool:
        """In a program beside all products; otherwise beside Linear modules, which run once."""
        from nncf_torch import branches, graph_editing
        from nncf_torch.graph_model import GraphModel

        if isinstance(model, GraphModel):
            return graph_editing.takes_low_rank(graph, constant)
        return branches.takes_low_rank(model.module, graph, constant)

    def quantization_setup(self, device: str) -> QuantizationSetup:
        """What OpenVINO computes with integers when the model is converted.

        :raises ParameterNotSupportedError: for devices that are not known.
        """
        from nncf_torch.quantization_setup import setup_for

        return setup_for(device)

    def prepare(self, model: ModuleModel | GraphModel, options: Mapping[str, Any]) -> ModuleModel | GraphModel:
        """Fold batch normalization into the layers before it, unless the option ``fold_batch_norm`` is false.

        :raises UnsupportedDatasetError: for a module without an example input.
        :raises ValidationError: for a module that is not to be run.
        """
        from nncf_torch.preparing import prepare

        return prepare(model, options)

    def extract(
        self, model: ModuleModel | GraphModel, inputs: Sequence[TargetPoint], outputs: Sequence[TargetPoint]
    ) -> GraphModel | Probe:
        """A sub-model from the input points to the output points, with outputs named ``str(target_point)``.

        :raises ValidationError: when a point does not exist, or an output does not depend on the inputs alone.
        """
        from nncf_torch.extraction import extract

        return extract(model, inputs, outputs)

    def divisible(self, model: ModuleModel | GraphModel) -> GraphModel | None:
        """A program, or that of a module where ``torch.export`` makes one of it on its example input."""
        from nncf_torch.dividing import divisible

        return divisible(model)

    def deployed(self, model: ModuleModel | GraphModel) -> nn.Module:
        """A module in evaluation mode; of a program, the one that it is."""
        from nncf_torch.opening import deployed

        return deployed(model)

    def runner(self, model: ModuleModel | GraphModel | Probe) -> Runner:
        """A callable that runs the model in evaluation mode."""
        from nncf_torch.running import runner

        return runner(model)
