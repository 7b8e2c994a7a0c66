"""Watching an ``nn.Module`` run: every call of a torch function is seen, named, and told of."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FunctionType
from typing import Any

import torch
from attrs import frozen
from torch import nn
from torch.nn import functional
from torch.nn.modules import module as hooks
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from nncf_core.errors import UnsupportedModelError
from nncf_core.graph import OpKind
from nncf_core.transformations import PointKind, TargetPoint
from nncf_torch.aten import kind_of
from nncf_torch.deferring import Deferred
from nncf_torch.edited_modules import multiplications_of
from nncf_torch.inputs import Call
from nncf_torch.naming import node_name
from nncf_torch.quantizers import quantizers_of
from nncf_torch.rounded_weights import held
from nncf_torch.running import on_device, run_module

_NOT_NODES = {
    "__bool__", "__contains__", "__format__", "__get__", "__hash__", "__len__", "__repr__", "__set__", "__setitem__",
    "copy_", "data_ptr", "dim", "element_size", "get_autocast_dtype", "get_device", "has_names", "is_complex",
    "is_contiguous", "is_floating_point", "is_grad_enabled", "item", "numel", "numpy", "requires_grad_",
    "set_grad_enabled", "size", "storage_offset", "stride", "tolist",
}  # fmt: skip
# python functions take the table last, ATen first
_OPERANDS = {"embedding": (1, 0), "embedding_bag": (1, 0)}
_TYPES = {"__matmul__": "matmul", "__rmatmul__": "matmul"}


@frozen(eq=False)
class Seen:
    """One call of a torch function.

    :param name: of the node.
    :param op_type: name of the function.
    :param operands: position among the arguments, and tensor.
    :param outputs: tensors that it gave.
    :param arguments: all arguments in the order given, keyword arguments last.
    :param named: keyword arguments.
    """

    name: str
    op_type: str
    operands: tuple[tuple[int, torch.Tensor], ...]
    outputs: tuple[torch.Tensor, ...]
    arguments: tuple[Any, ...]
    named: Mapping[str, Any]


class Watch(TorchFunctionMode):
    """Names the calls of torch functions, tells of each, and replaces tensors at points.

    :param model: whose modules the names tell of.
    :param tell: is told of every call.
    :param fed: tensors that take the place of those at points.
    :param note: is told of tensors that calls of no node gave.
    :param deferred: calls the functions, where products may be left out.
    """

    def __init__(
        self,
        model: nn.Module,
        tell: Callable[[Seen], None],
        fed: Mapping[TargetPoint, torch.Tensor] | None = None,
        note: Callable[[torch.Tensor], None] | None = None,
        deferred: Deferred | None = None,
    ) -> None:
        super().__init__()
        self._tell, self._fed, self._note, self._deferred = tell, fed or {}, note, deferred
        self._paths: dict[int, str] = {}
        self._edits: dict[int, str] = {}
        for path, module in model.named_modules():
            self._paths[id(module)] = path
            for edit in multiplications_of(module):
                self._edits[id(module._buffers[edit.buffer])] = edit.name
            for quantizer in quantizers_of(module):
                scale, _ = held(module.get_submodule(quantizer.owner), quantizer.prefix)
                self._edits[id(scale)] = quantizer.name
        self._stack = [""]
        self._counts: dict[str, int] = {}

    @contextmanager
    def watching(self) -> Iterator[None]:
        """While this lasts, calls are seen."""
        enter = hooks.register_module_forward_pre_hook(self._enter)
        leave = hooks.register_module_forward_hook(self._leave, always_call=True)
        try:
            with self, warnings.catch_warnings():
                # modules that torch.compile gave are entered twice
                warnings.filterwarnings(
                    "ignore", message=r"Using `torch.compile\(module\)` when there are global hooks"
                )
                yield
        finally:
            enter.remove()
            leave.remove()

    def _enter(self, module: nn.Module, _: Any) -> None:
        self._stack.append(self._paths.get(id(module), self._stack[-1]))

    def _leave(self, module: nn.Module, _: Any, __: Any) -> None:
        if len(self._stack) > 1:
            self._stack.pop()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run a function, and tell of it."""
        kwargs = kwargs or {}
        seen = recognised(func, args, kwargs)
        if seen is None:
            output = self._called(func, args, kwargs)
            if self._note and isinstance(output, torch.Tensor):
                self._note(output)
            return output
        if is_self_attention(func, args):
            with self:
                return opened_attention(*args, **kwargs)
        op_type, operands = seen
        name = self._name(op_type, operands)
        if self._fed:
            args, kwargs = self._with_fed_inputs(name, args, kwargs)
            operands = _operands(op_type, args, kwargs)
        output = self._called(func, args, kwargs)
        if isinstance(output, torch.Tensor):
            output = self._with_fed_outputs(name, [output])[0]
            self._tell(Seen(name, op_type, tuple(operands), (output,), (*args, *kwargs.values()), kwargs))
            return output
        leaves, structure = pytree.tree_flatten(output)
        tensors = [index for index, leaf in enumerate(leaves) if isinstance(leaf, torch.Tensor)]
        if not tensors:
            return output
        outputs = self._with_fed_outputs(name, [leaves[index] for index in tensors])
        for index, tensor in zip(tensors, outputs, strict=True):
            leaves[index] = tensor
        self._tell(Seen(name, op_type, tuple(operands), tuple(outputs), (*args, *kwargs.values()), kwargs))
        return pytree.tree_unflatten(leaves, structure)

    def _called(self, func: Any, args: Any, kwargs: Any) -> Any:
        return (
            func(*args, **kwargs) if self._deferred is None else self._deferred.call(_type_of(func), func, args, kwargs)
        )

    def _with_fed_outputs(self, name: str, tensors: list[torch.Tensor]) -> list[torch.Tensor]:
        if not self._fed:
            return tensors
        points = (TargetPoint(name, PointKind.OUTPUT, port) for port in range(len(tensors)))
        return [self._fed.get(point, tensor) for point, tensor in zip(points, tensors, strict=True)]

    def _name(self, op_type: str, operands: Sequence[tuple[int, torch.Tensor]]) -> str:
        for _, tensor in operands if self._edits else ():
            if id(tensor) in self._edits:
                return self._edits[id(tensor)]
        return node_name(self._stack[-1], op_type, self._counts)

    def _with_fed_inputs(self, name: str, args: Any, kwargs: Any) -> tuple[Any, Any]:
        port = -1

        def change(leaf: Any) -> Any:
            nonlocal port
            if not isinstance(leaf, torch.Tensor):
                return leaf
            port += 1
            return self._fed.get(TargetPoint(name, PointKind.INPUT, port), leaf)

        changed: tuple[Any, Any] = pytree.tree_map(change, (args, kwargs))
        return changed


def recognised(func: Any, args: Any, kwargs: Any) -> tuple[str, list[tuple[int, torch.Tensor]]] | None:
    """The type of a call's node, and its operands with their positions; ``None`` when it is none."""
    op_type = _type_of(func)
    operands = [] if op_type in _NOT_NODES else _operands(op_type, args, kwargs)
    return (op_type, operands) if operands else None


def _type_of(func: Any) -> str:
    name = str(getattr(func, "__name__", func))
    return _TYPES.get(name, name)


def is_self_attention(func: Any, args: Any) -> bool:
    """Whether a call is one of ``multi_head_attention_forward`` whose products all have whole weights."""
    return func is functional.multi_head_attention_forward and args[0] is args[1] is args[2]


opened_attention = FunctionType(
    functional.multi_head_attention_forward.__code__,
    {**functional.multi_head_attention_forward.__globals__, "has_torch_function": lambda _: False},
    argdefs=functional.multi_head_attention_forward.__defaults__,
)
"""``multi_head_attention_forward``, whose inner functions are shown to torch function modes in place of itself."""


def _operands(op_type: str, args: Any, kwargs: Any) -> list[tuple[int, torch.Tensor]]:
    found = []
    order = _OPERANDS.get(op_type, ())
    for index, argument in enumerate((*args, *kwargs.values())):
        position = order[index] if index < len(order) else index
        if op_type == "einsum":
            position -= 1
        if isinstance(argument, torch.Tensor):
            found.append((position, argument))
        elif isinstance(argument, (list, tuple)):
            counted = kind_of(op_type) is not OpKind.RECURRENT
            leaves = ((inner if counted else position, leaf) for inner, leaf in enumerate(argument))
            found += [(place, leaf) for place, leaf in leaves if isinstance(leaf, torch.Tensor)]
    return found


def watched_run(
    module: nn.Module,
    call: Call,
    tell: Callable[[Seen], None],
    fed: Mapping[TargetPoint, torch.Tensor] | None = None,
    note: Callable[[torch.Tensor], None] | None = None,
    deferred: Deferred | None = None,
) -> Any:
    """What a model gives while a :class:`Watch`, which has these arguments, sees it run.

    :raises UnsupportedModelError: when it does not run on this input.
    """
    watch = Watch(module, tell, fed, note, deferred)
    # what the run itself does to its input is none of the model's functions
    call = on_device(module, call)
    try:
        with watch.watching():
            return run_module(module, call)
    except MemoryError:
        raise
    except Exception as error:
        raise UnsupportedModelError(f"The model does not run on its input: {str(error).rstrip('.')}.") from error
