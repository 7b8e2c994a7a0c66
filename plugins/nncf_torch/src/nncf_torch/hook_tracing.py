"""The graph of an ``nn.Module`` by watching a run: every call of a torch function is a node.

It needs nothing of the model but that it runs, and knows of it what one run shows.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, cast

import torch
from attrs import define, field, frozen
from torch import nn
from torch.utils import _pytree as pytree

from nncf_core.errors import UnsupportedModelError, ValidationError
from nncf_core.graph import Graph, Node, OpKind, Port, Trait, WeightLayout, traits_of
from nncf_core.misfits import listed
from nncf_core.transformations import PointKind, TargetPoint
from nncf_torch.aten import is_padded, kind_with, layout_of
from nncf_torch.compressed_modules import CompressedModule, weightless_class, weights_of
from nncf_torch.deferring import Deferred, scripted, tensors_in
from nncf_torch.fitting import tensor_type
from nncf_torch.geometry import geometry_of
from nncf_torch.inputs import Call, bound, flat_names
from nncf_torch.layouts import before_view, linear_layout
from nncf_torch.masks import masks_of
from nncf_torch.module_model import ModuleModel
from nncf_torch.places import Place, constant_of, places
from nncf_torch.recurrent import forget_list, make_list
from nncf_torch.running import on_device
from nncf_torch.tensors import dtype_name
from nncf_torch.trained_weights import trainings_of
from nncf_torch.watching import Seen, watched_run

_VIEWS = frozenset({"t", "permute", "transpose", "numpy_T", "select", "mT", "__getitem__"})
_COPIES = frozenset({"to", "alias", "detach", "contiguous", "clone", "type", "float", "half", "bfloat16", "double"})


@frozen(eq=False)
class _Tensor:
    """What is known of a tensor: its name, or the constant that it is a view of.

    :param views: of the constant: the function, the rank of what it takes, and its arguments; the last one first.
    """

    name: str
    constant: Place | None = None
    views: tuple[tuple[str, int, tuple[Any, ...]], ...] = ()


class _Tensors:
    """What is known of tensors that are alive; it keeps none alive itself."""

    def __init__(self) -> None:
        self._entries: dict[int, tuple[_Tensor, weakref.ref[torch.Tensor]]] = {}

    def __setitem__(self, tensor: torch.Tensor, entry: _Tensor) -> None:
        key, entries = id(tensor), self._entries
        # ids are given again
        entries[key] = (entry, weakref.ref(tensor, lambda _: entries.pop(key, None)))

    def get(self, tensor: torch.Tensor) -> _Tensor | None:
        found = self._entries.get(id(tensor))
        return None if found is None else found[0]


@define(eq=False)
class _Recorder:
    """Makes nodes of calls.

    :param unseen: whether a call took a tensor that was made by code that no torch function shows.
    """

    known: _Tensors = field(factory=_Tensors)
    nodes: list[Node] = field(factory=list)
    ports: dict[str, Port] = field(factory=dict)
    unseen: bool = False

    def see(self, seen: Seen) -> None:
        rounded = self.known.get(seen.operands[0][1]) if seen.op_type == "fake_quantize" else None
        if rounded is not None and rounded.constant is not None:
            (tensor,) = seen.outputs
            self.known[tensor] = _Tensor(rounded.name, rounded.constant, rounded.views)
            return
        kind = _kind(seen)
        inputs = tuple(self._input(seen, position, tensor, kind) for position, tensor in seen.operands)
        if kind is OpKind.BATCH_NORM:
            # the function has the statistics first, ATen and the graph's contract scale and shift
            inputs = (inputs[0], *inputs[3:], *inputs[1:3])
        ports = []
        for index, tensor in enumerate(seen.outputs):
            name = f"{seen.name}/output" if len(seen.outputs) == 1 else f"{seen.name}/output/{index}"
            self.known[tensor] = self._result(seen, name, tensor)
            ports.append(self._port(name, tensor))
        # before the call, which may have changed the tensor in place
        shape = inputs[0].shape or ()
        positional = seen.arguments[: len(seen.arguments) - len(seen.named)]
        axes, moves, strides, equal = geometry_of(seen.op_type, cast(Any, shape), positional, seen.named)
        attributes = _attributes(seen, kind) | ({"equal_parts": True} if equal else {})
        self.nodes.append(
            Node(seen.name, seen.op_type, kind, inputs, tuple(ports), (), attributes, axes, moves, strides)
        )

    def note(self, tensor: torch.Tensor) -> None:
        """Know a tensor that a function made of no other; its name follows when it is used."""
        if self.known.get(tensor) is None:
            self.known[tensor] = _Tensor("")

    def _result(self, seen: Seen, name: str, tensor: torch.Tensor) -> _Tensor:
        source = self.known.get(seen.operands[0][1])
        if source is not None and source.constant is not None and tensor.is_floating_point():
            if seen.op_type in _COPIES:
                return _Tensor(name, source.constant, source.views)
            if seen.op_type in _VIEWS:
                view = (seen.op_type, seen.operands[0][1].dim(), seen.arguments)
                return _Tensor(name, source.constant, (view, *source.views))
        return _Tensor(name)

    def _input(self, seen: Seen, position: int, tensor: torch.Tensor, kind: OpKind) -> Port:
        found = self.known.get(tensor)
        if found is None or not found.name:
            self.unseen |= found is None
            found = self.known[tensor] = _Tensor(f"{seen.name}/unseen/{position}")
        if found.constant is None:
            return self._port(found.name, tensor)
        layout: WeightLayout | None = None
        if Trait.WEIGHTED in traits_of(kind):
            layout = _layout(seen, position, tensor)
            for step, rank, arguments in found.views:
                layout = layout and before_view(step, rank, arguments, layout)
        return Port(found.name, dtype_name(tensor.dtype), tuple(tensor.shape), found.constant.name, layout)

    def _port(self, name: str, tensor: torch.Tensor) -> Port:
        """The port of an activation: one for all who give and take it, as long as it is of one type and shape."""
        port, dtype = self.ports.get(name), dtype_name(tensor.dtype)
        if port is None or port.shape != tensor.shape or port.dtype != dtype:
            port = self.ports[name] = Port(name, dtype, tuple(tensor.shape))
        return port


def _kind(seen: Seen) -> OpKind:
    if "multi_head_attention" in seen.op_type:
        return OpKind.MATMUL
    return kind_with(seen.op_type, len(seen.operands))


def _attributes(seen: Seen, kind: OpKind) -> dict[str, object]:
    # the padding is the fifth argument; of keyword arguments, given in another order, only it can be zero
    known = kind is OpKind.CONV and len(seen.arguments) > 4
    return {"padded": is_padded(seen.arguments[4])} if known else {}


def _layout(seen: Seen, position: int, tensor: torch.Tensor) -> WeightLayout | None:
    if "multi_head_attention" in seen.op_type:
        # the products are inside; all its matrices are [outputs, inputs]
        return linear_layout(2) if tensor.dim() == 2 else None
    return layout_of(seen.op_type, position, tensor.dim(), seen.arguments)


def build(model: ModuleModel) -> Graph:
    """The neutral graph.

    :raises UnsupportedModelError: when the model does not run on its example input.
    """
    known = places(model.module)
    values = {
        (id(owner), attribute): getattr(owner, attribute)
        for place in known.values()
        for owner, attribute in place.owners
    }
    assert model.example is not None
    call = on_device(model.module, bound(model.module, model.example))
    leaves = [leaf for leaf in pytree.tree_leaves((call.args, dict(call.kwargs))) if isinstance(leaf, torch.Tensor)]
    inputs = list(zip(flat_names(model.module, call), leaves, strict=True))

    def recording() -> _Recorder:
        recorder = _Recorder()
        for place in known.values():
            for owner, attribute in place.owners:
                recorder.known[values[id(owner), attribute]] = _Tensor(place.name, place)
        for name, tensor in inputs:
            recorder.known[tensor] = _Tensor(name)
        for tensor in tensors_in([value for owner in model.module.modules() for value in vars(owner).values()]):
            recorder.note(tensor)
        return recorder

    with _plain_weights(model.module, values):
        recorder = recording()
        defers = not scripted(model.module)
        outputs = _recorded(model.module, call, recorder, inputs, defers=defers)
        if defers and recorder.unseen:
            # code that no torch function shows may have looked at values
            recorder = recording()
            outputs = _recorded(model.module, call, recorder, inputs, defers=False)
    constants = {name: constant_of(place) for name, place in known.items()}
    return Graph("torch", recorder.nodes, constants, {"trace": "hooks"}, outputs)


def _recorded(
    module: nn.Module, call: Call, recorder: _Recorder, inputs: Sequence[tuple[str, torch.Tensor]], *, defers: bool
) -> frozenset[str]:
    """Run a module for a recorder; gives the names of its outputs."""
    deferred = Deferred() if defers else None
    try:
        made = watched_run(module, call, recorder.see, note=recorder.note, deferred=deferred)
        found = (recorder.known.get(leaf) for leaf in pytree.tree_leaves(made))
        return frozenset(tensor.name for tensor in found if tensor is not None and tensor.name)
    except UnsupportedModelError as error:
        # its first line is what happened
        given = listed({name: tensor_type(leaf) for name, leaf in inputs})
        raise UnsupportedModelError(
            f"{str(error).partition(chr(10))[0]} It is given {given}, of the first item of the dataset where there is "
            "no other example: give an input that fits."
        ) from error
    finally:
        made = None
        if deferred is not None:
            deferred.finish()


@contextmanager
def _plain_weights(module: nn.Module, values: Mapping[tuple[int, str], torch.Tensor]) -> Iterator[None]:
    """While this lasts, compressed, trained and masked weights are attributes with the values that are computed with.

    :param values: by the owner's id and the weight's name.
    """
    changed: list[nn.Module] = [owner for owner in module.modules() if isinstance(owner, CompressedModule)]
    classes: list[type[nn.Module]] = [type(owner) for owner in changed]
    for owner in changed:
        names = [*weights_of(owner), *trainings_of(owner), *masks_of(owner)]
        owner.__class__ = weightless_class(owner)
        for name in names:
            owner.__dict__[name] = values[id(owner), name]
        make_list(owner)
    try:
        yield
    finally:
        for owner, cls in zip(changed, classes, strict=True):
            for name in (*weights_of(owner), *trainings_of(owner), *masks_of(owner)):
                owner.__dict__.pop(name, None)
            forget_list(owner)
            owner.__class__ = cls


@frozen(eq=False)
class Probe:
    """A working model of which tensors at points are wanted; a "sub-model" that runs the whole one.

    :param inputs: points whose tensors are fed; when there are none, the model's own inputs are.
    :param outputs: points whose tensors are given.
    """

    model: ModuleModel
    inputs: tuple[TargetPoint, ...]
    outputs: tuple[TargetPoint, ...]

    @property
    def example(self) -> Call:
        """An input of the model."""
        assert self.model.example is not None
        return bound(self.model.module, self.model.example)


def probe(model: ModuleModel, inputs: Sequence[TargetPoint], outputs: Sequence[TargetPoint]) -> Probe:
    """A sub-model, see :meth:`nncf_core.contracts.TargetPointInserter.extract`.

    :raises ValidationError: when a point does not exist.
    """
    graph = build(model)
    for point in (*inputs, *outputs):
        node = graph.node(point.node) if point.node in graph else None
        ports = () if node is None else node.inputs if point.kind is PointKind.INPUT else node.outputs
        if not 0 <= point.port < len(ports):
            raise ValidationError(f"The model has no point {point}.")
    return Probe(model, tuple(inputs), tuple(outputs))


def run_probe(
    wanted: Probe, call: Call, fed: Mapping[TargetPoint, torch.Tensor], *, partly: bool = False
) -> dict[str, torch.Tensor]:
    """The tensors at the points, by ``str(point)``.

    :param call: input of the model, also where tensors are fed: all of it is run.
    :param partly: whether it need not come by all points; the others are left out.
    :raises UnsupportedModelError: when it does not come by a point.
    """
    found: dict[TargetPoint, torch.Tensor] = {}
    nodes = {point.node for point in wanted.outputs}

    def see(seen: Seen) -> None:
        if seen.name not in nodes:
            return
        for kind, tensors in (
            (PointKind.INPUT, [tensor for _, tensor in seen.operands]),
            (PointKind.OUTPUT, seen.outputs),
        ):
            for port, tensor in enumerate(tensors):
                point = TargetPoint(seen.name, kind, port)
                if point in wanted.outputs:
                    found.setdefault(point, tensor.clone())

    watched_run(wanted.model.module, call, see, fed)
    missing = [str(point) for point in wanted.outputs if point not in found]
    if missing and not partly:
        raise UnsupportedModelError(f"On this input the model does not come by {', '.join(missing)}.")
    return {str(point): found[point] for point in wanted.outputs if point in found}
