"""Runs that only show which functions a model calls: products with weights, which take most of the time, are left out.

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
    "__and__ __eq__ __ge__ __gt__ __iand__ __invert__ __ior__ __le__ __lt__ __ne__ __neg__ __or__ __pow__ __rpow__ "
    "__xor__ abs_ bitwise_and bitwise_not bitwise_or ceil copy_ cumsum eq exp_ expm1 floor floor_divide full_like ge "
    "gt isfinite isinf isnan le lerp log1p log2 logical_and logical_not logical_or lt masked_fill masked_fill_ maximum "
    "minimum ne neg_ ones_like outer remainder round sign tril triu zeros_like"
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
    """Zeros in the place of ``linear(x, weight)``; ``None`` for all that has to be computed, or fails.

    :return: shape [..., outputs] for inputs [..., inputs] and a weight [outputs, inputs].
    """
    if op_type != "linear" or kwargs or not 2 <= len(args) <= 3:
        return None
    inputs, weight = args[:2]
    if type(inputs) is not torch.Tensor or type(weight) not in (torch.Tensor, nn.Parameter):
        return None
    alike = inputs.dtype == weight.dtype and inputs.device == weight.device and inputs.is_floating_point()
    if not alike or weight.dim() != 2 or inputs.dim() == 0 or inputs.shape[-1] != weight.shape[1]:
        return None
    if torch.is_autocast_enabled(inputs.device.type):
        return None
    return inputs.new_zeros((*inputs.shape[:-1], weight.shape[0]))
