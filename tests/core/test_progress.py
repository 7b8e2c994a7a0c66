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

    @staticmethod
    def lines(times: list[float], total: int | None = None) -> list[str]:
        """What is shown of items that are done at some times, in seconds, as scripts show it."""
        stream, clock = io.StringIO(), iter([0.0, *times, times[-1]])
        progress = LineProgress(stream, patience=1.0, clock=lambda: next(clock))
        list(progress.track(range(len(times)), "Reading", total))
        return stream.getvalue().splitlines()

    def test_the_first_line_comes_after_a_second(self):
        assert self.lines([0.4, 0.8, 1.2, 1.6], 4) == ["Reading: 3/4", "Reading: 4/4, 1.6 s"]

    def test_a_second_is_not_reached(self):
        assert self.lines([0.3, 0.6, 0.9]) == []

    def test_what_ends_late_is_shown_once(self):
        assert self.lines([0.5, 1.5], 2) == ["Reading: 2/2, 1.5 s"]

    def test_lines_come_more_and_more_rarely(self):
        shown = [int(line.split()[1]) for line in self.lines([float(second) for second in range(1, 301)])[:-1]]
        assert shown == [1, 3, 7, 15, 31, 63, 123, 183, 243]


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

    def test_scripts_without_a_terminal_say_how_far_they_are(self):
        code = (
            "import time\nfrom nncf_core.progress import script_progress\n"
            "for _ in script_progress().track(range(4), 'Reading', 4): time.sleep(0.6)"
        )
        shown = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stderr
        assert "Reading: 4/4" in shown

    def test_a_silenced_log_silences_progress(self, logger):
        nncf.set_log_level(logging.WARNING)
        assert isinstance(script_progress(io.StringIO()), SilentProgress)
        nncf.set_log_level(logging.INFO)
        assert isinstance(script_progress(io.StringIO()), LineProgress)
        nncf.disable_logging()
        assert isinstance(script_progress(io.StringIO()), SilentProgress)
