"""Ctrl-C when OpenVINO has run in several threads."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import gc, os, signal, threading
import numpy as np
from nncf_openvino.running import deployed, session_for
from nncf_openvino.working import WorkingModel
from tests.backends.openvino.models import matmul, random

def compiled(make):
    box = [make(WorkingModel(matmul(random(8, 8))))]
    def drop():
        box.clear()
        gc.collect()
    thread = threading.Thread(target=drop)
    thread.start()
    thread.join()

compiled(session_for)
compiled(deployed)
signal.signal(signal.SIGINT, lambda *_: print("handled"))
os.kill(os.getpid(), signal.SIGINT)
"""


def test_what_one_thread_compiled_may_go_in_another():
    """The stack that OpenVINO's plugin gave to the first thread is gone then, and a signal killed the process."""
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stdout) == (0, "handled\n"), done.stderr
