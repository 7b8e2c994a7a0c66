"""How far the outputs of a model are from those of its teacher."""

from __future__ import annotations

from typing import Any

from nncf_core.errors import UnsupportedModelError
from nncf_core.numerics.arrays import Array, space_of
from nncf_core.training.contracts import Teacher
from nncf_core.training.control import CompressionLoss


def squared_error(student: Array, teacher: Array) -> Array:
    """The mean of the squared differences."""
    return ((student - teacher) ** 2).mean()


def cross_entropy(student: Array, teacher: Array, temperature: float) -> Array:
    """Of the classes' probabilities at a temperature, ``-Σ softmax(t/T) · log softmax(s/T) · T²``; the mean of a batch.

    The factor keeps the size of gradients (Hinton et al. 2015, https://arxiv.org/abs/1503.02531, section 2).

    :param student: scores of classes, ``[batch, classes]``.
    """
    xp = space_of(student).xp
    wanted = xp.exp(_log_softmax(teacher / temperature))
    return -xp.sum(wanted * _log_softmax(student / temperature), axis=-1).mean() * temperature**2


def _log_softmax(scores: Array) -> Array:
    xp = space_of(scores).xp
    shifted = scores - xp.max(scores, axis=-1, keepdims=True)
    return shifted - xp.log(xp.sum(xp.exp(shifted), axis=-1, keepdims=True))


class DistillationLoss(CompressionLoss):
    """The sum over outputs, times a scale.

    :param kind: ``mse``, or ``softmax``, which takes outputs with two dimensions.
    """

    def __init__(self, teacher: Teacher, kind: str, scale: float, temperature: float) -> None:
        self._teacher, self._kind, self._scale, self._temperature = teacher, kind, scale, temperature

    def calculate(self, *args: Any, **kwargs: Any) -> Any:
        """The term, for the last forward pass of the model in training mode.

        :raises UnsupportedModelError: when no output can be compared.
        """
        pairs = list(self._teacher.outputs())
        if self._kind == "softmax":
            pairs = [pair for pair in pairs if len(pair[0].shape) == 2]
        if not pairs:
            wanted = "two dimensions, [batch, classes]" if self._kind == "softmax" else "floating-point numbers"
            raise UnsupportedModelError(f"knowledge_distillation found no output of the model with {wanted}.")
        if self._kind == "mse":
            terms = [squared_error(student, teacher) for student, teacher in pairs]
        else:
            terms = [cross_entropy(student, teacher, self._temperature) for student, teacher in pairs]
        return sum(terms) * self._scale
