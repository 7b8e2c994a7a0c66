"""Small OpenVINO models whose nodes all have names."""

from __future__ import annotations

import numpy as np
import openvino as ov
from openvino import opset13 as ops

from nncf_core.registry import registry

BACKEND = registry().backends["openvino"]
BUILDER, INSERTER = BACKEND.builder, BACKEND.inserter


def random(*shape, dtype="float32", seed=0, scale=0.2):
    return np.random.default_rng(seed).normal(0, scale, shape).astype(dtype)


def named(node, name, tensor=None):
    node.set_friendly_name(name)
    if tensor is not None:
        node.output(0).get_tensor().set_names({tensor})
    return node


def constant(array, name):
    return named(ops.constant(array), name)


def parameter(shape, name, dtype=np.float32):
    return named(ops.parameter(shape, dtype), name, name)


def model_of(outputs, inputs, name="main"):
    results = [named(ops.result(output), f"{output.get_friendly_name()}/result") for output in outputs]
    return ov.Model(results, inputs, name)


def matmul(weight, transpose_a=False, transpose_b=False, on_the_left=False, rank=2):
    """``x @ w`` or ``w @ x``."""
    x = parameter([-1] * rank, "x", weight.dtype)
    w = constant(weight, "w")
    operands = (w, x) if on_the_left else (x, w)
    return model_of([named(ops.matmul(*operands, transpose_a, transpose_b), "matmul", "y")], [x])


def halved(weight, transpose_b=True):
    """A product with a weight that is stored as float16, as compress_to_fp16 does."""
    x = parameter([-1, -1], "x")
    w = named(ops.convert(constant(weight.astype(np.float16), "w"), "f32"), "w/decompressed")
    return model_of([named(ops.matmul(x, w, False, transpose_b), "matmul", "y")], [x])


def tied(weight):
    """An embedding that is the head, too."""
    tokens = parameter([-1], "tokens", np.int64)
    w = constant(weight, "w")
    x = named(ops.gather(w, tokens, constant(np.array(0), "axis")), "embed")
    return model_of([named(ops.matmul(x, w, False, True), "head", "y")], [tokens])


def mlp(*weights):
    """Products by weights that are transposed, with activations between them; weights ``w0``, ``w1`` …"""
    x = y = parameter([-1, weights[0].shape[1]], "x")
    for index, weight in enumerate(weights):
        y = named(ops.matmul(y, constant(weight, f"w{index}"), False, True), f"matmul{index}")
        y = named(ops.relu(y), f"relu{index}") if index < len(weights) - 1 else named(y, "last", "y")
    return model_of([y], [x])


def branches(captured, own):
    """An If whose branches multiply by a weight from outside, which the model uses itself, and by one of their own."""
    x, condition = parameter([-1, captured.shape[0]], "x"), parameter([], "condition", np.bool_)
    w = constant(captured, "w")
    p, pw = parameter([-1, captured.shape[0]], "p"), parameter(list(captured.shape), "pw")
    then = model_of([named(ops.matmul(p, pw, False, False), "then/matmul")], [p, pw], "then")
    q = parameter([-1, captured.shape[0]], "q")
    other = model_of([named(ops.matmul(q, constant(own, "own"), False, False), "else/matmul")], [q], "else")
    chosen = named(ops.if_op(condition.output(0)), "if")
    chosen.set_then_body(then)
    chosen.set_else_body(other)
    chosen.set_input(x.output(0), p, q)
    chosen.set_input(w.output(0), pw, None)
    result = chosen.set_output(then.get_results()[0], other.get_results()[0])
    main = named(ops.matmul(x, w, False, False), "main/matmul")
    total = named(ops.add(main, result), "total", "y")
    return model_of([total], [x, condition])


def loop(weight, steps=3):
    """``x`` times a weight, several times over."""
    from openvino.op import loop as loop_op

    x = parameter([2, weight.shape[0]], "x")
    p = parameter([2, weight.shape[0]], "p")
    body_result = named(ops.matmul(p, constant(weight, "w"), False, False), "body/matmul")
    go_on = constant(np.array(True), "go_on")
    body = model_of([body_result, go_on], [p], "body")
    node = loop_op(constant(np.array(steps), "steps").output(0), constant(np.array(True), "start").output(0))
    node.set_function(body)
    node.set_special_body_ports([-1, 1])
    node.set_merged_input(p, x.output(0), body.get_results()[0].input(0).get_source_output())
    output = node.get_iter_value(body.get_results()[0].input(0).get_source_output(), -1)
    named(node, "loop")
    return ov.Model([named(ops.result(output), "result")], [x], "main")


def recurrent(kind, hidden=32, inputs=16, seed=0):
    """An LSTM or GRU sequence in both directions."""
    gates = 4 if kind == "LSTM" else 3
    w, r = random(2, gates * hidden, inputs, seed=seed), random(2, gates * hidden, hidden, seed=seed + 1)
    b = random(2, gates * hidden, seed=seed + 2)
    x = parameter([1, 5, inputs], "x")
    h = constant(np.zeros((1, 2, hidden), np.float32), "h")
    lengths = constant(np.array([5], np.int64), "lengths")
    wc, rc, bc = constant(w, "W"), constant(r, "R"), constant(b, "B")
    if kind == "LSTM":
        c = constant(np.zeros((1, 2, hidden), np.float32), "c")
        node = ops.lstm_sequence(x, h, c, lengths, wc, rc, bc, hidden, "bidirectional")
    else:
        node = ops.gru_sequence(x, h, lengths, wc, rc, bc, hidden, "bidirectional")
    named(node, kind.lower())
    return ov.Model([named(ops.result(node.output(0)), "result")], [x], "main")


def fake_quantized(weight, low, high, levels=256):
    """A product by a weight that a FakeQuantize rounds."""
    x = parameter([-1, weight.shape[1]], "x")
    ranges = [constant(np.asarray(r, np.float32), f"range{i}") for i, r in enumerate((low, high, low, high))]
    rounded = named(ops.fake_quantize(constant(weight, "w"), *ranges, levels), "fq")
    return model_of([named(ops.matmul(x, rounded, False, True), "matmul", "y")], [x])


def run(model, **feed):
    """Outputs in order, computed as exactly as the CPU does."""
    working = BUILDER.open(model, {})
    return list(INSERTER.runner(working)(feed).values())


def graph_of(model):
    return BUILDER.build(BUILDER.open(model, {}))


def chain(model, name):
    """Types of the operators from a constant to its first user that is none of decompression, with names."""
    node = next(node for node in model.get_ordered_ops() if node.get_friendly_name() == name)
    found = [(node.get_type_name(), node.get_output_element_type(0).to_string(), node.get_friendly_name())]
    while node.get_type_name() in ("Constant", "Convert", "Subtract", "Multiply", "Reshape", "Gather"):
        node = min(node.output(0).get_target_inputs(), key=lambda port: port.get_index()).get_node()
        found.append((node.get_type_name(), node.get_output_element_type(0).to_string(), node.get_friendly_name()))
    return found
