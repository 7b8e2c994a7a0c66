"""Files are replaced as a whole, and nothing that is no file."""

import os
import stat
import sys

import pytest

from nncf_core.errors import InvalidPathError
from nncf_core.files import replacing


def write(path, text="new"):
    with replacing(path) as temporary:
        temporary.write_text(text)


@pytest.mark.skipif(sys.platform == "win32", reason="no pipes in the file system")
def test_a_pipe_is_not_replaced(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(InvalidPathError, match="pipe"):
        write(pipe)
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert list(tmp_path.iterdir()) == [pipe]


@pytest.mark.skipif(sys.platform == "win32", reason="no such permissions")
def test_permissions_stay_those_of_the_old_file(tmp_path):
    path = tmp_path / "model"
    write(path)
    mask = os.umask(0)
    os.umask(mask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~mask
    path.chmod(0o600)
    write(path, "newer")
    assert path.read_text() == "newer"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_an_error_leaves_the_old_file(tmp_path):
    def fail():
        with replacing(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError

    path = tmp_path / "model"
    write(path, "old")
    with pytest.raises(RuntimeError):
        fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
