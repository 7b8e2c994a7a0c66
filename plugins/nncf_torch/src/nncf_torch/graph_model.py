"""The working model of an ``ExportedProgram`` or an ATen ``GraphModule``: a graph whose constants are attributes."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from attrs import define, field
from torch import fx, nn
from torch.export import ExportedProgram, ModuleCallEntry
from torch.export.graph_signature import ConstantArgument, InputKind, InputSpec, TensorArgument

from nncf_core.errors import UnsupportedModelError

CONSTANTS = frozenset({InputKind.PARAMETER, InputKind.BUFFER, InputKind.CONSTANT_TENSOR})


@define(eq=False)
class GraphModel:
    """A graph that may be changed; its tensors are shared with the user's model.

    :param module: holds the graph, and tensors as attributes of (nested) plain modules.
    :param program: the exported program that it was made from; ``None`` for a ``GraphModule``.
    :param constant_inputs: inputs that are no tensors, with the only value that they may have.
    :param mutations: how many outputs, the first ones, are new values of buffers.
    :param input_names: names of inputs where they are not those of the placeholders.
    :param output_names: names of outputs where they do not follow from their structure.
    """

    module: fx.GraphModule
    program: ExportedProgram | None = None
    constant_inputs: Mapping[str, Any] = field(factory=dict)
    mutations: int = 0
    output_names: tuple[str, ...] | None = None
    input_names: Mapping[str, str] = field(factory=dict)

    @property
    def graph(self) -> fx.Graph:
        """The graph."""
        return self.module.graph

    def inputs(self) -> list[tuple[str, fx.Node]]:
        """Name and node of every input that is a tensor."""
        nodes = [n for n in self.graph.nodes if n.op == "placeholder" and n.name not in self.constant_inputs]
        return [(self.input_names.get(node.name, str(node.target)), node) for node in nodes]

    def tensor(self, target: str) -> torch.Tensor:
        """The tensor of a ``get_attr`` node."""
        found: Any = self.module
        for part in target.split("."):
            found = getattr(found, part)
        assert isinstance(found, torch.Tensor)
        return found

    def has(self, target: str) -> bool:
        """Whether the module has anything under a dotted name."""
        found: Any = self.module
        for part in target.split("."):
            if not hasattr(found, part):
                return False
            found = getattr(found, part)
        return True

    def put(self, target: str, tensor: torch.Tensor) -> None:
        """Let the module hold a tensor under a dotted name."""
        put_attribute(self.module, target, tensor)

    def drop(self, target: str) -> None:
        """Forget a tensor."""
        path, _, name = target.rpartition(".")
        owner = self.module.get_submodule(path)
        owner._parameters.pop(name, None)
        owner._buffers.pop(name, None)

    def copy(self) -> GraphModel:
        """A model that may be changed on its own; tensors are shared."""
        memo: dict[int, Any] = {}
        for node in self.graph.nodes:
            if node.op == "get_attr":
                tensor = self.tensor(str(node.target))
                memo[id(tensor)] = tensor
        module = fx.GraphModule(copy.deepcopy(_root_of(self.module), memo), copied_graph(self.graph))
        return GraphModel(
            module, self.program, self.constant_inputs, self.mutations, self.output_names, self.input_names
        )


def copied_graph(graph: fx.Graph) -> fx.Graph:
    """A graph with nodes of the same names; what they hold besides arguments is shared."""
    result = fx.Graph()
    env: dict[fx.Node, fx.Node] = {}
    for node in graph.nodes:
        env[node] = result.node_copy(node, lambda n: env[n])
        # node_copy may number names anew
        env[node].name = node.name
    result.set_codegen(graph._codegen)
    return result


def _root_of(module: fx.GraphModule) -> nn.Module:
    root = nn.Module()
    for attribute in ("_parameters", "_buffers", "_modules"):
        getattr(root, attribute).update(getattr(module, attribute))
    for name, value in module.__dict__.items():
        if isinstance(value, (torch.Tensor, nn.Module)):
            root.__dict__[name] = value
    return root


def put_attribute(root: nn.Module, target: str, tensor: torch.Tensor) -> None:
    """Register a tensor under a dotted name, in modules that are made where they are missing."""
    *path, name = target.split(".")
    owner = root
    for part in path:
        if part not in owner._modules:
            owner.add_module(part, nn.Module())
        child = owner._modules[part]
        assert child is not None
        owner = child
    owner._parameters.pop(name, None)
    owner._buffers.pop(name, None)
    if isinstance(tensor, nn.Parameter):
        owner._parameters[name] = tensor
    else:
        owner._buffers[name] = tensor


def from_program(program: ExportedProgram) -> GraphModel:
    """The working model of an exported program, which is not changed.

    :raises UnsupportedModelError: when the program takes objects or tokens.
    """
    graph = copied_graph(program.graph_module.graph)
    specs = {spec.arg.name: spec for spec in program.graph_signature.input_specs}
    root = nn.Module()
    for name, child in program.graph_module.named_children():
        root.add_module(name, child)
    mutated = set(program.graph_signature.buffers_to_mutate.values())
    mutated.update(str(specs[node.name].target) for node in graph.nodes if node.op == "placeholder" and _written(node))
    constant_inputs: dict[str, Any] = {}
    for node in list(graph.nodes):
        if node.op != "placeholder":
            continue
        spec = specs[node.name]
        if spec.kind is InputKind.USER_INPUT:
            if isinstance(spec.arg, ConstantArgument):
                constant_inputs[node.name] = spec.arg.value
            continue
        if spec.kind not in CONSTANTS or spec.target is None:
            raise UnsupportedModelError(f"The exported program takes {spec.kind.name} {spec.arg.name!r}, not a tensor.")
        held = program.state_dict if spec.target in program.state_dict else program.constants
        tensor = held[spec.target]
        if not isinstance(tensor, torch.Tensor):
            raise UnsupportedModelError(f"The constant {spec.target!r} of the exported program is not a tensor.")
        own = spec.kind is InputKind.BUFFER and spec.target in mutated
        put_attribute(root, spec.target, tensor.clone() if own else tensor)
        _become(graph, node, "get_attr", spec.target)
    # plain positional inputs, one for each placeholder; the program keeps the structure
    graph.set_codegen(fx.graph.CodeGen())
    module = fx.GraphModule(root, graph)
    return GraphModel(
        module,
        program,
        constant_inputs,
        len(program.graph_signature.output_specs) - len(program.graph_signature.user_outputs),
    )


def _written(node: fx.Node) -> bool:
    """Whether an operator may write to a tensor, such as the running statistics of a normalization."""
    schemas = [getattr(user.target, "_schema", None) for user in node.users]
    return any(schema is not None and (schema.is_mutable or "batch_norm" in schema.name) for schema in schemas)


def _become(graph: fx.Graph, node: fx.Node, op: str, target: str) -> fx.Node:
    """The same node with another operation, in its place."""
    name, meta = node.name, node.meta
    with graph.inserting_before(node):
        made = graph.create_node(op, target, name=f"{name}_")
    node.replace_all_uses_with(made)
    graph.erase_node(node)
    made.meta = dict(meta)
    made.name = name
    return made


def to_program(model: GraphModel) -> ExportedProgram:
    """The working model as an exported program again."""
    program = model.program
    assert program is not None
    working = model.copy()
    graph, old = working.graph, program.graph_signature
    known = {spec.target: spec for spec in old.input_specs if spec.target is not None}
    state, constants = dict(program.state_dict), dict(program.constants)
    specs: list[InputSpec] = []
    lifted: dict[str, fx.Node] = {}
    first = next(iter(graph.nodes))
    used = [
        node
        for node in graph.nodes
        if node.op == "get_attr" and not isinstance(_attribute(working.module, str(node.target)), fx.GraphModule)
    ]
    targets = dict.fromkeys(str(node.target) for node in used)
    for target in [t for t in known if t not in targets]:
        # replaced, or used by nobody any more
        state.pop(target, None)
        constants.pop(target, None)
    for node in used:
        target = str(node.target)
        if target in lifted:
            node.replace_all_uses_with(lifted[target])
            graph.erase_node(node)
            continue
        meta, name = node.meta, node.name
        with graph.inserting_before(first):
            made = graph.create_node("placeholder", f"{name}_", name=f"{name}_")
        node.replace_all_uses_with(made)
        if node is first:
            first = node.next
        graph.erase_node(node)
        made.meta, made.name, made.target = dict(meta), name, name
        lifted[target] = made
    order = {kind: rank for rank, kind in enumerate((InputKind.PARAMETER, InputKind.BUFFER, InputKind.CONSTANT_TENSOR))}
    entries = []
    for target, node in lifted.items():
        spec = known.get(target)
        if spec is None:
            trained = isinstance(working.tensor(target), nn.Parameter)
            kind = InputKind.PARAMETER if trained else InputKind.BUFFER
            spec = InputSpec(kind, TensorArgument(node.name), target, persistent=None if trained else True)
        entries.append((spec, node, target))
    entries.sort(key=lambda entry: order[entry[0].kind])
    for _, node, _ in reversed(entries):
        head = next(iter(graph.nodes))
        if head is not node:
            head.prepend(node)
    for spec, node, target in entries:
        specs.append(InputSpec(spec.kind, TensorArgument(node.name), target, spec.persistent))
        holder = constants if target in program.constants else state
        holder[target] = working.tensor(target)
    specs += [spec for spec in old.input_specs if spec.kind is InputKind.USER_INPUT]
    output = next(node for node in reversed(graph.nodes) if node.op == "output")
    outputs = [_renamed(spec, node) for spec, node in zip(old.output_specs, output.args[0], strict=True)]
    signature = type(old)(input_specs=specs, output_specs=outputs)
    root = nn.Module()
    for name, child in program.graph_module.named_children():
        root.add_module(name, child)
    graph.lint()
    module = fx.GraphModule(root, graph)
    module.meta = dict(program.graph_module.meta)
    return ExportedProgram(
        root=module,
        graph=module.graph,
        graph_signature=signature,
        state_dict=state,
        range_constraints=program.range_constraints,
        module_call_graph=_copied(program.module_call_graph),
        example_inputs=program.example_inputs,
        constants=constants,
        verifiers=list(program.verifiers),
    )


def _copied(calls: list[ModuleCallEntry]) -> list[ModuleCallEntry]:
    with warnings.catch_warnings():
        # torch's own objects warn of how torch looks at them
        warnings.filterwarnings("ignore", message=".*LeafSpec.*", category=FutureWarning)
        return copy.deepcopy(calls)


def _renamed(spec: Any, node: Any) -> Any:
    if isinstance(spec.arg, TensorArgument) and isinstance(node, fx.Node):
        return type(spec)(spec.kind, TensorArgument(node.name), spec.target)
    return spec


def _attribute(module: nn.Module, target: str) -> Any:
    found: Any = module
    for part in target.split("."):
        found = getattr(found, part)
    return found
