"""Results do not depend on where the work is done."""

from __future__ import annotations

import pickle
from concurrent.futures import Executor, Future, ThreadPoolExecutor

import numpy as np
import pytest

from nncf_core.errors import ValidationError
from nncf_core.numerics.formats import SCHEMES
from nncf_core.numerics.kernels import compress, decompress, quantization_error
from nncf_core.numerics.work import spread


class Elsewhere(Executor):
    """As far away as another process: only pickled bytes come and go."""

    def submit(self, fn, /, *args, **kwargs):
        future = Future()
        future.set_running_or_notify_cancel()
        fn, args, kwargs = pickle.loads(pickle.dumps((fn, args, kwargs)))  # noqa: S301
        try:
            future.set_result(pickle.loads(pickle.dumps(fn(*args, **kwargs))))  # noqa: S301
        except Exception as error:
            future.set_exception(error)
        return future


@pytest.fixture(scope="module")
def executors():
    pools = [ThreadPoolExecutor(n) for n in (1, 2, 4)]
    yield [*pools, Elsewhere()]
    for pool in pools:
        pool.shutdown()


@pytest.mark.parametrize("mode", SCHEMES)
@pytest.mark.parametrize("shape", [(1100, 1024), (3, 257, 1025)])
def test_bytes_do_not_depend_on_the_executor(mode, shape, executors):
    weight = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    codebook = np.linspace(-1, 1, 9) if mode == "codebook" else None
    for axis in (-1, -2):
        tensors = [
            compress(weight, SCHEMES[mode], reduction_axes=axis, codebook=codebook, executor=executor)
            for executor in (None, *executors)
        ]
        for tensor in tensors[1:]:
            assert tensor == tensors[0]
            assert tensor.codes.tobytes() == tensors[0].codes.tobytes()
            assert tensor.scale.tobytes() == tensors[0].scale.tobytes()
            if tensor.zero_point is not None:
                assert tensor.zero_point.tobytes() == tensors[0].zero_point.tobytes()


def test_late_scale_that_does_not_fit(executors):
    weight = np.random.default_rng(0).standard_normal((1024, 2048), dtype=np.float32)
    weight[-1] *= 1e-6
    expected = compress(weight, SCHEMES["int4_asym"], reduction_axes=1, group_size=128)
    assert expected.scale.dtype == np.float32
    for executor in executors:
        tensor = compress(weight, SCHEMES["int4_asym"], reduction_axes=1, group_size=128, executor=executor)
        assert tensor.codes.tobytes() == expected.codes.tobytes()
        assert tensor.scale.tobytes() == expected.scale.tobytes()


def test_error_does_not_depend_on_the_executor(executors):
    weight = np.random.default_rng(0).standard_normal((1500, 1800), dtype=np.float32)
    for axes in (0, 1, (0, 1)):
        expected = quantization_error(weight, axes)
        assert [quantization_error(weight, axes, executor) for executor in executors] == [expected] * 4


def test_first_bad_element_is_named_whatever_comes_first(executors):
    weight = np.ones((1024, 1024), np.float32)
    weight[3, 5] = weight[1000, 0] = np.nan
    for executor in (None, *executors):
        with pytest.raises(ValidationError, match=r"\[3, 5\]"):
            compress(weight, SCHEMES["int8_sym"], reduction_axes=1, executor=executor)
        with pytest.raises(ValidationError, match=r"'w'.*\[3, 5\]"):
            quantization_error(weight, 1, executor, name="w")


def test_may_run_on_the_pool_it_is_given():
    weight = np.random.default_rng(0).standard_normal((1024, 1024), dtype=np.float32)
    expected = compress(weight, SCHEMES["int4_sym"], reduction_axes=1).codes.tobytes()
    with ThreadPoolExecutor(2) as pool:
        calls = [pool.submit(compress, weight, SCHEMES["int4_sym"], reduction_axes=1, executor=pool) for _ in range(6)]
        assert all(call.result(timeout=30).codes.tobytes() == expected for call in calls)


def test_spread_gives_every_result_and_the_error_of_a_call():
    with ThreadPoolExecutor(2) as pool:
        assert dict(spread(pool, divmod, [(n, 3) for n in range(50)])) == {n: divmod(n, 3) for n in range(50)}
        with pytest.raises(ZeroDivisionError):
            list(spread(pool, divmod, [(1, n) for n in range(9)]))


def test_large_tensors_decompress_by_blocks():
    weight = np.random.default_rng(0).standard_normal((1025, 1023), dtype=np.float32)
    for mode in ("int3_sym", "int4_asym", "mxfp8_e4m3"):
        for axis in (0, 1):
            tensor = compress(weight, SCHEMES[mode], reduction_axes=axis)
            part = np.s_[:, 500:501] if axis == 0 else np.s_[500:501]
            alone = compress(weight[part], SCHEMES[mode], reduction_axes=axis)
            np.testing.assert_array_equal(decompress(tensor)[part], decompress(alone))
