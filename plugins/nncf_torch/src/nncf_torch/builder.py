"""The graph builder: opens, describes, gives back and saves PyTorch models."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from nncf_core.graph import Graph

if TYPE_CHECKING:
    from nncf_torch.module_model import ModuleModel


class TorchGraphBuilder:
    """Reads ``torch.nn.Module``, ``torch.fx.GraphModule``, ``torch.export.ExportedProgram`` and ``.pt2`` files."""

    framework: ClassVar[str] = "torch"
    title: ClassVar[str] = "PyTorch"
    suffixes: ClassVar[tuple[str, ...]] = (".pt2",)
    traces: ClassVar[bool] = True

    def accepts(self, model: object) -> bool:
        """Whether this is a module or an exported program; imports nothing."""
        names = {(cls.__module__, cls.__name__) for cls in type(model).__mro__}
        kinds = {("torch.nn.modules.module", "Module"), ("torch.export.exported_program", "ExportedProgram")}
        return bool(names & kinds)

    def open(self, source: Any, options: Mapping[str, Any]) -> ModuleModel:
        """The working model."""
        from nncf_torch.opening import open_model

        return open_model(source, options)

    def build(self, model: ModuleModel) -> Graph:
        """The neutral graph."""
        from nncf_torch.structure import build

        return build(model.module)

    def export(self, model: ModuleModel, source: Any) -> Any:
        """A model of the kind that was given."""
        return model.module

    def save(self, model: Any, path: Path) -> None:
        """Write a ``.pt2`` file."""
        raise NotImplementedError
