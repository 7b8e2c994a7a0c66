"""The graph builder: opens, describes, gives back and saves PyTorch models."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from nncf_core.graph import Graph

if TYPE_CHECKING:
    from nncf_torch.graph_model import GraphModel
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

    def check_item(self, item: Any, index: int) -> None:
        """Whether an item of a dataset may be an input.

        :raises UnsupportedDatasetError: when it is no tensor, array, or container of them, or has no values.
        """
        from nncf_torch.inputs import check_item

        check_item(item, index)

    def open(self, source: Any, options: Mapping[str, Any]) -> ModuleModel | GraphModel:
        """The working model.

        :raises InvalidPathError: when a file is missing.
        :raises UnsupportedModelError: when a file is not readable, or a module cannot be copied.
        :raises ValidationError: for unknown options.
        """
        from nncf_torch.opening import open_model

        return open_model(source, options)

    def build(self, model: ModuleModel | GraphModel) -> Graph:
        """The neutral graph.

        :raises UnsupportedModelError: when the model does not run on its example input.
        """
        from nncf_torch.describing import build

        return build(model)

    def export(self, model: ModuleModel | GraphModel, source: Any) -> Any:
        """A model of the kind that was given; of a path an ``ExportedProgram``."""
        from nncf_torch.opening import export_model

        return export_model(model, source)

    def save(self, model: Any, path: Path) -> None:
        """Write a ``.pt2`` file.

        :raises InvalidPathError: when the folder is missing or not writable.
        :raises UnsupportedModelError: for a module without an example input.
        """
        from nncf_torch.opening import save_model

        save_model(model, Path(path))
