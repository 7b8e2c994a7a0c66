"""Quantizers of activations in a module: where they stand, and the hooks that let them act while it runs.

The module's class and its ``forward`` stay as they are. The hooks of the module that was quantized start and end a
:class:`~nncf_torch.quantizing_mode.QuantizingMode`, in which the functions that ``forward`` calls get and give
quantized tensors; so points inside of a ``forward`` are reached, and modules that run several times have quantizers of
their own for each time. Scale and zero point are parameters of the module that calls the function.
"""

from __future__ import annotations

import threading
from contextlib import ExitStack
from typing import Any

import torch
from attrs import frozen
from torch import fx, nn
from torch._C._dynamo.eval_frame import get_eval_frame_callback

from nncf_core.errors import ParameterNotSupportedError, UnsupportedModelError
from nncf_core.numerics.quantizer import Quantizer
from nncf_core.transformations import TargetPoint
from nncf_torch.compressed_modules import read_once
from nncf_torch.rounded_weights import hold, tensors_of


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


class StartQuantizing:
    """Forward pre-hook of a quantized module; holds its quantizers."""

    def __init__(self) -> None:
        self.quantizers: tuple[PointQuantizer, ...] = ()

    def __call__(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        """Enter the mode.

        :raises UnsupportedModelError: when ``torch.compile`` compiles the module, which would miss quantizers.
        """
        from nncf_torch.quantizing_mode import QuantizingMode

        # the first holds while it traces this, the second when it has given up and runs it
        if torch.compiler.is_dynamo_compiling() or get_eval_frame_callback():
            raise UnsupportedModelError(
                "torch.compile does not see the quantizers of a module; compile what torch.export makes of it: "
                "torch.compile(torch.export.export(model, args).module())."
            )
        stack = ExitStack()
        # the mode knows weights by the tensors that functions get
        stack.enter_context(read_once(module))
        stack.enter_context(QuantizingMode(module, self.quantizers).watching())
        _running().append(stack)


class EndQuantizing:
    """Forward hook of a quantized module."""

    def __call__(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        """Leave the mode."""
        if _running():
            _running().pop().close()


def is_quantized(module: nn.Module) -> bool:
    """Whether weights of a module are rounded, and activations quantized, when it runs."""
    return _hook(module) is not None


class _Running(threading.local):
    stacks: list[ExitStack]


_RUNNING = _Running()


def _running() -> list[ExitStack]:
    if not hasattr(_RUNNING, "stacks"):
        _RUNNING.stacks = []
    return _RUNNING.stacks


def quantizers_of(module: nn.Module) -> tuple[PointQuantizer, ...]:
    """The quantizers of activations that act when this very module runs."""
    hook = _hook(module)
    return () if hook is None else hook.quantizers


def let_quantize(module: nn.Module) -> StartQuantizing:
    """Give a module the hooks, if it has none.

    :raises ParameterNotSupportedError: for a graph of calls of modules, which forgets its hooks when it is copied.
    """
    if isinstance(module, fx.GraphModule):
        raise ParameterNotSupportedError(
            "A GraphModule that calls modules cannot hold quantizers; give the module that it was made of, or export "
            "it and give the program (torch.export.export)."
        )
    hook = _hook(module)
    if hook is None:
        hook = StartQuantizing()
        module.register_forward_pre_hook(hook)
        module.register_forward_hook(EndQuantizing(), always_call=True)
    return hook


def add_quantizer(root: nn.Module, name: str, point: TargetPoint, owner: str, quantizer: Quantizer) -> None:
    """Quantize the tensor at a point of a module from now on; behind quantizers that stand there already.

    :param owner: path of the module that runs the point's node.
    :raises ParameterNotSupportedError: see :func:`let_quantize`.
    """
    hook = let_quantize(root)
    module = root.get_submodule(owner)
    # the name of the function and its number, or the last parts of what an edit was to be called
    prefix = "_".join([*point.node.split("/")[-2:], point.kind.value, str(point.port)])
    while hasattr(module, f"{prefix}_scale"):
        prefix += "_"
    device = next((tensor.device for tensor in (*root.parameters(), *root.buffers())), torch.device("cpu"))
    hold(module, prefix, *tensors_of(quantizer, device))
    made = PointQuantizer(name, point, owner, prefix, quantizer.lo, quantizer.hi, quantizer.axis, quantizer.float8)
    hook.quantizers = (*hook.quantizers, made)


def _hook(module: nn.Module) -> StartQuantizing | None:
    return next((hook for hook in module._forward_pre_hooks.values() if isinstance(hook, StartQuantizing)), None)
