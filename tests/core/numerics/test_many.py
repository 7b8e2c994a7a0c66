"""Work on many tensors gives the same results in the same order, whoever does it."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest

from nncf_core.errors import ValidationError
from nncf_core.numerics import many
from nncf_core.numerics.formats import SCHEMES
from nncf_core.numerics.kernels import compress
from nncf_core.numerics.many import map_tensors
from nncf_core.numerics.work import Call, in_order
from tests.core.numerics.test_executors import Elsewhere

WEIGHTS = [np.random.default_rng(n).standard_normal((64 + n, 96), dtype=np.float32) for n in range(30)]
INT4 = partial(compress, scheme=SCHEMES["int4_sym"], reduction_axes=1, group_size=32)


@pytest.fixture(params=["nobody else", "1 thread", "3 threads", "processes"])
def executor(request):
    if request.param == "nobody else":
        yield None
    elif request.param == "processes":
        yield Elsewhere()
    else:
        with ThreadPoolExecutor(int(request.param[0])) as pool:
            yield pool


@pytest.mark.parametrize("large", [1, 8000, 1 << 22])
def test_tensors_come_in_order(executor, large, monkeypatch):
    monkeypatch.setattr(many, "_LARGE", large)
    found = list(map_tensors(executor, ((INT4, weight) for weight in WEIGHTS)))
    assert [tensor.codes.tobytes() for tensor in found] == [INT4(weight).codes.tobytes() for weight in WEIGHTS]


def test_the_first_error_in_order_is_raised(executor):
    bad = [weight.copy() for weight in WEIGHTS]
    bad[7][3, 5] = bad[8][0, 0] = np.nan
    results = map_tensors(executor, ((partial(INT4, name=f"w{n}"), weight) for n, weight in enumerate(bad)))
    for _ in range(7):
        next(results)
    with pytest.raises(ValidationError, match="w7"):
        next(results)


def test_tensors_are_taken_only_when_there_is_room(executor):
    taken = []

    def calls():
        for index, weight in enumerate(WEIGHTS):
            taken.append(index)
            yield INT4, weight

    results = map_tensors(executor, calls())
    for index, _ in enumerate(results):
        assert len(taken) <= index + 1 + many._AHEAD


def test_the_caller_works_while_a_worker_is_busy():
    released, names = threading.Event(), []

    def work(index):
        if index == 0:
            assert released.wait(30)
        names.append(threading.current_thread().name)
        if len(names) == 3:
            released.set()
        return index

    started = threading.Event()
    with ThreadPoolExecutor(1, "worker", initializer=started.set) as pool:
        calls = (Call(work, (n,)) for n in range(4))
        results = in_order(pool, calls, ahead=4)
        # the only worker waits in the first call for the others, which only the caller can make
        pool.submit(int)
        assert started.wait(30)
        assert list(results) == [0, 1, 2, 3]
    assert threading.current_thread().name in names


def test_nobody_is_at_work_when_the_caller_goes_on():
    running = threading.Semaphore(0)

    def work():
        running.release()
        return threading.active_count()

    with ThreadPoolExecutor(2) as pool:
        results = in_order(pool, (Call(work, ()) for _ in range(50)), ahead=6)
        next(results)
        results.close()
        assert pool.submit(int).result(timeout=30) == 0
        assert pool._work_queue.empty()
