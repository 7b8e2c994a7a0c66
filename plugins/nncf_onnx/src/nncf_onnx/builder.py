"""The graph builder: opens, describes, gives back and saves ONNX models."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from nncf_core.errors import NNCFError, UnsupportedModelError
from nncf_core.graph import Graph

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir


class OnnxGraphBuilder:
    """Reads ``onnx.ModelProto``, ``onnx_ir.Model`` and ``.onnx`` files; works on an ``onnx_ir.Model``."""

    framework: ClassVar[str] = "onnx"
    title: ClassVar[str] = "ONNX"
    suffixes: ClassVar[tuple[str, ...]] = (".onnx",)

    def accepts(self, model: object) -> bool:
        """Whether this is a ``ModelProto`` or an ``onnx_ir.Model``; imports nothing."""
        names = {(cls.__module__.partition(".")[0], cls.__name__) for cls in type(model).__mro__}
        return bool(names & {("onnx", "ModelProto"), ("onnx_ir", "Model")})

    def open(self, source: onnx.ModelProto | ir.Model | Path | str, options: Mapping[str, Any]) -> ir.Model:
        """The working model.

        :raises InvalidPathError: when a file is missing, or external data lies outside the model's folder.
        :raises UnsupportedModelError: when the model is malformed.
        :raises UnsupportedVersionError: when its opset is not supported.
        """
        import onnx

        from nncf_onnx import opening

        if isinstance(source, (str, Path)):
            with _valid_model(str(source)):
                return opening.open_path(Path(source))
        with _valid_model():
            if isinstance(source, onnx.ModelProto):
                return opening.open_proto(source, options)
            return opening.open_ir(source)

    def build(self, model: ir.Model) -> Graph:
        """The neutral graph.

        :raises UnsupportedModelError: when the model is not valid.
        """
        from nncf_onnx.graph_building import build

        with _valid_model():
            return build(model)

    def export(self, model: ir.Model, source: onnx.ModelProto | ir.Model | Path | str) -> onnx.ModelProto | ir.Model:
        """A ``ModelProto``, or an ``onnx_ir.Model`` where one was given or the weights exceed 2 GB."""
        import onnx_ir as ir

        from nncf_onnx.saving import LIMIT, stored_bytes

        if isinstance(source, ir.Model) or stored_bytes(model) >= LIMIT:
            return model
        with _valid_model():
            return ir.to_proto(model)

    def files(self, path: Path) -> Sequence[Path]:
        """The model and its external data."""
        from nncf_onnx.opening import external_files

        return (path, *(path.parent / name for name in sorted(external_files(path))))

    def save(self, model: ir.Model | onnx.ModelProto, path: Path) -> None:
        """Write a file, and external data beside it where the model had it, or needs it.

        :raises InvalidPathError: when the folder is missing or not writable, or the disk is full.
        :raises UnsupportedModelError: when a tensor does not have the data that its shape calls for.
        """
        import onnx
        import onnx_ir as ir

        from nncf_onnx.external import map_tensors
        from nncf_onnx.saving import save

        with _valid_model():
            if isinstance(model, onnx.ModelProto):
                model = ir.from_proto(model)
                map_tensors(model, Path.cwd(), None)
            save(model, Path(path))

    def streaming(self, model: ir.Model, path: Path) -> AbstractContextManager[None]:
        """Within the block, compressed weights go to the file as they come.

        :raises InvalidPathError: when the folder is missing or not writable, or the disk is full.
        """
        from nncf_onnx.saving import streaming

        return streaming(model, path)


@contextmanager
def _valid_model(what: str = "The model") -> Iterator[None]:
    """Turns what a damaged model makes onnx_ir raise (attributes or data of a wrong type) into one clear error."""
    try:
        yield
    except (NNCFError, OSError, MemoryError):
        raise
    except Exception as error:
        innermost: BaseException = error
        while innermost.__cause__ is not None:
            innermost = innermost.__cause__
        reason = str(innermost) or type(innermost).__name__
        raise UnsupportedModelError(f"{what} is not a valid ONNX model: {reason}") from error
