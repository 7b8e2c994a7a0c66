"""How many threads numpy's linear algebra takes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_lock = threading.Lock()
_blocks = 0
_limits: Any = None


@contextmanager
def one_thread() -> Iterator[None]:
    """Within the block each product of matrices and each factorization is made by one thread, the one that asks for it.

    For another number of threads BLAS cuts matrices elsewhere, and sums round in another way; where codes make up for
    each other, that becomes other codes. It holds for the whole process. Blocks may be nested, and of several threads.
    """
    global _blocks, _limits
    from threadpoolctl import OpenBLASController, threadpool_limits  # looks at all libraries of the process

    with _lock:
        if _blocks == 0:
            # only the thread that was first may change the number, others would change nothing and not be told so
            OpenBLASController.clear_controlling_thread(force=True)
            _limits = threadpool_limits(1, user_api="blas")
        _blocks += 1
    try:
        yield
    finally:
        with _lock:
            _blocks -= 1
            if _blocks == 0:
                OpenBLASController.clear_controlling_thread(force=True)  # another run's may have been first
                _limits.restore_original_limits()
                OpenBLASController.clear_controlling_thread(force=True)
