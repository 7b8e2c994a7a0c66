"""Working models, and models of the user's kind again."""

from __future__ import annotations

import copy
import logging
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import fx, nn
from torch.export import ExportedProgram

from nncf_core.errors import InvalidPathError, UnsupportedModelError
from nncf_core.files import replacing
from nncf_core.memory import is_of_memory
from nncf_torch.graph_model import GraphModel, copied_graph, from_program, to_program
from nncf_torch.inputs import call_of
from nncf_torch.module_model import ModuleModel
from nncf_torch.options import read_options
from nncf_torch.sharing import shared_copy


def open_model(source: Any, options: Mapping[str, Any]) -> ModuleModel | GraphModel:
    """The working model of a source, see :meth:`nncf_core.contracts.GraphBuilder.open`."""
    chosen = read_options(options)
    if isinstance(source, torch.jit.ScriptModule):
        raise UnsupportedModelError(
            f"{type(source).__name__} is a TorchScript module, whose weights cannot be replaced. Give the module that "
            "it was made from, and script or trace the result."
        )
    if isinstance(source, (str, Path)):
        return from_program(_load(Path(source)))
    if isinstance(source, ExportedProgram):
        return from_program(source)
    if isinstance(source, fx.GraphModule) and is_aten(source):
        copied = shared_copy(source)
        assert isinstance(copied, fx.GraphModule)
        graph = copied_graph(source.graph)
        return GraphModel(fx.GraphModule(copied, graph))
    example = None if chosen.example_input is None else call_of(chosen.example_input)
    return ModuleModel(shared_copy(source), chosen.trace, example)


def is_aten(module: fx.GraphModule) -> bool:
    """Whether a graph consists of operators and tensors, as ``torch.export`` makes it, not of calls of modules."""
    # torch.export puts checks of the input into a module that gives nothing
    calls = [node for node in module.graph.nodes if node.op in ("call_method", "call_module") and node.users]
    operators = [node.target for node in module.graph.nodes if node.op == "call_function"]
    return not calls and any(isinstance(target, torch._ops.OpOverload) for target in operators)


def export_model(model: ModuleModel | GraphModel, source: Any) -> Any:
    """A model of the kind that the user gave."""
    if isinstance(model, ModuleModel):
        return model.module
    if model.program is not None:
        return to_program(model)
    result = model.copy().module
    result.meta.update(copy.copy(getattr(source, "meta", {})))
    result.train(getattr(source, "training", False))
    return result


def deployed(model: ModuleModel | GraphModel) -> nn.Module:
    """The model as a module in evaluation mode."""
    if isinstance(model, ModuleModel):
        return model.module.eval()
    if model.program is not None:
        return to_program(model).module()  # which is not trained: it has no other mode
    return model.copy().module.eval()


def save_model(model: Any, path: Path) -> None:
    """Write a ``.pt2`` file."""
    program = _program(model)
    # into an open file: the archive would be called as the (temporary) file is
    with replacing(path) as temporary, temporary.open("wb") as file:
        torch.export.save(program, file)


def _program(model: Any) -> ExportedProgram:
    if isinstance(model, ExportedProgram):
        return model
    if isinstance(model, GraphModel) and model.program is not None:
        return to_program(model)
    if isinstance(model, ModuleModel) and model.example is not None:
        from nncf_torch.module_tracing import exported

        return exported(model.module, model.example)
    raise UnsupportedModelError(
        "Only exported programs can be saved as .pt2: give a torch.export.ExportedProgram, or an example input. Of "
        "other models save state_dict() and nncf.torch.get_config(model)."
    )


_EXPORT = "Export the model: torch.export.save(torch.export.export(model.eval(), (example_input,)), 'model.pt2')."


def _told_by_names(path: Path) -> str:
    """What a file seems to be that is no program, and what to do: told by the names in its archive, of which none is
    unpickled."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except (OSError, ValueError, zipfile.BadZipFile):
        return "It may be cut off, or no exported program at all: copy or export it again."
    names = {each.filename.partition("/")[2] for each in members}
    # of a file that is cut off, zipfile finds an archive that is in it
    if "archive_format" in names or not any(each.header_offset == 0 for each in members):
        return "It may be cut off or damaged: copy or export it again."
    if "constants.pkl" in names:
        return f"It seems to be of torch.jit.save, whose weights cannot be replaced. {_EXPORT}"
    if "data.pkl" in names:
        return f"It seems to be of torch.save, such as a state_dict, which holds no operators. {_EXPORT}"
    return f"It is an archive of something else. {_EXPORT}"


def _load(path: Path) -> ExportedProgram:
    if not path.is_file():
        raise InvalidPathError(f"There is no model file {path}.")
    # torch logs the traceback of what is wrong, tries an older format, and raises an error that refers to the log
    causes: list[BaseException] = []
    torch_logger = logging.getLogger("torch.export")

    def keep(record: logging.LogRecord) -> bool:
        cause = record.exc_info[1] if record.exc_info else None
        if cause is not None:
            causes.append(cause)
        return cause is None

    torch_logger.addFilter(keep)
    try:
        return torch.export.load(path)
    except Exception as error:
        if any(map(is_of_memory, (error, *causes))):
            said = str((causes or [error])[0]) or "it cannot allocate any"
            raise MemoryError(f"PyTorch does not read {path}, {said}") from error
        reason = str((causes or [error])[0]).partition(". ")[0].strip().rstrip(".")
        raise UnsupportedModelError(f"{path} is not a readable .pt2 file: {reason}. {_told_by_names(path)}") from error
    finally:
        torch_logger.removeFilter(keep)
