"""Independent calls, spread over an executor."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Executor, Future, wait
from itertools import islice
from typing import Any, NamedTuple, TypeVar

import numpy as np

Result = TypeVar("Result")


def available_cores() -> int:
    """Number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


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


class Call(NamedTuple):
    """A call that is yet to be made.

    :param here: only the calling thread makes it, in its turn; it may spread its own work over the executor.
    """

    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    here: bool = False

    def make(self) -> Any:
        """Its result."""
        return self.function(*self.arguments)


def in_order(executor: Executor | None, calls: Iterable[Call], ahead: int) -> Generator[Any, None, None]:
    """Make every call; yields the results in the order of the calls.

    Workers run ahead of what is asked for, and the calling thread takes calls, too, rather than wait for them. The
    results, and which error is raised first, do not depend on the executor.

    :param executor: as for :func:`spread`.
    :param calls: taken not much earlier than they are made.
    :param ahead: how many calls and results are held at most.
    """
    if executor is None:
        for call in calls:
            yield call.make()
        return
    source, held = iter(calls), deque[tuple[Call, Future[Any] | None]]()
    try:
        while True:
            for new in islice(source, ahead - len(held)):
                held.append((new, None if new.here else executor.submit(new.function, *new.arguments)))
            if not held:
                return
            call, future = held.popleft()
            if future is None or future.cancel():
                yield call.make()
                continue
            while not future.done() and _make_last(held):
                pass
            yield future.result()
    finally:
        wait([future for _, future in held if future is not None and not future.cancel()])


def _make_last(held: deque[tuple[Call, Future[Any] | None]]) -> bool:
    """Make the last call that no worker has begun; false when there is none."""
    for index in reversed(range(len(held))):
        call, future = held[index]
        if future is not None and future.cancel():
            made: Future[Any] = Future()
            try:
                made.set_result(call.make())
            except Exception as error:
                made.set_exception(error)
            held[index] = call, made
            return True
    return False
