"""Activation checkpointing of quantized modules: what runs again in the backward pass is quantized as it was at first.

``torch.utils.checkpoint`` runs a function a second time when the module's forward pass, and what surrounds it, is over.
So both of its ways to keep a function keep it together with the quantizers that act.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import overrides
from torch.utils import checkpoint

from nncf_torch.quantizing_mode import QuantizingMode

# what torch has no types for, and what is changed in it
_overrides: Any = overrides
_checkpoint: Any = checkpoint
_without_reentrant = _checkpoint._checkpoint_without_reentrant_generator


class _Again:
    """A function as it is run again: with the quantizers that act when this is made.

    :param args: arguments of the first run; others of the same kind come in their place.
    """

    def __init__(self, function: Callable[..., Any], modes: Sequence[QuantizingMode], args: Sequence[Any]) -> None:
        self._function, self._modes = function, [mode.copied() for mode in modes]
        known = ((index, _meant(modes, value)) for index, value in enumerate(args))
        self._changed = {index: value for index, value in known if value is not args[index]}

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the function."""
        given = [self._changed.get(index, value) for index, value in enumerate(args)]
        with ExitStack() as stack:
            for saved in self._modes:
                mode = saved.copied()
                stack.enter_context(mode.rounding_anew())
                stack.enter_context(mode.watching())
            return self._function(*given, **kwargs)


def keep_quantizers() -> None:
    """Let functions that are checkpointed while quantizers act be run again with them; others are as they were."""
    _checkpoint.CheckpointFunction.apply = classmethod(_applied)
    _checkpoint._checkpoint_without_reentrant_generator = _around


def _applied(cls: type[torch.autograd.Function], function: Callable[..., Any], preserve: bool, *args: Any) -> Any:
    """``CheckpointFunction.apply``, the way with ``use_reentrant=True``."""
    plain = super(_checkpoint.CheckpointFunction, cls).apply
    modes = _acting()
    if not modes:
        return plain(function, preserve, *args)
    args = tuple(_meant(modes, value) for value in args)
    again: Callable[..., Any] = _Again(function, modes, args)
    is_first = True

    def run(*given: Any) -> Any:
        nonlocal is_first
        if not is_first:
            return again(*given)
        is_first = False
        with _rounding_anew(modes):
            return function(*given)

    return plain(run, preserve, *args)


def _around(
    function: Callable[..., Any],
    preserve_rng_state: bool,
    context_fn: Any,
    determinism_check: Any,
    debug: Any,
    early_stop: Any,
    *args: Any,
    **kwargs: Any,
) -> Iterator[None]:
    """``_checkpoint_without_reentrant_generator``, the way with ``use_reentrant=False``: what is before and after the
    function's first run."""
    modes = _acting()
    kept = _Again(function, modes, args) if modes else function
    steps = _without_reentrant(
        kept, preserve_rng_state, context_fn, determinism_check, debug, early_stop, *args, **kwargs
    )
    next(steps)
    try:
        with _rounding_anew(modes):
            yield
    except BaseException as error:
        steps.throw(error)
    yield from steps


def _acting() -> list[QuantizingMode]:
    return [mode for mode in _overrides._get_current_function_mode_stack() if isinstance(mode, QuantizingMode)]


def _rounding_anew(modes: Sequence[QuantizingMode]) -> ExitStack:
    stack = ExitStack()
    for mode in modes:
        stack.enter_context(mode.rounding_anew())
    return stack


def _meant(modes: Sequence[QuantizingMode], value: Any) -> Any:
    for mode in modes:
        value = mode.meant(value)
    return value
