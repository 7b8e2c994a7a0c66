"""A framework of dense layers, ``y = relu(x · w + b)``, and nothing else. It knows no nncf."""

from __future__ import annotations

import numpy as np


class Layer:
    """One layer; the weight may be int8 codes with one scale for each output channel."""

    def __init__(self, name, weight, bias, relu=True, scale=None, zero_point=None):
        self.name, self.weight, self.bias, self.relu = name, weight, bias, relu
        self.scale, self.zero_point = scale, zero_point

    def values(self):
        """The weight in floating point."""
        if self.scale is None:
            return self.weight
        centred = self.weight.astype(np.float32) - (0 if self.zero_point is None else self.zero_point)
        return centred * self.scale.astype(np.float32)


class Factor:
    """A multiplication before the layer of an index, or after the last one."""

    def __init__(self, name, index, values):
        self.name, self.index, self.values = name, index, values


class Network:
    """Layers in a row, and multiplications between them."""

    def __init__(self, layers, factors=()):
        self.layers, self.factors = list(layers), list(factors)

    def trace(self, x):
        """Input and output of each layer."""
        for index, layer in enumerate(self.layers):
            x = self._multiplied(x, index)
            y = x @ layer.values() + layer.bias
            y = np.maximum(y, 0) if layer.relu else y
            yield x, y
            x = y

    def __call__(self, x):
        """The last output."""
        y = [y for _, y in self.trace(np.asarray(x, np.float32))][-1]
        return self._multiplied(y, len(self.layers))

    def _multiplied(self, x, index):
        for factor in self.factors:
            x = x * factor.values if factor.index == index else x
        return x
