"""The OpenVINO backend does all that the kit expects of a backend."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("nncf_openvino")

import openvino as ov
from openvino import opset13 as ops

from nncf_core.testing import BackendConformance, ModelCase


def named(node, name):
    node.set_friendly_name(name)
    return node


def constant(array, name):
    return named(ops.constant(array), name)


def language_model(dtype, halved=False):
    """Embedding and head share a weight; matrix products with the weight transposed or not.

    :param halved: weights are float16 and converted, as in IR files that were saved with compress_to_fp16.
    """
    random = np.random.default_rng(1)
    stored = "float16" if halved else dtype
    shapes = {"embedding": (96, 64), "up": (64, 128), "down": (64, 128)}
    weights = {name: random.normal(0, 0.2, shape).astype(stored) for name, shape in shapes.items()}

    def make(weights):
        def weight(name):
            node = constant(weights[name], name)
            return named(ops.convert(node, "f32"), f"{name}/decompressed") if halved else node

        embedding = weight("embedding")
        tokens = named(ops.parameter([-1], np.int64), "tokens")
        tokens.output(0).get_tensor().set_names({"tokens"})
        x = named(ops.gather(embedding, tokens, constant(np.array(0), "axis")), "embed")
        x = named(ops.matmul(x, weight("up"), False, False), "up/matmul")
        x = named(ops.relu(x), "relu")
        x = named(ops.matmul(x, weight("down"), False, True), "down/matmul")
        x = named(ops.matmul(x, embedding, False, True), "head")
        result = named(ops.result(x), "result")
        x.output(0).get_tensor().set_names({"logits"})
        return ov.Model([result], [tokens], "language_model")

    feeds = [{"tokens": random.integers(0, 96, length)} for length in (5, 7, 3, 6)]
    return ModelCase(f"language_model_{'halved' if halved else dtype}", make, weights, feeds)


def convolution():
    """Convolutions, with groups and backwards; matrix multiplications in more dimensions, by weights on either side."""
    random = np.random.default_rng(2)
    shapes = {
        "kernel": (32, 3, 3, 3),
        "grouped": (4, 8, 8, 3, 3),
        "back": (32, 16, 3, 3),
        "last": (16, 8),
        "left": (6, 12),
    }
    weights = {name: random.normal(0, 0.2, shape).astype(np.float32) for name, shape in shapes.items()}

    def make(weights):
        w = {name: constant(array, name) for name, array in weights.items()}
        same = {"strides": [1, 1], "pads_begin": [1, 1], "pads_end": [1, 1], "dilations": [1, 1]}
        x = named(ops.parameter([-1, 3, 6, 6], np.float32), "x")
        x.output(0).get_tensor().set_names({"x"})
        y = named(ops.convolution(x, w["kernel"], **same), "conv")
        y = named(ops.relu(y), "relu")
        y = named(ops.group_convolution(y, w["grouped"], **same), "group_conv")
        y = named(ops.convolution_backprop_data(y, w["back"], strides=[1, 1], pads_begin=[1, 1], pads_end=[1, 1]), "up")
        y = named(ops.transpose(y, constant(np.array([0, 2, 3, 1]), "order")), "channels_last")
        y = named(ops.matmul(y, w["last"], False, False), "last/matmul")
        y = named(ops.matmul(w["left"], y, True, False), "left/matmul")
        y.output(0).get_tensor().set_names({"y"})
        return ov.Model([named(ops.result(y), "result")], [x], "convolution")

    feeds = [{"x": random.normal(0, 1, (2, 3, 6, 6)).astype(np.float32)} for _ in range(4)]
    return ModelCase("convolution", make, weights, feeds)


class OpenVINOConformance(BackendConformance):
    framework = "openvino"
    framework_modules = ("openvino",)


class TestOpenVINO(OpenVINOConformance):
    def cases(self):
        return [language_model("float32"), language_model("float16"), convolution()]

    def arguments(self):
        found = super().arguments()
        return {**found, "scheme": [scheme for scheme in found["scheme"] if str(scheme) != "nf4"]}


@pytest.mark.slow
class TestOpenVINORounded(OpenVINOConformance):
    """OpenVINO rounds the values of NF4 to float16, and does not round what is decompressed for a float16 constant."""

    tolerance = 2.0**-10

    def cases(self):
        return [language_model("float32", True)]


class TestOpenVINONF4(TestOpenVINORounded):
    def cases(self):
        return [language_model("float32"), convolution()]

    def arguments(self):
        found = super().arguments()
        return {**found, "scheme": [scheme for scheme in found["scheme"] if str(scheme) == "nf4"]}
