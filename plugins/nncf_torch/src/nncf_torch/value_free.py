"""Runs that only show which functions a model calls: linear layers and attention, which take the time, are left out.

Zeros take their place. What a model calls must not depend on them, so a run goes on only through functions whose
results have the same shapes whatever the values are, and which tell Python no value; at the first other one it ends,
and the model is run with all its products.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from nncf_core.graph import OpKind
from nncf_torch.aten import kind_of

_NUMBER_FOR_NUMBER = (
    "__and__ __eq__ __floordiv__ __ge__ __gt__ __iand__ __invert__ __ior__ __le__ __lt__ __mod__ __ne__ __neg__ "
    "__or__ __pow__ __rpow__ __xor__ abs_ bitwise_and bitwise_not bitwise_or ceil copy_ cumsum eq exp_ expm1 "
    "floor floor_divide full_like ge gt isfinite isinf isnan le lerp log1p log2 logical_and logical_not "
    "logical_or lt masked_fill masked_fill_ maximum minimum ne neg_ ones_like outer remainder round sign tril "
    "triu zeros_like"
)
_SHAPED_AS_ANOTHER = "expand_as gather index_select reshape_as view_as"
_WITHOUT_VALUES = (
    "__get__ __hash__ __len__ __set__ dim element_size get_device has_names is_complex is_contiguous is_floating_point "
    "numel requires_grad_ size storage_offset stride"
)
_WHOLE_LAYERS = "multi_head_attention_forward"
_HARMLESS = frozenset(f"{_NUMBER_FOR_NUMBER} {_SHAPED_AS_ANOTHER} {_WITHOUT_VALUES} {_WHOLE_LAYERS}".split())
_MOVES = "argsort flip new_empty new_full new_ones new_tensor new_zeros pad repeat_interleave roll sort topk unfold"
_MOVING = frozenset(_MOVES.split())
_PLAIN_KINDS = frozenset(
    {
        OpKind.CONV, OpKind.CONV_TRANSPOSE, OpKind.MATMUL, OpKind.EMBEDDING, OpKind.ADD, OpKind.SUBTRACT,
        OpKind.MULTIPLY, OpKind.DIVIDE, OpKind.RELU, OpKind.ACTIVATION, OpKind.PERIODIC, OpKind.ATTENTION,
        OpKind.SOFTMAX, OpKind.BATCH_NORM, OpKind.LAYER_NORM, OpKind.NORMALIZATION, OpKind.MAX_POOL,
        OpKind.AVERAGE_POOL, OpKind.REDUCE, OpKind.CONCAT, OpKind.CAST, OpKind.RECURRENT,
    }
)  # fmt: skip
_MOVING_KINDS = frozenset({OpKind.SPLIT, OpKind.SHAPE_ONLY, OpKind.RESIZE})
_BY_VALUES = frozenset({"_grouped_mm", "grouped_mm", "embedding_bag"})
_INDICES = frozenset({torch.int64, torch.int32})


class NeedsValuesError(BaseException):
    """The model asks for values. No ``Exception``, for models that catch these."""


def needs_values(op_type: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    """Whether what a model does may depend on the values of a function's tensors; also of functions not known here."""
    arguments = (*args, *kwargs.values())
    if op_type in _HARMLESS or not any(_holds_tensor(argument) for argument in arguments):
        return False
    if op_type in ("__getitem__", "__setitem__"):
        return not _plain_index(args[1])
    if op_type == "where":
        return len(arguments) < 3  # the places that are true
    kind = kind_of(op_type)
    if op_type in _MOVING or kind in _MOVING_KINDS:
        # by how much, which no tensor may say
        return any(_holds_tensor(argument) for argument in arguments[1:])
    return kind not in _PLAIN_KINDS or op_type in _BY_VALUES


def _plain_index(index: Any) -> bool:
    """Whether an index picks as many elements whatever its tensors hold."""
    parts = index if isinstance(index, tuple) else (index,)
    return all(part.dtype in _INDICES if isinstance(part, torch.Tensor) else not _holds_tensor(part) for part in parts)


def _holds_tensor(argument: Any) -> bool:
    if isinstance(argument, slice):
        argument = (argument.start, argument.stop, argument.step)
    if isinstance(argument, dict):
        argument = tuple(argument.values())
    if isinstance(argument, (list, tuple)):
        return any(_holds_tensor(part) for part in argument)
    return isinstance(argument, torch.Tensor)


def without_product(op_type: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> torch.Tensor | None:
    """Zeros in the place of a product; ``None`` for functions that have to be computed, and for calls that may fail.

    :return: of ``linear(x, weight)`` shape [..., outputs] for inputs [..., inputs] and a weight [outputs, inputs], of
        products with matrices [inputs, outputs] the same; of ``scaled_dot_product_attention``
        [..., queries, features of the values].
    """
    if op_type == "scaled_dot_product_attention":
        return _attention(*args, **kwargs) if len(args) == 3 else None
    if kwargs:
        return None
    match op_type, *args:
        case ["linear", inputs, weight, *bias]:
            return _product(inputs, weight, 1, *bias)
        case ["matmul", inputs, matrix]:
            return _product(inputs, matrix, 0)
        case ["mm", inputs, matrix] if inputs.dim() == 2:
            return _product(inputs, matrix, 0)
        case ["addmm", bias, inputs, matrix] if inputs.dim() == 2:
            return _product(inputs, matrix, 0, bias)
    return None


def _product(inputs: Any, matrix: Any, axis: int, bias: Any = None) -> torch.Tensor | None:
    """Zeros for a product over the last axis of inputs and one of the two of a matrix."""
    if bias is not None and not (_alike(inputs, bias) and bias.dim() == 1):
        return None
    if not _alike(inputs, matrix) or matrix.dim() != 2 or inputs.dim() < 2 or inputs.shape[-1] != matrix.shape[axis]:
        return None
    outputs = matrix.shape[1 - axis]
    if bias is not None and bias.shape[0] != outputs:
        return None
    zeros: torch.Tensor = inputs.new_zeros((*inputs.shape[:-1], outputs))
    return zeros


def _attention(query: Any, key: Any, value: Any, attn_mask: Any = None, **_: Any) -> torch.Tensor | None:
    if not _alike(query, key, value) or not query.dim() == key.dim() == value.dim() > 2:
        return None
    fit = query.shape[:-2] == key.shape[:-2] == value.shape[:-2] and query.shape[-1] == key.shape[-1]
    if not fit or key.shape[-2] != value.shape[-2]:
        return None
    if attn_mask is not None and attn_mask.shape[-2:] != (query.shape[-2], key.shape[-2]):
        return None
    zeros: torch.Tensor = query.new_zeros((*query.shape[:-1], value.shape[-1]))
    return zeros


def _alike(first: Any, *others: Any) -> bool:
    """Whether these are plain tensors of one floating-point type on one device, and no autocast changes that."""
    if any(type(tensor) not in (torch.Tensor, nn.Parameter) for tensor in (first, *others)):
        return False
    if any(tensor.dtype != first.dtype or tensor.device != first.device for tensor in others):
        return False
    return first.is_floating_point() and not torch.is_autocast_enabled(first.device.type)
