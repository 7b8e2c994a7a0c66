"""A page as a real browser shows it: headless Chromium, without a network."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

_NAMES = ("chromium", "chromium-browser", "google-chrome")
_OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND",
)


def document_of(page: Path, folder: Path) -> str:
    """The document when all scripts have run; skips where no browser is installed.

    :param folder: where the browser may leave what it likes.
    """
    program = next(filter(None, map(shutil.which, _NAMES)), None)
    if program is None:
        pytest.skip("needs the browser Chromium: apt-get install chromium")
    profile = folder / "profile"
    profile.mkdir()
    command = [program, *_OPTIONS, f"--user-data-dir={profile}", "--dump-dom", page.resolve().as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    return done.stdout


def loads_nothing(document: str) -> bool:
    """Whether a document refers to no other file."""
    references = re.findall(r'\b(?:src|href|data|srcset|action)="([^"#][^"]*)"|url\(["\']?([^#)"\'][^)]*)\)', document)
    return not references and "<link" not in document and "<script" not in document and "@import" not in document
