"""Independent calls, spread over an executor."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Executor, Future, wait
from typing import Any, TypeVar

import numpy as np

Result = TypeVar("Result")


class Target:
    """Memory for the result of a call, where caller and worker share memory.

    Sent to another process it arrives without the array; the worker then returns its result instead.
    """

    def __init__(self, array: np.ndarray | None) -> None:
        self.array = array

    def __reduce__(self) -> tuple[type[Target], tuple[None]]:
        return Target, (None,)


def spread(
    executor: Executor | None, function: Callable[..., Result], calls: Sequence[tuple[Any, ...]]
) -> Generator[tuple[int, Result], None, None]:
    """Call ``function(*call)`` for every call; yields index and result, in no particular order.

    The calling thread takes calls that no worker has begun, from the end. So this may itself run on the
    executor that it is given: a pool full of callers that wait for the pool would otherwise never move.

    :param executor: ``None``: everything runs in the calling thread. For a pool of processes, ``function``
        and the calls are pickled.
    """
    if executor is None:
        for index, call in enumerate(calls):
            yield index, function(*call)
        return
    futures: dict[int, Future[Result]] = {i: executor.submit(function, *call) for i, call in enumerate(calls)}
    try:
        for index in reversed(range(len(calls))):
            if futures[index].cancel():
                del futures[index]
                yield index, function(*calls[index])
        while futures:
            index = next(iter(futures))
            yield index, futures.pop(index).result()
    finally:
        # Nobody may still be writing into a target when the caller goes on, after an error for instance.
        wait([future for future in futures.values() if not future.cancel()])
