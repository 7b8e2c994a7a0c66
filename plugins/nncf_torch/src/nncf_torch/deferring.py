"""Products with weights are left out of a run until somebody asks what they give.

Zeros stand for them, and calls that take such a tensor are kept. When the model asks for a value, or calls a function
whose results may have other shapes for other values, the kept calls are made in order, all tensors that are still there
get their true values, and from then on everything is computed. The same happens in the end when a tensor outlives the
run, in a cache for instance. So nobody sees a zero, and where nobody looks no product is computed.
"""

from __future__ import annotations

import gc
import sys
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from attrs import frozen
from torch import nn
from torch.utils import _pytree as pytree

from nncf_core.graph import OpKind
from nncf_torch.aten import kind_of

_NUMBER_FOR_NUMBER = (
    "__and__ __eq__ __floordiv__ __ge__ __gt__ __iand__ __invert__ __ior__ __le__ __lt__ __mod__ __ne__ __neg__ __or__ "
    "__pow__ __rpow__ __xor__ abs_ bitwise_and bitwise_not bitwise_or ceil copy_ eq exp_ expm1 floor floor_divide "
    "full_like ge gt isfinite isinf isnan le lerp log1p log2 logical_and logical_not logical_or lt masked_fill "
    "masked_fill_ maximum minimum ne neg_ ones_like remainder round sign where zeros_like"
)
_SHAPED = (
    "__setitem__ argsort cumsum expand_as flip gather index_select multi_head_attention_forward new_empty new_full "
    "new_ones new_zeros outer pad repeat_interleave reshape_as roll sort topk tril triu unfold view_as"
)
_WITHOUT_VALUES = (
    "__get__ __hash__ __len__ dim element_size get_device has_names is_complex is_contiguous is_floating_point numel "
    "size storage_offset stride"
)
_OF_ANY_TYPE = frozenset(f"{_NUMBER_FOR_NUMBER} {_WITHOUT_VALUES}".split())
_KNOWN = _OF_ANY_TYPE | frozenset(_SHAPED.split())
_KINDS = frozenset(OpKind) - {OpKind.OTHER, OpKind.CONTROL_FLOW, OpKind.QUANTIZE, OpKind.DEQUANTIZE}
_BY_VALUES = frozenset({"_grouped_mm", "grouped_mm", "embedding_bag"})
_TRAINED = frozenset({OpKind.BATCH_NORM, OpKind.NORMALIZATION})
_SHAPED_ONLY_BY = frozenset({"new_empty", "new_ones", "new_zeros", "ones_like", "zeros_like"})
_FIRST_SHAPED_BY = frozenset({"expand_as", "reshape_as", "to", "type_as", "view_as"})
_NOT_IN_PLACE = frozenset({"__index__", "__init__", "__int__", "__invert__", "__iter__"})
_PLAIN = (torch.Tensor, nn.Parameter)


@frozen(eq=False)
class _Result:
    """Stands for what a kept call gave."""

    number: int


@frozen(eq=False)
class _Kept:
    """A call with operands that are not computed yet.

    :param results: numbers of the tensors that it gave, in the order of the leaves.
    """

    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    keywords: dict[str, Any]
    results: tuple[int, ...]


class Deferred:
    """Calls functions for a run, and leaves out products as long as it can."""

    def __init__(self) -> None:
        self._kept: list[_Kept] = []
        # by id, which is given again: each leaves with its tensor
        self._numbers: dict[int, int] = {}
        self._tensors: dict[int, weakref.ref[torch.Tensor]] = {}
        self._operands: set[int] = set()
        self._settled = False

    def call(self, op_type: str, function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """What a function gives; zeros in the place of what depends on products that are left out."""
        if self._settled:
            return function(*args, **kwargs)
        tensors = list(tensors_in((*args, *kwargs.values())))
        told = () if op_type in _SHAPED_ONLY_BY else tensors[:1] if op_type in _FIRST_SHAPED_BY else tensors
        waiting = [tensor for tensor in told if id(tensor) in self._numbers]
        written = _written(op_type, args, kwargs)
        product = None if written else product_of(op_type, args, kwargs)
        if not waiting and product is None:
            if self._operands and any(_storage(tensor) in self._operands for tensor in written):
                self.settle()
            return function(*args, **kwargs)
        special = _special() or not all(map(_is_plain, tensors))
        # what a tensor held before it is written to could not be told afterwards
        lost = any(id(tensor) not in self._numbers for tensor in written)
        if special or lost or (waiting and _asks(op_type, args, kwargs, waiting)):
            self.settle()
            return function(*args, **kwargs)
        computed = {_storage(tensor) for tensor in tensors if id(tensor) not in self._numbers}
        output = function(*args, **kwargs) if product is None else product
        self._keep(function, args, kwargs, output, bool(written))
        if any(_storage(tensor) in computed for tensor in _leaves(output)):
            self.settle()  # what writes to the one would write to the other
        return output

    def _keep(self, function: Any, args: Sequence[Any], kwargs: Mapping[str, Any], output: Any, writes: bool) -> None:
        # as in the calls to come: their operands are told before results get numbers
        arguments, keywords = tuple(map(self._replaced, args)), {k: self._replaced(v) for k, v in kwargs.items()}
        results = tuple(map(self._number, _leaves(output)))
        if results or writes:
            self._kept.append(_Kept(function, arguments, keywords, results))

    def _replaced(self, value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            number = self._numbers.get(id(value))
            if number is not None:
                return _Result(number)
            self._operands.add(_storage(value))
            return value
        if isinstance(value, (list, tuple, dict)):
            return pytree.tree_map(self._replaced, value)
        return value

    def _number(self, tensor: torch.Tensor) -> int:
        key = id(tensor)
        if key not in self._numbers:
            number = len(self._tensors)
            self._numbers[key] = number
            self._tensors[number] = weakref.ref(tensor, lambda _: self._numbers.pop(key, None))
        return self._numbers[key]

    def settle(self) -> None:
        """Give every tensor that is still there its true values; nothing is left out from now on."""
        if self._settled:
            return
        self._settled = True
        last = {number: index for index, kept in enumerate(self._kept) for number in _numbers_of(kept)}
        values: dict[int, torch.Tensor] = {}
        with _plainly():
            for index, kept in enumerate(self._kept):
                arguments, keywords = pytree.tree_map(
                    lambda value: values[value.number] if isinstance(value, _Result) else value,
                    (kept.arguments, kept.keywords),
                )
                made = kept.function(*arguments, **keywords)
                values.update(zip(kept.results, _leaves(made), strict=True))
                del arguments, keywords, made
                for number in {*_numbers_of(kept), *kept.results}:
                    if last.get(number, index) <= index and self._tensors[number]() is None:
                        del values[number]
            for number, value in values.items():
                tensor = self._tensors[number]()
                if tensor is not None:
                    tensor.set_(value)  # type: ignore[call-overload]
        self._kept.clear()

    def finish(self) -> None:
        """Settle when tensors outlive the run."""
        if not self._settled and self._numbers:
            gc.collect()
            if self._numbers:
                self.settle()
        self._settled = True
        self._kept.clear()


def scripted(model: nn.Module) -> bool:
    """Whether a model has parts of TorchScript, or their code could call some: these look at values unseen."""
    parts = list(model.modules())
    if any(isinstance(part, torch.jit.ScriptModule) for part in parts):
        return True
    names = {type(part).__module__ for part in parts}
    code = [vars(sys.modules[name]) for name in names if name in sys.modules and not name.startswith("torch.")]
    return any(isinstance(value, torch.jit.ScriptFunction) for known in code for value in list(known.values()))


def product_of(op_type: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> torch.Tensor | None:
    """Zeros in the place of a product with a matrix; ``None`` for other functions, and for calls that may fail.

    :return: shape [..., outputs] for inputs [..., inputs].
    """
    if kwargs:
        return None
    match op_type, *args:
        case ["linear", inputs, weight, *bias] if len(bias) < 2:
            return _zeros(inputs, weight, 1, *bias)
        case ["matmul", inputs, matrix]:
            return _zeros(inputs, matrix, 0)
        case ["mm", inputs, matrix] if inputs.dim() == 2:
            return _zeros(inputs, matrix, 0)
        case ["addmm", bias, inputs, matrix] if inputs.dim() == 2:
            return _zeros(inputs, matrix, 0, bias)
    return None


def _zeros(inputs: Any, matrix: Any, axis: int, bias: Any = None) -> torch.Tensor | None:
    """Zeros for a product over the last axis of inputs and one of the two of a matrix."""
    operands = [inputs, matrix] if bias is None else [inputs, matrix, bias]
    if not all(isinstance(each, torch.Tensor) and _is_plain(each) for each in operands):
        return None
    if any(each.dtype != inputs.dtype or each.device != inputs.device for each in operands):
        return None
    if not inputs.is_floating_point() or matrix.dim() != 2 or inputs.dim() < 2:
        return None
    outputs = matrix.shape[1 - axis]
    if inputs.shape[-1] != matrix.shape[axis] or (bias is not None and bias.shape != (outputs,)):
        return None
    zeros: torch.Tensor = inputs.new_zeros((*inputs.shape[:-1], outputs))
    return zeros


def _asks(op_type: str, args: Sequence[Any], kwargs: Mapping[str, Any], waiting: Sequence[torch.Tensor]) -> bool:
    """Whether what a call gives tells more of tensors than their shapes; also for functions that are not known here."""
    kind = kind_of(op_type)
    if op_type in _BY_VALUES or (op_type not in _KNOWN and kind not in _KINDS):
        return True
    if op_type == "where" and len(args) + len(kwargs) < 3:
        return True  # the places that are true
    if (kind in _TRAINED or "dropout" in op_type) and any(value is True for value in (*args, *kwargs.values())):
        return True
    # as indices, sizes and masks they could say how much there is
    counts = op_type not in _OF_ANY_TYPE and kind is not OpKind.CAST
    return counts and not all(tensor.is_floating_point() for tensor in waiting)


def _written(op_type: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[torch.Tensor]:
    """The tensors that a call writes to."""
    dunder = op_type.startswith("__")
    in_place = op_type.endswith("_") and not dunder
    in_place |= op_type in ("__set__", "__setitem__") or (op_type.startswith("__i") and op_type not in _NOT_IN_PLACE)
    kind = kind_of(op_type)
    if kind in (OpKind.RELU, OpKind.ACTIVATION) or "dropout" in op_type:
        in_place |= any(value is True for value in (*args, *kwargs.values()))
    if kind is OpKind.EMBEDDING and (args[3] if len(args) > 3 else kwargs.get("max_norm")) is not None:
        return list(tensors_in(args))
    out = kwargs.get("out")
    return [*tensors_in(args[:1] if in_place else ()), *tensors_in(() if out is None else (out,))]


def tensors_in(values: Sequence[Any]) -> Iterator[torch.Tensor]:
    """The tensors among values, and in lists, tuples, dicts and slices of them."""
    for value in values:
        if isinstance(value, torch.Tensor):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from tensors_in(value)
        elif isinstance(value, dict):
            yield from tensors_in(tuple(value.values()))
        elif isinstance(value, slice):
            yield from tensors_in((value.start, value.stop, value.step))


def _leaves(output: Any) -> list[torch.Tensor]:
    if isinstance(output, torch.Tensor):
        return [output]
    return [leaf for leaf in pytree.tree_leaves(output) if isinstance(leaf, torch.Tensor)]


def _numbers_of(kept: _Kept) -> list[int]:
    leaves = pytree.tree_leaves((kept.arguments, kept.keywords))
    return [leaf.number for leaf in leaves if isinstance(leaf, _Result)]


def _storage(tensor: torch.Tensor) -> int:
    return int(tensor.untyped_storage()._cdata) if tensor.layout is torch.strided else id(tensor)


def _is_plain(tensor: torch.Tensor) -> bool:
    """Whether a tensor is of none of the kinds that compute by rules of their own."""
    wrapped = torch._C._functorch.is_functorch_wrapped_tensor(tensor)
    return type(tensor) in _PLAIN and tensor.layout is torch.strided and not wrapped and not tensor.is_inference()


def _special() -> bool:
    """Whether calls of this moment would do something else later."""
    autocast = torch.is_autocast_enabled("cpu") or torch.is_autocast_enabled("cuda")
    return autocast or torch.is_grad_enabled() or torch.is_inference_mode_enabled()


@contextmanager
def _plainly() -> Iterator[None]:
    """While this lasts, calls do what those that were kept would have done."""
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.no_grad())
        for device in ("cpu", "cuda"):
            if torch.is_autocast_enabled(device):
                stack.enter_context(torch.autocast(device, enabled=False))
        yield
