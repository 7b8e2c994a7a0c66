"""Models that OpenVINO computes wrongly with several streams run with one."""

from __future__ import annotations

import threading

import numpy as np
import openvino as ov
import pytest
from openvino import opset13 as ops

import nncf
from nncf import CompressWeightsMode as Mode
from nncf_openvino.running import session_for
from nncf_openvino.unpacking import one_stream
from nncf_openvino.working import WorkingModel
from tests.backends.openvino.models import constant, matmul, model_of, named, parameter, random, tied


def _convolution():
    x = parameter([1, 32, 6, 6], "x")
    pads = [1, 1]
    node = ops.convolution(x, constant(random(32, 32, 3, 3), "w"), pads, pads, pads, pads)
    return model_of([named(node, "convolution", "y")], [x])


def _experts():
    return matmul(random(4, 64, 64), transpose_b=True, rank=3)


def _left():
    return matmul(random(1, 64, 64), on_the_left=True, rank=3)


MODELS = {
    "matrix": (lambda: matmul(random(64, 64), transpose_b=True, rank=3), False),
    "embedding": (lambda: tied(random(64, 64)), False),
    "convolution": (_convolution, False),
    "experts": (_experts, True),
    "left": (_left, True),
}


@pytest.mark.parametrize("mode", [Mode.INT8_ASYM, Mode.INT4_SYM])
@pytest.mark.parametrize("name", MODELS)
def test_models_of_one_stream(name, mode):
    make, single = MODELS[name]
    options = {"group_size": 32, "all_layers": True} if mode is Mode.INT4_SYM else {}
    compressed = nncf.compress_weights(make(), mode=mode, **options)
    assert one_stream(compressed) is single
    assert not one_stream(make())


@pytest.mark.parametrize("table", [np.float32, None])
def test_codebooks_run_with_one_stream(table):
    model = matmul(random(64, 64), transpose_b=True)
    options = {"group_size": 32, "all_layers": True}
    if table is not None:
        given = nncf.AdvancedCompressionParameters(codebook=np.linspace(-1, 1, 16).astype(table))
        options |= {"advanced_parameters": given}
    assert one_stream(nncf.compress_weights(model, mode=Mode.CODEBOOK if table else Mode.CB4, **options))


@pytest.mark.parametrize("make", [_experts, _left])
def test_several_threads_get_the_same_numbers(make):
    """With two streams every other compilation or so gave wrong ones."""
    model = nncf.compress_weights(make(), mode=Mode.INT4_SYM, group_size=32, all_layers=True)
    feed = {"x": random(4, 64, 64, seed=1)}
    wanted = ov.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32", "NUM_STREAMS": "1"})(feed)[0]

    def run(session, found):
        found.append(session.run(feed)["y"])

    for _ in range(20):
        session, found = session_for(WorkingModel(model), 2), []
        threads = [threading.Thread(target=run, args=(session, found)) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for output in found:
            np.testing.assert_allclose(output, wanted, rtol=1e-4, atol=1e-4)
