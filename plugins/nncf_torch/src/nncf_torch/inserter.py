"""The target-point inserter: carries out transformations on PyTorch models."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

from nncf_core.contracts import CompressionRequest, Runner
from nncf_core.graph import Constant, Graph
from nncf_core.transformations import TargetPoint, Transformation


class TorchTargetPointInserter:
    """Changes working models; see :mod:`nncf_torch.stored` for how compressed weights are kept."""

    framework: ClassVar[str] = "torch"

    def refusal(
        self, graph: Graph, constant: Constant, request: CompressionRequest, options: Mapping[str, Any]
    ) -> str | None:
        """Why a constant cannot be compressed in this way, with what would work; ``None`` when it can."""
        from nncf_torch.refusals import refusal

        return refusal(graph, constant)

    def apply(
        self, model: Any, graph: Graph, transformations: Iterable[Transformation], options: Mapping[str, Any]
    ) -> Any:
        """Change ``model`` in place and return it.

        :raises ValidationError: when a transformation names what the model lacks.
        """
        from nncf_torch.module_editing import apply

        return apply(model, graph, transformations)

    def extract(self, model: Any, inputs: Sequence[TargetPoint], outputs: Sequence[TargetPoint]) -> Any:
        """A sub-model."""
        raise NotImplementedError

    def runner(self, model: Any) -> Runner:
        """A callable that runs the model."""
        raise NotImplementedError
