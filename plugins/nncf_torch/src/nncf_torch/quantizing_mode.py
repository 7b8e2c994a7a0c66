"""What a quantized module does while it runs."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from nncf_core.transformations import PointKind
from nncf_torch.compressed_modules import read_once
from nncf_torch.fake_quantize import fake_quantize
from nncf_torch.quantizers import PointQuantizer
from nncf_torch.rounded_weights import held, rounded, roundings_of
from nncf_torch.watching import Watch, is_self_attention, opened_attention, recognised


class QuantizingMode(Watch):
    """Gives the torch functions that a module calls quantized tensors in place of their own.

    Functions are named as :mod:`nncf_torch.watching` names them.

    :param samples: how many samples the module gets. Tensors whose first axis is a multiple of that hold as many;
        others are taken for one.
    """

    def __init__(self, root: nn.Module, quantizers: Iterable[PointQuantizer], samples: int = 1) -> None:
        super().__init__(root, lambda _: None)
        self._samples = samples
        self._thread = threading.get_ident()
        self._root = root
        self._inputs: dict[str, dict[int, list[PointQuantizer]]] = {}
        self._outputs: dict[str, dict[int, list[PointQuantizer]]] = {}
        for quantizer in quantizers:
            if not quantizer.active:
                continue
            point = quantizer.point
            side = self._inputs if point.kind is PointKind.INPUT else self._outputs
            side.setdefault(point.node, {}).setdefault(point.port, []).append(quantizer)
        # tensors are kept with their ids, so that these stay theirs
        self._instead = _rounded_weights(root)

    def copied(self) -> QuantizingMode:
        """A mode for this thread that goes on from here and leaves this one as it is."""
        mode = copy.copy(self)
        mode._thread = threading.get_ident()
        mode._stack, mode._counts, mode._instead = [*self._stack], {**self._counts}, {**self._instead}
        return mode

    @contextmanager
    def rounding_anew(self) -> Iterator[None]:
        """While this lasts, weights are others than those that were rounded before, also for autograd."""
        before = self._instead
        # masks are applied by functions that are none of the model's
        with ExitStack() as stack:
            with torch._C.DisableTorchFunction():
                stack.enter_context(read_once(self._root))
                self._instead = {**before, **_rounded_weights(self._root)}
            try:
                yield
            finally:
                self._instead = before

    def meant(self, value: Any) -> Any:
        """What functions get in place of an argument."""
        is_other = isinstance(value, torch.Tensor) and id(value) in self._instead
        return self._instead[id(value)][1]() if is_other else value

    def _enter(self, module: nn.Module, _: Any) -> None:
        if threading.get_ident() == self._thread:
            super()._enter(module, _)

    def _leave(self, module: nn.Module, _: Any, __: Any) -> None:
        if threading.get_ident() == self._thread:
            super()._leave(module, _, __)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run a function on quantized tensors, and quantize what it gives."""
        kwargs = kwargs or {}
        seen = recognised(func, args, kwargs)
        if seen is None:
            return func(*args, **kwargs)
        op_type, operands = seen
        if is_self_attention(func, args):
            with self:
                return opened_attention(*args, **kwargs)
        name = self._name(op_type, operands)
        inputs = self._inputs.get(name, {})
        if inputs or any(id(tensor) in self._instead for _, tensor in operands):
            args, kwargs = self._with_inputs(inputs, args, kwargs)
        output = func(*args, **kwargs)
        outputs = self._outputs.get(name)
        if outputs is None:
            return output
        changed = self._with_outputs(outputs, output)
        if any(output is tensor for _, tensor in operands):
            # changed in place: who goes on with the operand means what has become of it
            self._instead[id(output)] = output, lambda: changed
        return changed

    def _with_inputs(
        self, quantizers: dict[int, list[PointQuantizer]], args: Any, kwargs: Any
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        port = -1

        def leaf(value: Any) -> Any:
            nonlocal port
            if not isinstance(value, torch.Tensor):
                return value
            port += 1
            return self._quantized(self.meant(value), quantizers.get(port, ()))

        def argument(value: Any) -> Any:
            if isinstance(value, (list, tuple)) and any(isinstance(item, torch.Tensor) for item in value):
                return [leaf(item) for item in value]
            return leaf(value)

        return tuple(argument(value) for value in args), {key: argument(value) for key, value in kwargs.items()}

    def _with_outputs(self, quantizers: dict[int, list[PointQuantizer]], output: Any) -> Any:
        port = -1

        def leaf(value: Any) -> Any:
            nonlocal port
            if not isinstance(value, torch.Tensor):
                return value
            port += 1
            return self._quantized(value, quantizers.get(port, ()))

        return pytree.tree_map(leaf, output)

    def _quantized(self, tensor: torch.Tensor, quantizers: Iterable[PointQuantizer]) -> torch.Tensor:
        for q in quantizers:
            parts = held(self._root.get_submodule(q.owner), q.prefix)
            several = self._samples > 1 and tensor.dim() > 0 and tensor.shape[0] % self._samples == 0
            held_here = self._samples if several else 1
            tensor = fake_quantize(tensor, *parts, q.lo, q.hi, q.axis, q.float8, held_here)
        return tensor


def _rounded_weights(root: nn.Module) -> dict[int, tuple[torch.Tensor, Callable[[], torch.Tensor]]]:
    """Weights, and what gives them rounded, by identity."""
    found: dict[int, tuple[torch.Tensor, Callable[[], torch.Tensor]]] = {}
    for owner in root.modules():
        for name in roundings_of(owner):
            weight = getattr(owner, name)
            if id(weight) not in found:
                found[id(weight)] = weight, _once(owner, name)
    return found


def _once(owner: nn.Module, name: str) -> Callable[[], torch.Tensor]:
    """A rounded weight, which all its users share."""
    found: list[torch.Tensor] = []

    def read() -> torch.Tensor:
        if not found:
            found.append(rounded(owner, name))
        return found[0]

    return read
