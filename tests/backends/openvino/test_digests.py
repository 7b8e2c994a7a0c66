"""Statistics from digests that OpenVINO computes, against numpy on the tensors."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("nncf_openvino")

import openvino as ov

import nncf
from nncf_core.digests import PARTS
from nncf_core.statistics import StatisticsRequest
from nncf_core.transformations import TargetPoint
from nncf_openvino.digesting import digesting, rank_at
from nncf_openvino.extraction import extract
from tests.backends.openvino.models import BACKEND, BUILDER, INSERTER, constant, model_of, named, ops, parameter, random

POINTS = (TargetPoint("relu"), TargetPoint("second"))


def network(shape, dtype=np.float32):
    x = parameter(shape, "x", dtype)
    pads = ([1, 1], [1, 1])
    first = ops.convolution(x, constant(random(20, 3, 3, 3, dtype=dtype), "w"), [1, 1], *pads, [1, 1])
    relu = named(ops.relu(ops.subtract(first, constant(np.full((1, 20, 1, 1), 0.1, dtype), "b"))), "relu")
    second = ops.convolution(relu, constant(random(7, 20, 1, 1, dtype=dtype), "v"), [1, 1], [0, 0], [0, 0], [1, 1])
    return model_of([named(second, "second")], [x])


def collected(model, requests, feeds):
    working = BUILDER.open(model, {})
    return BACKEND.aggregator.collect(working, BUILDER.build(working), requests, feeds)


def tensors(model, feeds):
    working = BUILDER.open(model, {})
    run = INSERTER.runner(INSERTER.extract(working, (), POINTS))
    return [run(feed) for feed in feeds]


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("batched", [False, True])
def test_statistics_are_those_of_the_tensors(dynamic: bool, batched: bool, dtype: type) -> None:
    model = network([-1, 3, -1, -1] if dynamic else [2, 3, 9, 12], dtype)
    sizes = [(2, 9, 12), (1, 30, 17), (3, 5, 5)] if dynamic else [(2, 9, 12)] * 3
    feeds = [{"x": random(b, 3, h, w, seed=i, scale=1, dtype=dtype)} for i, (b, h, w) in enumerate(sizes)]
    requests = [
        StatisticsRequest(point, kind, axis, None, batched and axis != 0)
        for point in POINTS
        for kind in PARTS
        for axis in (None, 1, -3)
    ]
    found = collected(model, requests, feeds)
    outputs = tensors(model, feeds)
    # tensors of float16 are rounded to it where they leave the runtime
    rtol, atol = (1e-5, 1e-6) if dtype is np.float32 else (2e-3, 1e-3)
    for request in requests:
        aggregator = request.aggregator()
        for output in outputs:
            aggregator.update(output[str(request.target)])
        np.testing.assert_allclose(found[request], aggregator.value, rtol=rtol, atol=atol, err_msg=request.key)


def test_tensors_do_not_leave_the_runtime() -> None:
    working = BUILDER.open(network([1, 3, 40, 40]), {})
    part = extract(working, (), POINTS)
    requests = [StatisticsRequest(POINTS[0], "mean_max"), StatisticsRequest(POINTS[0], "mean", 1)]
    from nncf_core.collecting import digests_of, points_of

    digests = digests_of(requests, points_of(BUILDER.build(working), requests), lambda point: rank_at(part, point))
    model, told = digesting(part, digests)
    sizes = {name: port.get_shape() for name, port in zip(model.outputs, model.model.outputs, strict=True)}
    assert list(told) == [str(POINTS[0])]
    assert sizes[f"{POINTS[0]}|max"] == [1, 20, 1, 1]
    assert sizes[str(POINTS[1])] == [1, 7, 40, 40]  # nobody asked for a digest of it


def test_nan_is_seen() -> None:
    x = parameter([1, 3, 8, 8], "x")
    root = named(ops.sqrt(x), "root")
    layer = ops.convolution(root, constant(random(16, 3, 1, 1), "w"), [1, 1], [0, 0], [0, 0], [1, 1])
    model = model_of([named(layer, "layer")], [x])
    image = np.ones((1, 3, 8, 8), np.float32)
    image[0, 1, 2, 3] = -1
    with pytest.raises(nncf.ValidationError, match="NaN or infinite"):
        nncf.quantize(model, nncf.Dataset([image]))


def test_quantized_ranges_are_those_of_the_tensors() -> None:
    model = network([1, 3, 24, 24])
    feeds = [{"x": random(1, 3, 24, 24, seed=seed, scale=1)} for seed in range(5)]
    quantized = nncf.quantize(
        model,
        nncf.Dataset(feeds),
        advanced_parameters=nncf.AdvancedQuantizationParameters(
            smooth_quant_alphas=nncf.AdvancedSmoothQuantParameters(matmul=-1, convolution=-1)
        ),
    )
    highest = np.mean([output[str(POINTS[0])].max() for output in tensors(model, feeds)])
    ends = [
        float(node.input_value(4).get_node().data.reshape(-1)[0])
        for node in quantized.get_ops()
        if node.get_type_name() == "FakeQuantize"
    ]
    assert any(end == pytest.approx(highest, rel=1e-5) for end in ends)
    assert isinstance(quantized, ov.Model)
