"""What is shown of long work, and that nothing is of short work."""

import io
import logging
import os
import pty
import subprocess
import sys
import threading
import time

import pytest

import nncf
from nncf_core.log import nncf_logger
from nncf_core.progress import BarProgress, LineProgress, SilentProgress, script_progress


@pytest.fixture
def logger():
    state = nncf_logger.level, nncf_logger.propagate, nncf_logger.handlers
    nncf_logger.level, nncf_logger.propagate = logging.NOTSET, True  # whatever other tests left
    yield nncf_logger
    nncf_logger.level, nncf_logger.propagate, nncf_logger.handlers = state


def slow(count: int, pause: float):
    for index in range(count):
        time.sleep(pause)
        yield index


class TestLines:
    def test_a_line_at_the_end_tells_how_much(self):
        stream = io.StringIO()
        assert list(LineProgress(stream).track(iter("abc"), "Reading", 3)) == ["a", "b", "c"]
        assert stream.getvalue().startswith("Reading: 3/3, ")

    def test_short_work_shows_nothing(self):
        stream = io.StringIO()
        assert list(LineProgress(stream, patience=60).track(range(3), "Reading", 3)) == [0, 1, 2]
        assert stream.getvalue() == ""

    def test_lines_come_while_it_lasts(self):
        stream = io.StringIO()
        list(LineProgress(stream, every=0.01, patience=60).track(slow(3, 0.02), "Reading"))
        assert stream.getvalue().splitlines() == ["Reading: 1", "Reading: 2", "Reading: 3"]


class TestBars:
    @pytest.mark.parametrize("count", [0, 1, 4])
    def test_items_come_once_and_in_order(self, count):
        assert list(BarProgress(patience=0.02).track(slow(count, 0.015), "Reading", count)) == list(range(count))

    def test_short_work_does_not_import_rich(self):
        code = (
            "import sys\nfrom nncf_core.progress import BarProgress\n"
            "assert list(BarProgress(patience=60).track(range(3), 'Reading', 3)) == [0, 1, 2]\n"
            "assert 'rich' not in sys.modules"
        )
        subprocess.run([sys.executable, "-c", code], check=True)

    def test_a_terminal_sees_a_bar(self):
        code = (
            "import time\nfrom nncf_core.progress import script_progress\n"
            "for _ in script_progress().track(range(4), 'Reading', 4): time.sleep(0.6)"
        )
        main, terminal = pty.openpty()
        seen: list[bytes] = []

        def read():
            while True:
                try:
                    part = os.read(main, 4096)
                except OSError:  # the other side was closed
                    return
                if not part:
                    return
                seen.append(part)

        reader = threading.Thread(target=read)
        environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
        child = subprocess.Popen([sys.executable, "-c", code], stderr=terminal, env=environment)
        os.close(terminal)
        reader.start()
        assert child.wait() == 0
        reader.join()
        os.close(main)
        text = b"".join(seen).decode()
        assert "Reading" in text
        assert "4/4" in text


class TestScripts:
    def test_pipes_get_lines_of_long_work(self, logger):
        assert isinstance(script_progress(io.StringIO()), LineProgress)

    def test_a_silenced_log_silences_progress(self, logger):
        nncf.set_log_level(logging.WARNING)
        assert isinstance(script_progress(io.StringIO()), SilentProgress)
        nncf.set_log_level(logging.INFO)
        assert isinstance(script_progress(io.StringIO()), LineProgress)
        nncf.disable_logging()
        assert isinstance(script_progress(io.StringIO()), SilentProgress)
