"""Edits, sub-models and statistics beyond what the conformance kit asks for."""

from __future__ import annotations

import numpy as np
import openvino as ov
import pytest

pytest.importorskip("nncf_openvino")

import nncf
from nncf_core.numerics.formats import SCHEMES
from nncf_core.numerics.kernels import compress
from nncf_core.statistics import StatisticsRequest
from nncf_core.transformations import CompressConstant, InsertMultiply, PointKind, ReplaceConstant, TargetPoint
from tests.backends.openvino import models
from tests.backends.openvino.models import BACKEND, BUILDER, INSERTER, constant, model_of, named, ops, parameter, random

X = random(3, 64, seed=9, scale=1)


def edited(model, *edits):
    working = BUILDER.open(model, {})
    return INSERTER.apply(working, BUILDER.build(working), edits, {})


def outputs(working, **feed):
    return list(INSERTER.runner(working)(feed or {"x": X}).values())


def test_a_multiplied_output_keeps_its_names() -> None:
    working = edited(models.mlp(random(8, 64)), InsertMultiply(TargetPoint("last"), np.array(3.0), "times"))
    assert working.model.output("y").get_names() == {"y"}
    np.testing.assert_allclose(outputs(working)[0], 3 * X @ random(8, 64).T, rtol=1e-5, atol=1e-5)


def test_a_factor_for_each_channel() -> None:
    factor = np.arange(1, 65)
    point = TargetPoint("last", PointKind.INPUT, 0)
    working = edited(models.mlp(random(8, 64)), InsertMultiply(point, factor))
    np.testing.assert_allclose(outputs(working)[0], (X * factor) @ random(8, 64).T, rtol=1e-4, atol=1e-4)
    assert "last/multiply" in [node.get_friendly_name() for node in working.model.get_ordered_ops()]


def test_integers_are_not_multiplied() -> None:
    with pytest.raises(nncf.ValidationError, match="i64"):
        edited(models.tied(random(8, 4)), InsertMultiply(TargetPoint("tokens"), np.array(2.0)))


@pytest.mark.parametrize(
    "edit",
    [
        ReplaceConstant("none", np.zeros(1)),
        ReplaceConstant("w0", np.zeros((3, 3))),
        CompressConstant("w0", compress(random(4, 4), SCHEMES["int8_sym"], reduction_axes=1)),
        InsertMultiply(TargetPoint("none"), np.array(1.0)),
        InsertMultiply(TargetPoint("last", PointKind.INPUT, 5), np.array(1.0)),
        InsertMultiply(TargetPoint("last/result"), np.array(1.0)),
    ],
)
def test_edits_of_what_is_not_there(edit) -> None:
    with pytest.raises(nncf.ValidationError):
        edited(models.mlp(random(8, 64)), edit)


def test_a_constant_is_compressed_once_in_a_round() -> None:
    tensor = compress(random(8, 64), SCHEMES["int8_sym"], reduction_axes=1)
    with pytest.raises(nncf.ValidationError, match="just been compressed"):
        edited(models.mlp(random(8, 64)), CompressConstant("w0", tensor), ReplaceConstant("w0", random(8, 64)))


def test_names_that_are_taken_are_not_given_again() -> None:
    x = parameter([-1, 64], "x")
    y = named(ops.relu(x), "w/scale")
    y = named(ops.matmul(y, constant(random(8, 64), "w"), False, True), "w/convert")
    model = nncf.compress_weights(model_of([y], [x]))
    names = [node.get_friendly_name() for node in model.get_ordered_ops()]
    assert len(set(names)) == len(names)
    assert names.count("w") == 1


def test_tensor_names_of_a_constant_stay_with_its_values() -> None:
    model = models.mlp(random(8, 64))
    w = next(node for node in model.get_ordered_ops() if node.get_friendly_name() == "w0")
    w.output(0).get_tensor().set_names({"the weight"})
    small = nncf.compress_weights(model)
    (port,) = [p for n in small.get_ordered_ops() for p in n.outputs() if "the weight" in p.get_names()]
    assert port.get_node().get_friendly_name() == "w0/fq_weights_1/convert"
    assert w.output(0).get_names() == {"the weight"}


class TestExtract:
    def test_between_two_points(self) -> None:
        model = models.mlp(random(32, 64), random(16, 32, seed=1), random(8, 16, seed=2))
        working = BUILDER.open(model, {})
        start, end = TargetPoint("matmul1", PointKind.INPUT, 0), TargetPoint("relu1")
        part = INSERTER.extract(working, [start], [end])
        data = random(3, 32, scale=1)
        (found,) = INSERTER.runner(part)({str(start): data}).values()
        np.testing.assert_allclose(found, np.maximum(data @ random(16, 32, seed=1).T, 0), rtol=1e-4, atol=1e-5)

    def test_an_output_that_needs_more_than_the_inputs(self) -> None:
        x, other = parameter([2], "x"), parameter([2], "other")
        model = model_of([named(ops.add(named(ops.relu(x), "relu"), other), "sum")], [x, other])
        with pytest.raises(nncf.ValidationError, match="depend on more"):
            INSERTER.extract(BUILDER.open(model, {}), [TargetPoint("relu")], [TargetPoint("sum")])

    def test_a_state_is_kept(self) -> None:
        x = parameter([2], "x")
        info = ov.op.util.VariableInfo()
        info.data_shape, info.data_type, info.variable_id = ov.PartialShape([2]), ov.Type.f32, "state"
        variable = ov.op.util.Variable(info)
        read = named(ov.opset6.read_value(constant(np.zeros(2, np.float32), "zero"), variable), "read")
        total = named(ops.add(x, read), "total")
        sink = named(ov.opset6.assign(total, variable), "assign")
        model = ov.Model([named(ops.result(total), "result")], [sink], [x], "main")
        part = INSERTER.extract(BUILDER.open(model, {}), [], [TargetPoint("total")])
        (found,) = INSERTER.runner(part)({"x": np.ones(2, np.float32)}).values()
        np.testing.assert_array_equal(found, [1, 1])


class TestStatistics:
    def collect(self, items):
        model = models.mlp(random(32, 64), random(16, 32, seed=1))
        working = BUILDER.open(model, {})
        self.request = StatisticsRequest(TargetPoint("relu0"), "abs_max", -1)
        return BACKEND.aggregator.collect(working, BUILDER.build(working), [self.request], items)

    @pytest.mark.parametrize("item", [{"x": X}, [X], (X,), X])
    def test_items_of_all_kinds(self, item) -> None:
        found = self.collect([item])[self.request]
        np.testing.assert_allclose(found, np.maximum(X @ random(32, 64).T, 0).max(0), rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize("item", [{"y": X}, {"x": X, "y": X}, [X, X], {"x": "text"}, {"x": X[:, :5]}])
    def test_items_that_do_not_fit(self, item) -> None:
        with pytest.raises(nncf.UnsupportedDatasetError, match="x"):
            self.collect([item])
