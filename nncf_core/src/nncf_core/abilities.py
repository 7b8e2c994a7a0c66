"""What a target-point inserter may do besides what all of them do: a protocol for each ability.

Backends have those that fit their framework; the core asks with ``isinstance``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np

from nncf_core.graph import Constant, Graph, Node
from nncf_core.hardware import QuantizationSetup
from nncf_core.numerics.tensor import CompressedTensor
from nncf_core.refining import CompressionRequest
from nncf_core.transformations import TargetPoint, Transformation

Model: TypeAlias = Any
"""A framework's own model object; only its backend looks inside."""

Runner: TypeAlias = Callable[[Mapping[str, np.ndarray]], Mapping[str, np.ndarray]]
"""Runs a model: arrays by input name to arrays by output name."""


@runtime_checkable
class SizingInserter(Protocol):
    """What a target-point inserter has besides when models do not store compressed tensors as they are in memory."""

    def stored_bytes(
        self, graph: Graph, constant: Constant, tensor: CompressedTensor, options: Mapping[str, Any]
    ) -> int:
        """Bytes of codes, scales, zero points and tables that a compressed constant will take in the model.

        :param options: the backend's own options (``backend_params``).
        """


@runtime_checkable
class TrainingInserter(Protocol):
    """What a target-point inserter has besides when it carries out ``CompressConstant`` with ``training``.

    Others are never asked to: :attr:`~nncf_core.contracts.Context.refusal` says so in their place.
    """

    def training_refusal(
        self, graph: Graph, constant: Constant, request: CompressionRequest, options: Mapping[str, Any]
    ) -> str | None:
        """Why the constant cannot be trained in this way, with what would work; ``None`` when it can."""


@runtime_checkable
class QuantizingInserter(Protocol):
    """What a target-point inserter has besides when it carries out ``InsertQuantizer``."""

    def quantization_setup(self, device: str) -> QuantizationSetup:
        """What the framework's runtime computes with integers on a device.

        :param device: value of a ``TargetDevice``.
        :raises ParameterNotSupportedError: when the runtime does not run on such a device.
        """


@runtime_checkable
class SelectiveInserter(Protocol):
    """What a target-point inserter has besides when it does not carry out ``InsertMultiply`` at every point."""

    def takes_multiplication(self, model: Model, graph: Graph, point: TargetPoint) -> bool:
        """Whether a tensor of floating-point numbers can be multiplied at a point of a working model."""


@runtime_checkable
class BiasInserter(Protocol):
    """What a target-point inserter has besides when it carries out ``InsertBias``."""

    def takes_bias(self, model: Model, graph: Graph, node: Node) -> bool:
        """Whether a layer of a working model, which has no bias, can be given one."""


@runtime_checkable
class LowRankInserter(Protocol):
    """What a target-point inserter has besides when it carries out ``InsertLowRank``."""

    def takes_low_rank(self, model: Model, graph: Graph, constant: str) -> bool:
        """Whether the layers of a working model that take a weight can have low-rank branches.

        :param constant: name of the weight; not compressed yet, or compressed in an earlier round.
        """


@runtime_checkable
class PreparingInserter(Protocol):
    """What a target-point inserter has besides when its models are prepared for algorithms that insert quantizers."""

    def prepare(self, model: Model, options: Mapping[str, Any]) -> Model:
        """Change a working model, but not what it computes, so that quantizers land where the runtime can use them.

        E.g. normalization becomes part of the layer before it. The algorithm sees the graph of the result.

        :param options: the backend's own options (``backend_params``), by which steps can be switched off.
        """


@runtime_checkable
class FinishingInserter(Protocol):
    """What a target-point inserter has besides when quantized models can be written in a form that runs faster."""

    def finish(self, model: Model, device: str, options: Mapping[str, Any]) -> Model:
        """Change a working model that all edits were carried out on, but not what it computes.

        :param device: where it will run, value of a ``TargetDevice``.
        :param options: the backend's own options (``backend_params``), by which steps can be switched off.
        """


@runtime_checkable
class SamplingInserter(Protocol):
    """What a target-point inserter has besides when there is a faster way to run a model on many samples."""

    def sampling_runner(self, model: Model, threads: int) -> Runner:
        """Like :meth:`~nncf_core.contracts.TargetPointInserter.runner`, for statistics.

        Tensors may come of activations in bfloat16 where the processor computes faster with these. The next run of this
        runner in the same thread may write over them. It is made, of what ``extract`` gives, and runs in other threads
        than the one that changes the model, at the same time.

        :param threads: how many threads call it at the same time.
        """


@runtime_checkable
class DividingInserter(Protocol):
    """What a target-point inserter has besides when not every working model can be run part by part."""

    def divisible(self, model: Model) -> Model | None:
        """A working model of the same constants that can be divided; ``None``: there is none.

        See :meth:`~nncf_core.contracts.TargetPointInserter.extract`. ``model`` is not changed, and changes of it do not
        show in the result.
        """


@runtime_checkable
class ShrinkingInserter(Protocol):
    """What a target-point inserter has besides when it carries out ``ShrinkConstant`` and ``ResizeOutput``."""

    def shaped(self, model: Model, graph: Graph) -> Graph:
        """The graph of a working model, with the shapes of all tensors that can be told."""

    def trial(self, model: Model, graph: Graph, edits: Sequence[Transformation]) -> Sequence[np.ndarray] | None:
        """The outputs of a copy of a working model with edits; ``model`` is not changed.

        They are those on its example input, where it has one, otherwise on random numbers that are the same each time.

        :return: ``None`` when there is nothing to run it on.
        :raises UnsupportedModelError: when the copy does not run.
        """


@runtime_checkable
class CurvatureInserter(Protocol):
    """What a target-point inserter has besides when it looks at second derivatives of a loss."""

    def hessian_traces(
        self,
        model: Model,
        names: Sequence[str],
        samples: int,
        vectors: int,
        tolerance: float,
        options: Mapping[str, Any],
    ) -> Mapping[str, float]:
        """The trace of the block of the loss's Hessian that is of each constant, over the number of its elements.

        :param names: of constants of a working model.
        :param samples: that it is a mean over.
        :param vectors: random vectors that it is estimated with, at most.
        :param tolerance: change of the estimate, relative, at which no more are taken.
        :param options: the backend's own options, among them the loss and the data.
        :raises ParameterNotSupportedError: when there is no loss.
        """
