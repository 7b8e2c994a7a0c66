"""The graph of an ``nn.Module`` by ``torch.export``, with the module's constants and its modules' names."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr
from io import StringIO
from typing import Any

import torch
from attrs import evolve
from torch import fx, nn
from torch.export import Dim, ExportedProgram
from torch.utils import _pytree as pytree

from nncf_core.errors import UnsupportedModelError
from nncf_core.graph import Graph, Node, Port
from nncf_core.log import nncf_logger
from nncf_torch import graph_describing
from nncf_torch.edited_modules import multiplications_of
from nncf_torch.graph_constants import way_back
from nncf_torch.graph_model import GraphModel, from_program
from nncf_torch.inputs import Call, bound
from nncf_torch.module_model import ModuleModel
from nncf_torch.naming import node_name
from nncf_torch.places import constant_of, places
from nncf_torch.quantizers import quantizers_of
from nncf_torch.running import evaluating


def exported(module: nn.Module, example: Call) -> ExportedProgram:
    """The program of a module in evaluation mode, with every dimension dynamic that can be.

    :raises UnsupportedModelError: when ``torch.export`` cannot make one.
    """
    call = bound(module, example)
    arguments = inspect.signature(module.forward).bind(*call.args, **call.kwargs).arguments
    shapes = {name: pytree.tree_map(_dynamic, value) for name, value in arguments.items()}
    failure: Exception | None = None
    with evaluating(module), torch.no_grad(), _quiet():
        for dynamic in (shapes, None):
            try:
                return torch.export.export(module, call.args, dict(call.kwargs), dynamic_shapes=dynamic, strict=False)
            except Exception as error:
                failure = failure or error
                nncf_logger.debug("torch.export failed%s: %s", "" if dynamic is None else " with dynamic shapes", error)
    reason = str(failure).strip().partition("\n")[0]
    raise UnsupportedModelError(f"torch.export cannot make a graph of the model: {reason}") from failure


@contextmanager
def _quiet() -> Iterator[None]:
    """While this lasts, torch tells nobody of the graph so far of a module that it makes none of; the error says it."""
    loggers = [logging.getLogger(name) for name in ("torch.export._trace", "torch.fx.experimental.symbolic_shapes")]
    for logger in loggers:
        logger.addFilter(_nothing)
    try:
        with redirect_stderr(StringIO()) as printed:
            yield
    finally:
        for logger in loggers:
            logger.removeFilter(_nothing)
        if printed.getvalue():
            nncf_logger.debug("torch.export printed: %s", printed.getvalue())


def _nothing(_: logging.LogRecord) -> bool:
    return False


def _dynamic(leaf: Any) -> Any:
    return dict.fromkeys(range(leaf.dim()), Dim.AUTO) if isinstance(leaf, torch.Tensor) else None


def traced(model: ModuleModel) -> GraphModel:
    """The module's graph; made anew after the module was changed.

    :raises UnsupportedModelError: when ``torch.export`` cannot make one.
    """
    if model.traced is None:
        assert model.example is not None
        program = exported(model.module, model.example)
        made = from_program(program)
        nodes = [node for _, node in made.inputs()]
        names = _input_names(model.module, model.example, len(nodes))
        made.input_names = dict(zip([node.name for node in nodes], names, strict=True)) if names else {}
        model.traced = made
    return model.traced


def _input_names(module: nn.Module, example: Call, count: int) -> list[str]:
    from nncf_torch.inputs import flat_names

    names = flat_names(module, bound(module, example))
    return names if len(names) == count else []


def build(model: ModuleModel) -> Graph:
    """The neutral graph."""
    graph_model = traced(model)
    graph = graph_describing.build(graph_model, namer(model))
    known = places(model.module)
    alias = aliases(model.module)
    renamed = {name: alias.get(name, name) for name in graph.constants}
    constants = {
        renamed[name]: constant_of(known[renamed[name]]) if renamed[name] in known else constant
        for name, constant in graph.constants.items()
    }
    nodes = [_renamed(node, renamed) for node in graph.nodes]
    return Graph("torch", nodes, constants, {"trace": "export"}, graph.outputs)


def aliases(module: nn.Module) -> dict[str, str]:
    """The name of a constant by every dotted name that leads to it."""
    held: dict[int, list[tuple[str, str]]] = {}
    for place in places(module).values():
        for owner, attribute in place.owners:
            held.setdefault(id(owner), []).append((attribute, place.name))
    return {
        f"{path}.{attribute}" if path else attribute: name
        for path, owner in module.named_modules(remove_duplicate=False)
        for attribute, name in held.get(id(owner), ())
    }


def _renamed(node: Node, names: Mapping[str, str]) -> Node:
    def port(old: Port) -> Port:
        if old.constant is None:
            return old
        tensor = names[old.constant] if old.tensor == old.constant else old.tensor
        return evolve(old, tensor=tensor, constant=names[old.constant])

    return evolve(node, inputs=tuple(port(old) for old in node.inputs))


def namer(model: ModuleModel) -> Any:
    """Names for the nodes of a module's graph: by the modules that run them, and as edits asked for."""
    edits = {
        f"{path}.{edit.buffer}" if path else edit.buffer: edit.name
        for path, module in model.module.named_modules(remove_duplicate=False)
        for edit in multiplications_of(module)
    }

    scales = {
        f"{path}.{quantizer.owner}.{quantizer.prefix}_scale".replace("..", ".").lstrip("."): quantizer.name
        for path, module in model.module.named_modules()
        for quantizer in quantizers_of(module)
    }

    def name(node: fx.Node, counts: dict[str, int]) -> str:
        # the last step of rounding to 8-bit floats multiplies by the scale
        op_type = graph_describing.op_type_of(node)
        if op_type.startswith("fake_quantize") or op_type == "mul":
            for source in way_back(node.args[1])[-1:]:
                if str(source.target) in scales:
                    return scales[str(source.target)]
        for source in node.all_input_nodes:
            if source.op == "get_attr" and str(source.target) in edits:
                return edits[str(source.target)]
        return node_name(module_path(node), op_type, counts)

    return name


def module_path(node: fx.Node) -> str:
    """The path of the module that ran a node."""
    stack = node.meta.get("nn_module_stack") or {}
    path = str(next(reversed(stack.values()))[0]) if stack else ""
    # "L['self'].layers.0" of the strict tracer, and "@2" of a module that is called again
    return path.removeprefix("L['self']").removeprefix(".").partition("@")[0]
