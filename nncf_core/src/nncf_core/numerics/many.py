"""Work on many tensors: small ones whole, one to a worker; large ones in pieces, over all workers."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Executor
from functools import partial
from typing import Any, Protocol, TypeVar

from nncf_core.numerics.arrays import Array, is_foreign
from nncf_core.numerics.work import Call, in_order

Result = TypeVar("Result", covariant=True)

_LARGE = 1 << 22  # elements that are worth more than one worker
_AHEAD = 8  # tensors that are in work, or done and not yet taken


class TensorWork(Protocol[Result]):
    """What is done to a tensor: :func:`~nncf_core.numerics.kernels.compress` for instance, as a ``partial``."""

    def __call__(self, tensor: Array, /, *, executor: Executor | None) -> Result:
        """Do it; over the executor, when there is one. For processes it must be possible to pickle this."""


def map_tensors(
    executor: Executor | None, calls: Iterable[tuple[TensorWork[Result], Array]]
) -> Generator[Result, None, None]:
    """Do the work of every call; yields the results in the order of the calls, whatever the executor.

    :param executor: threads or processes; ``None``: everything runs in the calling thread.
    :param calls: taken not much earlier than they are made, so that tensors need not all be in memory.
    """
    return in_order(executor, (_call(work, tensor, executor) for work, tensor in calls), _AHEAD)


def _call(work: Callable[..., Any], tensor: Array, executor: Executor | None) -> Call:
    if is_foreign(tensor):  # its device works in parallel by itself
        return Call(partial(work, executor=None), (tensor,), here=True)
    if tensor.size >= _LARGE:
        return Call(partial(work, executor=executor), (tensor,), here=True)
    return Call(partial(work, executor=None), (tensor,))
