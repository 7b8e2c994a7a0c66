"""Items that are made while the ones before them are used."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor

import pytest

from nncf_core.ahead import ahead

PATIENCE = 20  # seconds


def test_the_next_item_is_made_while_one_is_used() -> None:
    begun = [threading.Event() for _ in range(4)]
    threads = set()

    def items() -> Generator[int]:
        for number, event in enumerate(begun):
            event.set()
            threads.add(threading.get_ident())
            yield number

    stopped = threading.Event()
    for number in ahead(items(), stopped):
        assert number == 3 or begun[number + 1].wait(PATIENCE)
        assert number >= 2 or not begun[number + 2].is_set()
    assert number == 3
    assert len(threads) == 1
    assert threading.get_ident() not in threads
    assert not stopped.is_set()


def test_no_items() -> None:
    assert list(ahead((each for each in ()), threading.Event())) == []


def test_errors_arrive_where_the_item_would() -> None:
    def items() -> Generator[int]:
        yield 1
        raise ValueError("the second")

    stopped = threading.Event()
    taken = ahead(items(), stopped)
    assert next(taken) == 1
    with pytest.raises(ValueError, match="the second"):
        next(taken)
    assert stopped.is_set()


def test_who_stops_early_waits_for_what_runs_alone() -> None:
    before, ended = threading.active_count(), []
    stopped = threading.Event()

    def items() -> Generator[int]:
        try:
            yield 0
            assert stopped.wait(PATIENCE)  # long work that asks from time to time
            ended.append("work")
            yield 1
        finally:
            ended.append("closed")

    taken = ahead(items(), stopped)
    assert next(taken) == 0
    taken.close()
    assert ended == ["work", "closed"]
    assert threading.active_count() == before


def test_who_is_interrupted_again_while_waiting_hears_of_that_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def items() -> Generator[int]:
        yield 0
        assert released.wait(PATIENCE)
        yield 1

    def interrupted(self: ThreadPoolExecutor, wait: bool = True, **_: object) -> None:
        raise KeyboardInterrupt

    released = threading.Event()
    taken = ahead(items(), threading.Event())
    assert next(taken) == 0
    with monkeypatch.context() as patched:
        patched.setattr(ThreadPoolExecutor, "shutdown", interrupted)
        with pytest.raises(KeyboardInterrupt):
            taken.close()
    released.set()


def test_nobody_holds_an_item_that_was_taken() -> None:
    class Large:
        pass

    taken = ahead((Large() for _ in range(3)), threading.Event())
    item = next(taken)
    seen = weakref.ref(item)
    del item
    gc.collect()
    assert seen() is None
    taken.close()
