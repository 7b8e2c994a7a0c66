"""The graph builder: opens, describes, gives back and saves OpenVINO models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from nncf_core.graph import Graph

if TYPE_CHECKING:
    import openvino as ov

    from nncf_openvino.working import WorkingModel


class OpenVINOGraphBuilder:
    """Reads ``openvino.Model`` and ``.xml`` files; works on a :class:`~nncf_openvino.working.WorkingModel`."""

    framework: ClassVar[str] = "openvino"
    title: ClassVar[str] = "OpenVINO"
    suffixes: ClassVar[tuple[str, ...]] = (".xml",)
    works_in_place: ClassVar[bool] = True

    def accepts(self, model: object) -> bool:
        """Whether this is an ``openvino.Model``; imports nothing."""
        names = {(cls.__module__.partition(".")[0], cls.__name__) for cls in type(model).__mro__}
        return ("openvino", "Model") in names

    def open(self, source: ov.Model | Path | str, options: Mapping[str, Any]) -> WorkingModel:
        """The working model.

        :raises InvalidPathError: when a file is missing, or the .bin file is a link out of the model's folder.
        :raises UnsupportedModelError: when the model is malformed.
        :raises UnsupportedVersionError: when its version is not supported.
        """
        from nncf_openvino.runtime import load

        load()
        from nncf_openvino import opening
        from nncf_openvino.options import works_in_place

        if isinstance(source, (str, Path)):
            return opening.open_path(Path(source))
        return opening.open_model(source, copy=not works_in_place(options))

    def build(self, model: WorkingModel) -> Graph:
        """The neutral graph."""
        from nncf_openvino.graph_building import build

        return build(model)

    def record(self, model: WorkingModel, algorithm: str, parameters: Mapping[str, Any]) -> None:
        """Write into the model's ``rt_info``, under ``nncf``, what was done."""
        from nncf_openvino.recording import record

        record(model.model, algorithm, parameters)

    def export(self, model: WorkingModel, source: ov.Model | Path | str) -> ov.Model:
        """An ``openvino.Model``."""
        from nncf_openvino.constants import owning

        return owning(model)

    def files(self, path: Path) -> Sequence[Path]:
        """The .xml file and the .bin file, where there is one."""
        weights = path.with_suffix(".bin")
        return (path, weights) if weights.exists() else (path,)

    def save(self, model: WorkingModel | ov.Model, path: Path) -> None:
        """Write an .xml file and a .bin file beside it.

        :raises ValidationError: when the path does not end in ``.xml``.
        :raises InvalidPathError: when the folder is missing or not writable, or the disk is full.
        """
        from nncf_openvino.saving import save
        from nncf_openvino.working import WorkingModel

        save(model.model if isinstance(model, WorkingModel) else model, Path(path))
