"""The bytes of a model do not depend on how many threads the environment gives to numpy's linear algebra."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from nncf_core.numerics.blas import one_thread
from nncf_weight_refinement import grouped
from nncf_weight_refinement.descent import descend
from nncf_weight_refinement.factors import factorize
from nncf_weight_refinement.rounding import round_with_feedback
from tests.algorithms.weight_refinement.weights import gram, start, weight

SCRIPT = """
import hashlib, numpy as np, nncf, onnx
from onnx import TensorProto, helper, numpy_helper
from threadpoolctl import threadpool_info
from nncf_core.pipeline import run

threads = [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]
width, wide, random = 384, 1160, np.random.default_rng(0)  # the latter no multiple of what kernels take at a time
nodes, constants, last = [], [], "x"
for n, shape in enumerate([(width, wide), (wide, width), (width, wide)]):
    constants.append(numpy_helper.from_array(random.standard_t(4, shape).astype(np.float32) * 0.05, f"w{n}"))
    nodes += [helper.make_node("MatMul", [last, f"w{n}"], [f"a{n}"]), helper.make_node("Tanh", [f"a{n}"], [f"b{n}"])]
    last = f"b{n}"
sizes = {"x": width, last: wide}
ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", size]) for name, size in sizes.items()]
graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], constants)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
data = [random.normal(size=(50, width)).astype(np.float32) for _ in range(20)]
first = {"algorithm": "weight_compression", "mode": "int4_asym", "group_size": 8, "all_layers": True}
sections = [first, *({"algorithm": name} for name in ("error_propagation", "gptq", "refinement"))]
found = run({"compression": sections}, model, dataset=nncf.Dataset(data)).model
print(hashlib.sha256(found.SerializeToString(deterministic=True)).hexdigest(), *threads)
"""


def printed(threads: int) -> tuple[str, list[int]]:
    """The digest of a model, and what BLAS would take outside of a run."""
    given = {**os.environ, "OMP_NUM_THREADS": str(threads), "OPENBLAS_NUM_THREADS": str(threads)}
    done = subprocess.run([sys.executable, "-c", SCRIPT], env=given, capture_output=True, text=True, check=True)
    digest, *found = done.stdout.split()
    return digest, [int(number) for number in found]


@pytest.mark.needs("nncf_onnx")
def test_bytes_do_not_depend_on_the_threads_of_the_environment():
    one, two = printed(1), printed(2)
    if one[1] == two[1]:
        pytest.skip("BLAS takes as many threads either way")
    assert one[0] == two[0]


def blas_threads() -> set[int]:
    return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}


def test_threads_are_given_back_when_the_last_run_ends():
    with threadpool_limits(2, user_api="blas"):
        before, begun = blas_threads(), Barrier(2)

        def held(first):
            with one_thread():
                begun.wait()  # both are inside
                if first:
                    begun.wait()  # the other is outside
                    return blas_threads()
            begun.wait()
            return None

        with ThreadPoolExecutor(2) as executor:
            inside, _ = executor.map(held, (True, False))
        assert inside <= {1}
        assert blas_threads() == before
        with pytest.raises(ZeroDivisionError), one_thread():
            raise ZeroDivisionError
        assert blas_threads() == before


@pytest.mark.parametrize("mode", ["int4_asym", "nf4"])
def test_outputs_are_refined_apart(monkeypatch, mode):
    values, h = weight(70, 64), gram(64)
    _, _, first = start(values, mode)
    factor = factorize(h, first.group_size)

    def refined(executor=None):
        rounded = round_with_feedback(values[None], first, factor, executor)
        return rounded, descend(values[None], rounded, h, executor=executor)

    whole = refined()
    monkeypatch.setattr(grouped, "_OUTPUTS", 32)
    parts = refined()
    with ThreadPoolExecutor(2) as executor:
        spread = refined(executor)
    for a, b, c in zip(whole, parts, spread, strict=True):
        np.testing.assert_allclose(b.scale, a.scale, rtol=0.05)
        assert np.mean(a.levels != b.levels) < 0.01  # sums round in another way
        for name in ("levels", "scale", "zero_point"):
            np.testing.assert_array_equal(getattr(b, name), getattr(c, name))
