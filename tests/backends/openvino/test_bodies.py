"""Weights in the bodies of If, Loop and TensorIterator."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("nncf_openvino")

import openvino as ov
from openvino.op import tensor_iterator

import nncf
from nncf_core.numerics.kernels import decompress
from nncf_core.transformations import InsertMultiply, PointKind, TargetPoint
from tests.backends.openvino import models
from tests.backends.openvino.models import (
    BUILDER,
    INSERTER,
    constant,
    graph_of,
    model_of,
    named,
    ops,
    parameter,
    random,
    run,
)

INT8 = nncf.CompressWeightsMode.INT8_SYM


def values(model):
    return {name: decompress(c.compressed()) for name, c in graph_of(model).constants.items() if c.compressed}


@pytest.mark.parametrize("taken", [True, False])
def test_branches(taken: bool) -> None:
    model = models.branches(random(16, 16), random(16, 16, seed=1))
    small = nncf.compress_weights(model, mode=INT8)
    found, x = values(small), random(2, 16, seed=2)
    assert set(found) == {"w", "own"}
    want = x @ found["w"] + x @ found["w" if taken else "own"]
    np.testing.assert_allclose(run(small, x=x, condition=np.array(taken))[0], want, atol=1e-5)


def test_a_weight_from_outside_is_compressed_once_and_outside() -> None:
    small = nncf.compress_weights(models.branches(random(16, 16), random(16, 16, seed=1)), mode=INT8)
    node = next(node for node in small.get_ordered_ops() if node.get_type_name() == "If")
    inside = [n.get_friendly_name() for n in node.get_function(0).get_ordered_ops() if n.get_type_name() == "Constant"]
    assert inside == []
    assert [n.get_type_name() for n in small.get_ordered_ops()].count("Multiply") == 1


def test_loops() -> None:
    small = nncf.compress_weights(models.loop(random(16, 16, scale=0.5), 3), mode=INT8)
    found, x = values(small), random(2, 16, seed=2)
    np.testing.assert_allclose(run(small, x=x)[0], x @ found["w"] @ found["w"] @ found["w"], rtol=1e-4, atol=1e-5)


def test_tensor_iterators() -> None:
    x = parameter([1, 3, 16], "x")
    step, weight = parameter([1, 1, 16], "step"), parameter([16, 16], "weight")
    product = named(ops.matmul(step, weight, False, False), "body/matmul")
    body = model_of([product], [step, weight], "body")
    node = tensor_iterator()
    node.set_function(body)
    node.set_sliced_input(step, x.output(0), 0, 1, 1, -1, 1)
    node.set_invariant_input(weight, constant(random(16, 16), "w").output(0))
    output = node.get_concatenated_slices(body.get_results()[0].input(0).get_source_output(), 0, 1, 1, -1, 1)
    named(node, "iterator")
    model = ov.Model([named(ops.result(output), "result")], [x], "main")
    small = nncf.compress_weights(model, mode=INT8)
    data = random(1, 3, 16, seed=2)
    np.testing.assert_allclose(run(small, x=data)[0], data @ values(small)["w"], atol=1e-5)


def test_the_users_bodies_are_not_changed() -> None:
    model = models.loop(random(16, 16))
    before = [node.get_type_name() for node in body_of(model).get_ordered_ops()]
    small = nncf.compress_weights(model, mode=INT8)
    assert [node.get_type_name() for node in body_of(model).get_ordered_ops()] == before
    assert len(body_of(small).get_ordered_ops()) > len(before)


def body_of(model):
    return next(n for n in model.get_ordered_ops() if n.get_type_name() == "Loop").get_function()


def test_ignoring_a_control_flow_node_ignores_its_bodies() -> None:
    model = models.branches(random(16, 16), random(16, 16, seed=1))
    small = nncf.compress_weights(model, mode=INT8, ignored_scope=nncf.IgnoredScope(names=["if"]))
    assert values(small) == {}


def test_files_with_bodies(tmp_path) -> None:
    ov.serialize(models.branches(random(16, 16), random(16, 16, seed=1)), tmp_path / "model.xml")
    small = nncf.compress_weights(tmp_path / "model.xml", mode=INT8)
    assert set(values(small)) == {"w", "own"}


def test_points_in_bodies_can_be_changed_but_not_reached_alone() -> None:
    model = models.loop(random(16, 16), steps=2)
    working = BUILDER.open(model, {})
    point = TargetPoint("body/matmul", PointKind.OUTPUT, 0)
    with pytest.raises(nncf.ValidationError, match="body"):
        INSERTER.extract(working, (), [point])
    INSERTER.apply(working, BUILDER.build(working), [InsertMultiply(point, np.array(2.0))], {})
    x = random(2, 16, seed=2)
    (found,) = INSERTER.runner(working)({"x": x}).values()
    np.testing.assert_allclose(found, 4 * run(model, x=x)[0], rtol=1e-5, atol=1e-6)
