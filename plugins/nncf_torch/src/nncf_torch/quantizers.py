"""Quantizers of activations in a module: where they stand, and what lets them act while it runs.

The module's ``forward`` stays as it is. Calls of the module that was quantized are surrounded by a
:class:`~nncf_torch.quantizing_mode.QuantizingMode`, in which the functions that ``forward`` calls get and give
quantized tensors; so points inside of a ``forward`` are reached, and modules that run several times have quantizers of
their own for each time. Scale and zero point are parameters of the module that calls the function.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from attrs import frozen
from torch import fx, nn
from torch._C._dynamo.eval_frame import get_eval_frame_callback
from torch.overrides import _pop_mode_temporarily
from torch.utils import _pytree as pytree

from nncf_core.errors import ParameterNotSupportedError, UnsupportedModelError
from nncf_core.numerics.quantizer import Quantizer
from nncf_core.transformations import TargetPoint
from nncf_torch.compressed_modules import put_surrounding, read_once, surrounding_of
from nncf_torch.masks import count
from nncf_torch.rounded_weights import hold, tensors_of
from nncf_torch.tensors import device_of


@frozen
class PointQuantizer:
    """A quantizer.

    :param name: name of its node in the graph.
    :param point: where it stands.
    :param owner: path of the module that holds its scale and zero point.
    :param prefix: what their names there begin with.
    :param lo: smallest integer, or float.
    :param hi: largest integer, or float.
    :param axis: axis that the scales lie along; ``None`` when there is one scale.
    :param float8: number format of floats; ``None`` for integers.
    :param active: whether it acts, or lets tensors through.
    """

    name: str
    point: TargetPoint
    owner: str
    prefix: str
    lo: int
    hi: int
    axis: int | None
    float8: str | None = None
    active: bool = True


class Quantizing:
    """What surrounds the calls of a quantized module; it holds the quantizers."""

    def __init__(self) -> None:
        self.quantizers: tuple[PointQuantizer, ...] = ()

    def __call__(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> AbstractContextManager[None]:
        """While it lasts, quantizers act.

        :raises UnsupportedModelError: when ``torch.compile`` compiles the module, which would miss quantizers.
        """
        # the first holds while it traces this, the second when it has given up and runs it
        is_traced = torch.compiler.is_dynamo_compiling() or get_eval_frame_callback()
        if is_traced or module._compiled_call_impl is not None:
            raise UnsupportedModelError(
                "torch.compile does not see the quantizers of a module; compile what torch.export makes of it: "
                "torch.compile(torch.export.export(model, args).module())."
            )
        return self._acting(module, _samples_in((*args, *kwargs.values())))

    @contextmanager
    def _acting(self, module: nn.Module, samples: int) -> Iterator[None]:
        from nncf_torch.checkpointing import keep_quantizers
        from nncf_torch.quantizing_mode import QuantizingMode

        keep_quantizers()
        count(module)
        # the mode knows weights by the tensors that functions get
        with read_once(module), QuantizingMode(module, self.quantizers, samples).watching():
            yield


@contextmanager
def at_rest(module: nn.Module) -> Iterator[None]:
    """While this lasts, quantizers of a module that is running do not act: on another model that runs inside of it."""
    if not is_quantized(module):
        yield
        return
    with _pop_mode_temporarily():
        yield


def _samples_in(values: Any) -> int:
    """The length of the first axis of the first tensor that a module takes."""
    if torch.compiler.is_exporting() or torch._C._get_tracing_state() is not None:
        return 1  # of no use, and the number would become a constant
    found = (leaf for leaf in pytree.tree_leaves(values) if isinstance(leaf, torch.Tensor) and leaf.dim())
    return max(next((int(tensor.shape[0]) for tensor in found), 1), 1)


def is_quantized(module: nn.Module) -> bool:
    """Whether weights of a module are rounded, and activations quantized, when it runs."""
    return _quantizing(module) is not None


def quantizers_of(module: nn.Module) -> tuple[PointQuantizer, ...]:
    """The quantizers of activations that act when this very module runs."""
    found = _quantizing(module)
    return () if found is None else found.quantizers


def let_quantize(module: nn.Module) -> Quantizing:
    """Let quantizers act in the calls of a module, if they do not already.

    :raises ParameterNotSupportedError: for a graph of calls of modules, which forgets its hooks when it is copied.
    """
    if isinstance(module, fx.GraphModule):
        raise ParameterNotSupportedError(
            "A GraphModule that calls modules cannot hold quantizers; give the module that it was made of, or export "
            "it and give the program (torch.export.export)."
        )
    found = _quantizing(module)
    if found is None:
        found = Quantizing()
        put_surrounding(module, found)
    return found


def add_quantizer(root: nn.Module, name: str, point: TargetPoint, owner: str, quantizer: Quantizer) -> None:
    """Quantize the tensor at a point of a module from now on; behind quantizers that stand there already.

    :param owner: path of the module that runs the point's node.
    :raises ParameterNotSupportedError: see :func:`let_quantize`.
    """
    quantizing = let_quantize(root)
    module = root.get_submodule(owner)
    # the name of the function and its number, or the last parts of what an edit was to be called
    prefix = "_".join([*point.node.split("/")[-2:], point.kind.value, str(point.port)])
    while hasattr(module, f"{prefix}_scale"):
        prefix += "_"
    device = device_of(root)
    hold(module, prefix, *tensors_of(quantizer, device))
    made = PointQuantizer(name, point, owner, prefix, quantizer.lo, quantizer.hi, quantizer.axis, quantizer.float8)
    quantizing.quantizers = (*quantizing.quantizers, made)


def _quantizing(module: nn.Module) -> Quantizing | None:
    found = surrounding_of(module)
    return found if isinstance(found, Quantizing) else None
