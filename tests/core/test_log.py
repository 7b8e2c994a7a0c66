"""Messages."""

import subprocess
import sys

import pytest


def stderr(*statements: str) -> str:
    """What a process writes to stderr; in this one pytest handles messages."""
    code = "; ".join(["import logging, nncf", *statements])
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stderr


@pytest.mark.parametrize(
    ("statements", "expected"),
    [
        (["nncf.nncf_logger.info('x')"], ""),
        (["nncf.set_log_level(logging.INFO)", "nncf.nncf_logger.info('x')"], "INFO:nncf:x\n"),
        (["nncf.set_log_level(logging.ERROR)", "nncf.nncf_logger.warning('x')"], ""),
        (["nncf.set_log_level(10)", "nncf.set_log_level(10)", "nncf.nncf_logger.debug('x')"], "DEBUG:nncf:x\n"),
        (["nncf.disable_logging()", "nncf.nncf_logger.error('x')"], ""),
        (["nncf.disable_logging()", "nncf.set_log_level(10)", "nncf.nncf_logger.error('x')"], ""),
    ],
)
def test_what_is_shown(statements: list[str], expected: str) -> None:
    assert stderr(*statements) == expected


@pytest.mark.parametrize("first", ["logging.basicConfig(format='app %(message)s')", "nncf.set_log_level(20)"])
def test_an_application_that_sets_up_logging_sees_each_message_once(first: str) -> None:
    setup = ["logging.basicConfig(format='app %(message)s')", "nncf.set_log_level(20)"]
    assert stderr(first, *setup, "nncf.nncf_logger.info('x')") == "app x\n"
