"""Models that keep state between runs."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import openvino as ov
import pytest
from openvino import opset13 as ops
from openvino.op.util import Variable, VariableInfo

import nncf
from nncf.definitions import NNCF_DATASET_RESET_STATE_KEY
from nncf_core.registry import registry
from nncf_core.statistics import StatisticsRequest
from nncf_core.transformations import TargetPoint
from tests.backends.openvino.models import BUILDER, constant, named, parameter, random


def summing() -> ov.Model:
    """What it has been given since it began, times a weight."""
    x = parameter([1, 16], "x")
    info = VariableInfo()
    info.data_shape, info.data_type, info.variable_id = ov.PartialShape([1, 16]), ov.Type.f32, "sum"
    variable = Variable(info)
    before = ops.read_value(ops.constant(np.zeros((1, 16), np.float32)), variable)
    total = named(ops.add(before, x), "total")
    product = named(ops.matmul(total, constant(random(16, 16), "weight"), False, False), "product")
    return ov.Model([ops.result(product)], [ops.assign(total, variable)], [x], "summing")


@pytest.mark.parametrize("goes_on", [False, True])
def test_each_item_begins_anew_unless_it_says_otherwise(goes_on: bool) -> None:
    working = BUILDER.open(summing(), {})
    graph = BUILDER.build(working)
    aggregator = registry().backends["openvino"].aggregator
    request = StatisticsRequest(TargetPoint("total"), "tensors")
    items: list[dict[str, Any]] = [{"x": np.full((1, 16), i, np.float32)} for i in range(1, 8)]
    for index, item in enumerate(items):
        if goes_on:
            item[NNCF_DATASET_RESET_STATE_KEY] = index % 3 == 0
    found = aggregator.collect(working, graph, [request], items)
    sums: Sequence[int] = [1, 3, 6, 4, 9, 15, 7] if goes_on else range(1, 8)
    assert [float(np.max(tensor)) for tensor in found.tensors(request)] == list(sums)


def test_quantization_sees_each_item_by_itself() -> None:
    items = [np.full((1, 16), i / 8, np.float32) for i in range(8)]
    once = nncf.quantize(summing(), nncf.Dataset(items))
    again = nncf.quantize(summing(), nncf.Dataset([{"x": item, "nncf_reset_state": True} for item in items[::-1]]))
    assert ranges(once) == ranges(again) != []


def ranges(model: ov.Model) -> list[list[float]]:
    found = [node for node in model.get_ordered_ops() if node.get_type_name() == "FakeQuantize"]
    return [node.input_value(i).get_node().get_vector().tolist() for node in found for i in (1, 2)]


def test_inputs_are_told_by_place_port_or_any_name() -> None:
    x, y = parameter([1, 4], "x"), parameter([1, 4], "y")
    y.output(0).set_names({"y", "other", "another"})
    model = ov.Model([ops.result(named(ops.subtract(x, y), "difference"))], [x, y], "two")
    working = BUILDER.open(model, {})
    graph = BUILDER.build(working)
    request = StatisticsRequest(TargetPoint("difference"), "tensors")
    values = np.full((1, 4), 5, np.float32), np.full((1, 4), 3, np.float32)
    compiled = ov.compile_model(model, "CPU")
    for keys in ((0, 1), ("x", "other"), (model.input(0), model.input(1)), (compiled.input(0), "another"), ("x", 1)):
        item = dict(zip(keys, values, strict=True))
        found = registry().backends["openvino"].aggregator.collect(working, graph, [request], [item])
        assert [float(np.max(tensor)) for tensor in found.tensors(request)] == [2]
    item = {0: values[0], 2: values[1]}
    with pytest.raises(nncf.UnsupportedDatasetError, match="'x'"):
        registry().backends["openvino"].aggregator.collect(working, graph, [request], [item])
