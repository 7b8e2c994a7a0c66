"""Which points of a module's graph are where a module takes its input, or gives its output."""

from __future__ import annotations

from torch import nn

from nncf_core.errors import ParameterNotSupportedError, ValidationError
from nncf_core.graph import FLOAT_DTYPES, Graph, Node, Port
from nncf_core.transformations import PointKind, TargetPoint
from nncf_torch import hook_tracing
from nncf_torch.edited_modules import multiplications_of
from nncf_torch.module_model import ModuleModel

_REMEDY = "Export the model and give the program (torch.export.export), in which every point can be edited."


def module_at(root: nn.Module, graph: Graph, point: TargetPoint) -> nn.Module:
    """The module whose only operator has a point at its boundary.

    :raises ValidationError: when the graph has no such point.
    :raises ParameterNotSupportedError: when the point lies inside of a module's ``forward``.
    """
    port = _port_at(graph, point)
    node = graph.node(point.node)
    path = path_of(node)
    modules: dict[str, nn.Module] = dict(root.named_modules(remove_duplicate=False))
    module = modules.get(path)
    if module is None or not path:
        raise ParameterNotSupportedError(f"The point {point} lies in the forward of the model itself. {_REMEDY}")
    if any(module.children()):
        raise ParameterNotSupportedError(f"The point {point} lies in the forward of the module {path!r}. {_REMEDY}")
    own = {edit.name for edit in multiplications_of(module)}
    inside = [other for other in graph if path_of(other) == path and other.name not in own]
    if len(inside) != 1:
        raise ParameterNotSupportedError(
            f"The module {path!r} runs {len(inside)} operators, so that {point} is not at its boundary alone. {_REMEDY}"
        )
    if point.kind is PointKind.INPUT and (port.constant is not None or _activations(node) != 1):
        raise ParameterNotSupportedError(f"The point {point} is not the only input of the module {path!r}. {_REMEDY}")
    return module


def is_boundary(root: nn.Module, graph: Graph, point: TargetPoint) -> bool:
    """Whether :func:`module_at` finds the module of a point."""
    try:
        module_at(root, graph, point)
    except ParameterNotSupportedError:
        return False
    return True


def runnable_point(model: ModuleModel, graph: Graph, point: TargetPoint) -> TargetPoint:
    """A point of a module's graph, checked for quantizers, which act on the functions that a run calls.

    :raises ValidationError: when the graph has no such point, or its tensor holds no floating-point numbers.
    :raises ParameterNotSupportedError: when a run calls no function of that name.
    """
    port = _port_at(graph, point)
    if port.dtype is not None and port.dtype not in FLOAT_DTYPES:
        raise ValidationError(f"The tensor at {point} cannot be quantized: its elements are of type {port.dtype}.")
    if graph.properties.get("trace") == "export":
        # torch.export takes some functions apart: only those that it does not are called by the same name
        called = hook_tracing.build(model)
        other = _port_at(called, point) if point.node in called else None
        if other is None or other.constant != port.constant or len(other.shape or ()) != len(port.shape or ()):
            raise ParameterNotSupportedError(
                f"The point {point} is inside of a function that the model calls; leave backend_params['trace'] at "
                "'hooks', or export the model and give the program (torch.export.export)."
            )
    return point


def _port_at(graph: Graph, point: TargetPoint) -> Port:
    node = graph.node(point.node) if point.node in graph else None
    ports = () if node is None else node.inputs if point.kind is PointKind.INPUT else node.outputs
    if not 0 <= point.port < len(ports):
        raise ValidationError(f"The model has no point {point}.")
    return ports[point.port]


def path_of(node: Node) -> str:
    """The path of the module that a node's name tells of."""
    return ".".join(node.name.split("/")[:-2])


def _activations(node: Node) -> int:
    return sum(port.constant is None for port in node.inputs)
