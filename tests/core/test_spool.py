"""Tensors that wait, in memory or in files."""

from concurrent.futures import ThreadPoolExecutor

import ml_dtypes
import numpy as np
import pytest

from nncf_core.spool import LIMIT, Spool

TENSORS = {
    "x": np.arange(12, dtype=np.float32).reshape(3, 4),
    "turned": np.asfortranarray(np.arange(6, dtype=np.int64).reshape(2, 3)),
    "half": np.array([1.5, -2], ml_dtypes.bfloat16),
    "number": np.array(7.0),
    "nothing": np.zeros((0, 3), np.float32),
    "a/b:c": np.array([True, False]),
}


def filled(folder, limit):
    spool = Spool(folder, limit)
    for sample in range(3):
        for name, array in TENSORS.items():
            spool.put("exact", name, sample, array * (sample + 1) if array.dtype != bool else array)
    return spool


def assert_holds(spool, name, sample):
    wanted = TENSORS[name] if TENSORS[name].dtype == bool else TENSORS[name] * (sample + 1)
    found = spool.get("exact", name, sample)
    assert found.dtype == wanted.dtype
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("limit", [0, 100, LIMIT])
@pytest.mark.parametrize("name", TENSORS)
def test_what_was_put_is_there(tmp_path, limit, name):
    spool = filled(tmp_path, limit)
    for sample in (2, 0, 1):
        assert_holds(spool, name, sample)
    assert ("exact", name) in spool
    assert ("compressed", name) not in spool


def test_memory_has_a_limit(tmp_path):
    spool = Spool(tmp_path, 1000)
    for sample in range(50):
        spool.put("exact", "x", sample, np.full(100, sample, np.uint8))
    (file,) = tmp_path.iterdir()
    assert file.stat().st_size == 4000
    assert [int(spool.get("exact", "x", sample)[0]) for sample in range(50)] == list(range(50))


def test_dropped_tensors_make_room(tmp_path):
    spool = Spool(tmp_path, 48)
    spool.put("exact", "x", 0, TENSORS["x"])
    spool.drop_but(["y"])
    spool.put("exact", "y", 0, TENSORS["x"])
    assert not list(tmp_path.iterdir())
    assert ("exact", "x") not in spool
    spool.put("exact", "z", 0, TENSORS["x"])
    assert len(list(tmp_path.iterdir())) == 1
    spool.clear()
    assert not list(tmp_path.iterdir())


def test_files_are_taken_over(tmp_path):
    spool = filled(tmp_path, 0)
    index = spool.index
    spool.put("exact", "x", 3, TENSORS["x"])  # after the index was written down
    again = Spool(tmp_path, 0)
    again.reopen(index)
    for name in TENSORS:
        assert_holds(again, name, 1)
    with pytest.raises(KeyError):
        again.get("exact", "x", 3)


def test_threads_may_share_it(tmp_path):
    spool = Spool(tmp_path, 0)
    with ThreadPoolExecutor(4) as executor:
        list(executor.map(lambda n: spool.put("exact", "x", n, np.full(1000, n)), range(40)))
        found = list(executor.map(lambda n: spool.get("exact", "x", n), range(40)))
    assert [int(array[-1]) for array in found] == list(range(40))
