"""What plugins implement: one protocol for each of the five hooks.

A *backend* is what the core assembles for a framework from a graph builder, a target-point inserter and a
statistics aggregator of the same ``framework`` name. A backend knows no algorithm, an algorithm no backend.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from attrs import field, frozen

from nncf_core.abilities import BiasInserter as BiasInserter
from nncf_core.abilities import CurvatureInserter as CurvatureInserter
from nncf_core.abilities import DividingInserter as DividingInserter
from nncf_core.abilities import FinishingInserter as FinishingInserter
from nncf_core.abilities import LowRankInserter as LowRankInserter
from nncf_core.abilities import Model as Model
from nncf_core.abilities import PreparingInserter as PreparingInserter
from nncf_core.abilities import QuantizingInserter as QuantizingInserter
from nncf_core.abilities import Runner as Runner
from nncf_core.abilities import SamplingInserter as SamplingInserter
from nncf_core.abilities import SelectiveInserter as SelectiveInserter
from nncf_core.abilities import ShrinkingInserter as ShrinkingInserter
from nncf_core.abilities import SizingInserter as SizingInserter
from nncf_core.abilities import TrainingInserter as TrainingInserter
from nncf_core.controlling import ControllingAlgorithm as ControllingAlgorithm
from nncf_core.controlling import DeployingInserter as DeployingInserter
from nncf_core.controlling import TunableAlgorithm as TunableAlgorithm
from nncf_core.errors import UnsupportedBackendError
from nncf_core.graph import Constant, Graph, Node
from nncf_core.hardware import QuantizationSetup
from nncf_core.log import nncf_logger
from nncf_core.progress import Progress, SilentProgress
from nncf_core.refining import CompressionRequest as CompressionRequest
from nncf_core.refining import PlannedConstant, PlannedWeight
from nncf_core.statistics import Statistics, StatisticsRequest
from nncf_core.transformations import TargetPoint, Transformation


@runtime_checkable
class GraphBuilder(Protocol):
    """Reads a framework's models.

    One whose graph comes of running the model has an attribute ``traces`` that is true. Then the options of
    :meth:`open` have an ``example_input`` where the user gave one, or a dataset, whose first item it is.

    :class:`CheckingBuilder` says before that of an item that it can be none.

    One with an attribute ``works_in_place`` that is true takes an option ``in_place``: where it is true, the working
    model is the very object that was given.
    """

    @property
    def framework(self) -> str:
        """Name of the backend."""

    @property
    def title(self) -> str:
        """Name of the framework as people write it."""

    @property
    def suffixes(self) -> tuple[str, ...]:
        """File name suffixes that :meth:`open` understands, lower case, with the dot."""

    def accepts(self, model: object) -> bool:
        """Whether this is a model of the framework. Must not import a framework that is not yet imported."""

    def open(self, source: Model | Path, options: Mapping[str, Any]) -> Model:
        """The working model of a run, which may be changed without changing ``source``.

        :param source: a model of the framework, or the path of a model file. Large constants are shared with
            the source, or mapped lazily from the file.
        :param options: the backend's own options (``backend_params``).
        :raises UnsupportedModelError: when the model is malformed.
        :raises InvalidPathError: when the file, or a file it refers to, is missing or outside its folder.
        """

    def build(self, model: Model) -> Graph:
        """The graph of a working model.

        :raises UnsupportedModelError: when the model is not valid.
        """

    def export(self, model: Model, source: Model | Path) -> Model:
        """The working model as the kind of object that the user gave; of a path: the framework's usual one."""

    def save(self, model: Model, path: Path) -> None:
        """Write a working or exported model, atomically: to a temporary name first, then renamed."""


@runtime_checkable
class StreamingBuilder(Protocol):
    """What a graph builder may do in addition, so that the codes of a large model need not fit into memory."""

    def streaming(self, model: Model, path: Path) -> AbstractContextManager[None]:
        """Within the block, new constants of a working model go to the file as they come.

        The block ends with ``save(model, path)``. The file replaces an old one when the block is left, and not at
        all when it is left by an error.

        :raises InvalidPathError: when the folder is missing or not writable, or the disk is full.
        """


@runtime_checkable
class FileLister(Protocol):
    """What a graph builder may do besides, where a model has more than one file."""

    def files(self, path: Path) -> Sequence[Path]:
        """All files of a model that :meth:`GraphBuilder.open` takes, the one at ``path`` first."""


@runtime_checkable
class Recorder(Protocol):
    """What a graph builder may do besides: write down in a model what was done to it, where its format has a place."""

    def record(self, model: Model, algorithm: str, parameters: Mapping[str, Any]) -> None:
        """Write down that an algorithm has changed a working model.

        :param parameters: the algorithm's parameters as plain data (JSON), defaults included.
        """


@runtime_checkable
class TargetPointInserter(Protocol):
    """Carries out transformations."""

    @property
    def framework(self) -> str:
        """Name of the backend."""

    def refusal(
        self, graph: Graph, constant: Constant, request: CompressionRequest, options: Mapping[str, Any]
    ) -> str | None:
        """Why the constant cannot be compressed in this way, with what would work; ``None`` when it can."""

    def apply(
        self,
        model: Model,
        graph: Graph,
        transformations: Iterable[Transformation],
        options: Mapping[str, Any],
    ) -> Model:
        """Change ``model`` (which the caller owns) and return it, or a new one.

        Transformations are consumed one by one, so that arrays need not all be in memory.

        :param options: the backend's own options (``backend_params``).
        """

    def extract(self, model: Model, inputs: Sequence[TargetPoint], outputs: Sequence[TargetPoint]) -> Model:
        """A runnable sub-model from the input points to the output points; ``model`` is not changed.

        Its inputs and outputs are named ``str(target_point)``, in the order given. Empty ``inputs`` means the
        model's own.
        """

    def runner(self, model: Model) -> Runner:
        """A callable that runs the model.

        Where the builder traces, one that runs a part with inputs is also fed the model's own inputs, by the names of
        their tensors in the graph: it may run the whole model on them to get at the part.
        """


@runtime_checkable
class StatisticsAggregator(Protocol):
    """Collects statistics of activations."""

    @property
    def framework(self) -> str:
        """Name of the backend."""

    def collect(
        self,
        model: Model,
        graph: Graph,
        requests: Sequence[StatisticsRequest],
        inputs: Iterable[Any],
    ) -> Statistics:
        """Run the model on each item of ``inputs`` (at least one) and aggregate.

        :raises UnsupportedDatasetError: when an item cannot be used as the model's input.
        """


def _no_trial(edits: Sequence[Transformation]) -> Sequence[np.ndarray] | None:
    raise UnsupportedBackendError("The backend cannot shrink constants.")


def _no_part(inputs: Sequence[TargetPoint], outputs: Sequence[TargetPoint]) -> Runner:
    raise UnsupportedBackendError("There is no model to take a part of.")


def _no_traces(names: Sequence[str], samples: int, vectors: int, tolerance: float) -> Mapping[str, float]:
    raise UnsupportedBackendError("There is no loss whose Hessian could be looked at.")


@frozen
class Context:
    """What an algorithm gets besides graph, statistics and parameters.

    :param executor: independent work is mapped over it; ``None`` runs it in the calling thread. Results must
        not depend on it.
    :param progress: where to report progress.
    :param ignored: names of the nodes that the user excluded.
    :param refusal: whether the backend cannot compress a constant in some way, see
        :meth:`TargetPointInserter.refusal`, or not train it then, see :meth:`TrainingInserter.training_refusal`; the
        answer names the backends that could, where it is known.
    :param quantization_setup: see :meth:`QuantizingInserter.quantization_setup`; raises UnsupportedBackendError when
        the backend cannot insert quantizers.
    :param batch_size: samples in an item of the dataset, as its source says.
    :param takes_multiplication: see :meth:`SelectiveInserter.takes_multiplication`.
    :param takes_bias: see :meth:`BiasInserter.takes_bias`.
    :param part: runs what lies between points of the model so far; arrays go in and out by ``str(target_point)``, see
        :meth:`TargetPointInserter.extract`. It must be fed the model's own inputs besides, by the names of their
        tensors in the graph, see :meth:`TargetPointInserter.runner`.
    :param note: tells the user what the algorithm chose and why, in a sentence, for the log and the report. What is
        told twice in a run counts once.
    :param has_data: whether statistics of activations can be had: there is a dataset, or a file of statistics. An
        algorithm that works with and without them chooses by this.
    :param planned: to one that refines weights: what is going to be compressed, in the order in which it will be.
    :param takes_low_rank: see :meth:`LowRankInserter.takes_low_rank`.
    :param training: whether the model is going to be trained, see
        :class:`~nncf_core.training.contracts.TrainingAlgorithm`.
    :param shaped: see :meth:`ShrinkingInserter.shaped`; ``None`` when the backend cannot shrink constants.
    :param trial: see :meth:`ShrinkingInserter.trial`.
    :param mask_refusal: why a constant cannot have a mask, see
        :meth:`~nncf_core.training.contracts.TrainableInserter.mask_refusal`; ``None`` when it can.
    :param carry: takes statistics of the model behind the edits of a round, where an algorithm knows them. They need
        not be collected then for what refines the next section, and for the next section where it quantizes and all
        that it asks for is :attr:`ahead`; then it sees the items behind those that they are of.
    :param ahead: what the next section would ask for, were there no edits, where it quantizes; nothing where what
        could be carried to it would be of no use.
    :param kept: what the algorithm itself leaves here in one call of a round is there in the next.
    :param hessian_traces: of constants by names, see :meth:`CurvatureInserter.hessian_traces`.
    :param warn: as ``note``, of what the user would not expect, such as that nothing is compressed; the log warns.
    """

    executor: Executor | None = None
    progress: Progress = field(factory=SilentProgress)
    ignored: frozenset[str] = frozenset()
    refusal: Callable[[Constant, CompressionRequest], str | None] = lambda _constant, _request: None
    quantization_setup: Callable[[str], QuantizationSetup] = lambda _device: QuantizationSetup()
    batch_size: int = 1
    takes_multiplication: Callable[[TargetPoint], bool] = lambda _point: True
    takes_bias: Callable[[Node], bool] = lambda _node: False
    part: Callable[[Sequence[TargetPoint], Sequence[TargetPoint]], Runner] = _no_part
    note: Callable[[str], None] = nncf_logger.info
    has_data: bool = False
    planned: tuple[PlannedConstant, ...] = ()
    takes_low_rank: Callable[[str], bool] = lambda _constant: False
    training: bool = False
    shaped: Callable[[], Graph] | None = None
    trial: Callable[[Sequence[Transformation]], Sequence[np.ndarray] | None] = _no_trial
    hessian_traces: Callable[[Sequence[str], int, int, float], Mapping[str, float]] = _no_traces
    mask_refusal: Callable[[str], str | None] = lambda _constant: "the backend trains no models"
    carry: Callable[[Statistics], None] = lambda _statistics: None
    ahead: tuple[StatisticsRequest, ...] = ()
    kept: dict[str, Any] = field(factory=dict, eq=False, repr=False)
    warn: Callable[[str], None] = nncf_logger.warning


@runtime_checkable
class Algorithm(Protocol):
    """A compression algorithm.

    One that inserts quantizers has an attribute ``quantizes`` that is true. Then its model is prepared for them first,
    see :class:`PreparingInserter`. One whose statistics may come of activations in bfloat16, since they are means of
    many, has an attribute ``tolerates_rounding`` that is true. Then they are collected with
    :class:`SamplingInserter`'s runner where there is one; those of a :class:`RefiningAlgorithm` always are. One that
    makes use of :attr:`Context.ahead` has an attribute ``looks_ahead`` that is true.
    """

    @property
    def name(self) -> str:
        """Value of ``"algorithm"`` in a config."""

    @property
    def parameters(self) -> type:
        """attrs class that its config section is structured into."""

    def schema(self) -> Mapping[str, Any]:
        """JSON schema (draft-07, an object) of the algorithm's config section.

        The core adds ``algorithm`` and the scoping properties that all algorithms share.
        """

    def rounds(self, graph: Graph, params: Any) -> int:
        """How many times requests → statistics → transformations is to run, each on the model so far."""

    def requests(self, graph: Graph, params: Any, context: Context, round_index: int) -> Sequence[StatisticsRequest]:
        """Statistics needed in a round; empty when no data is needed."""

    def transformations(
        self, graph: Graph, statistics: Statistics, params: Any, context: Context, round_index: int
    ) -> Iterable[Transformation]:
        """The edits of a round, in graph order; a generator keeps memory small.

        :param statistics: of this round's requests and, where they were not asked for again, of earlier rounds'.
        """


@runtime_checkable
class SamplingAlgorithm(Protocol):
    """What an algorithm has besides when its rounds do not all look at ``params.subset_size`` samples.

    A sample is an item of the dataset; where ``params.batches_count`` is true, an item that is a batch is as many.
    """

    def samples(self, params: Any, round_index: int) -> int | None:
        """Number of samples that statistics of a round are collected on; ``None``: all."""


@runtime_checkable
class PlanningAlgorithm(Protocol):
    """What an algorithm has besides when others may refine what it does to weights."""

    def planned(
        self, graph: Graph, statistics: Statistics, params: Any, context: Context
    ) -> tuple[PlannedConstant, ...]:
        """The constants that its only round will compress, in the order of its edits; none of them is read for it.

        :param statistics: of its own requests.
        """


@runtime_checkable
class RefiningAlgorithm(Protocol):
    """What an algorithm has besides when it improves what the algorithm of a section before it does to weights.

    It is asked for ``requests`` once, with ``context.planned``; statistics are of the model before that algorithm's
    edits. ``transformations`` is not called. Where it has an attribute ``propagates`` that is true, they are of the
    inputs that layers have behind weights that are compressed already, as far as the backend can run parts of the
    model; the kind ``cross_gram`` looks at both kinds of inputs.
    """

    def refined(
        self,
        weights: Sequence[PlannedWeight],
        graph: Graph,
        statistics: Statistics,
        params: Any,
        context: Context,
    ) -> Sequence[PlannedWeight]:
        """The same weights, with better codes, another target, or further edits.

        :param weights: those that take the same tensor, such as the projections of queries, keys and values.
        :param statistics: of this algorithm's requests at the inputs of these weights, as far as there is data.
        """


@runtime_checkable
class DescribingAlgorithm(Protocol):
    """What an algorithm has besides when parameters without a value mean one that depends on the others."""

    def effective(self, params: Any, has_data: bool) -> Mapping[str, Any]:
        """Those parameters with the values that a run had, as plain data (JSON).

        :param has_data: see :class:`Context`.
        """


@runtime_checkable
class StripFormat(Protocol):
    """A form that :func:`nncf.strip` brings a model into."""

    @property
    def name(self) -> str:
        """Value of the public enum, or a name of its own."""

    def strip(self, graph: Graph) -> Iterable[Transformation]:
        """The edits that bring the model into this form; empty when it already is."""


@runtime_checkable
class CheckingBuilder(Protocol):
    """What a graph builder that ``traces`` has besides when it can tell that an item is no input of any model."""

    def check_item(self, item: Any, index: int) -> None:
        """Look at an item of a dataset before a model is run on it.

        :param index: of the item, for messages.
        :raises UnsupportedDatasetError: when no model takes it.
        """


def traces(builder: GraphBuilder) -> bool:
    """Whether a builder makes use of an example input."""
    return bool(getattr(builder, "traces", False))


def quantizes(algorithm: Algorithm | None) -> bool:
    """Whether an algorithm inserts quantizers."""
    return bool(getattr(algorithm, "quantizes", False))


def refines(algorithm: Algorithm) -> bool:
    """Whether an algorithm improves what the one before it does to weights."""
    return isinstance(algorithm, RefiningAlgorithm)


def tolerates_rounding(algorithm: Algorithm) -> bool:
    """Whether statistics of an algorithm may come of activations in bfloat16."""
    return bool(getattr(algorithm, "tolerates_rounding", False))


def propagates(algorithm: Algorithm) -> bool:
    """Whether an algorithm wants to see what layers get behind weights that are compressed already."""
    return bool(getattr(algorithm, "propagates", False))


def samples(algorithm: Algorithm, params: Any, round_index: int) -> int | None:
    """Number of samples that statistics of a round are collected on; ``None``: all."""
    if isinstance(algorithm, SamplingAlgorithm):
        return algorithm.samples(params, round_index)
    size: int | None = getattr(params, "subset_size", None)
    return size


def is_excluded(node: Node, ignored: frozenset[str]) -> bool:
    """Whether a node, or a control-flow node that contains it, is in the ignored scope."""
    return node.name in ignored or any(name in ignored for name in node.scope)
