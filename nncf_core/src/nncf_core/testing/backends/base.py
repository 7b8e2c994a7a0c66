"""What the tests of a backend share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from attrs import frozen

from nncf_core.contracts import CompressionRequest
from nncf_core.graph import Constant, Graph, Node, Port, WeightLayout
from nncf_core.numerics.formats import SCHEMES, Scheme
from nncf_core.numerics.kernels import compress
from nncf_core.numerics.tensor import CompressedTensor
from nncf_core.registry import Backend
from nncf_core.testing.cases import ModelCase
from nncf_core.testing.suite import Suite, comparable, expect, registry_with
from nncf_core.transformations import PointKind, TargetPoint, Transformation

_CODEBOOK = np.linspace(-1, 1, 16, dtype=np.float32)


@frozen
class SchemeArgument:
    """A scheme, shown by its name."""

    scheme: Scheme

    def __str__(self) -> str:
        return self.scheme.name


class BackendSuite(Suite):
    """A backend, cases, and how to look at them."""

    framework: ClassVar[str]
    """Name of the backend."""

    plugin: ClassVar[object | None] = None
    """Module or object with the backend's hooks; ``None``: an installed plugin brings it."""

    framework_modules: ClassVar[Sequence[str]] = ()
    """Top-level modules of the framework, which the plugin must not import too early."""

    options: ClassVar[Mapping[str, Any]] = {}
    """The backend's own options (``backend_params``)."""

    tolerance: ClassVar[float] = 1e-5
    """Largest difference of float32 outputs, as a share of the largest magnitude among them."""

    def cases(self) -> Sequence[ModelCase]:
        """Models to try; between them with a tied weight, an embedding, and float16 if the framework has it."""
        raise NotImplementedError("A conformance suite of a backend needs the method cases().")

    def arguments(self) -> Mapping[str, Sequence[Any]]:
        """Cases and schemes."""
        return {"case": self.cases(), "scheme": [SchemeArgument(scheme) for scheme in SCHEMES.values()]}

    @property
    def backend(self) -> Backend:
        """The backend under test, assembled as the core does."""
        backends = registry_with(self.plugin).backends
        expect(
            self.framework in backends,
            f"no plugin provides a graph builder and a target-point inserter of framework {self.framework!r}; "
            f"there are {sorted(backends)}. Set `framework`, and `plugin` when it is not installed.",
        )
        return backends[self.framework]

    def options_for(self, case: ModelCase) -> Mapping[str, Any]:
        """The backend's own options for a case."""
        return {**self.options, **case.options}

    def opened(self, case: ModelCase) -> Any:
        """A working model."""
        return self.backend.builder.open(case.model(), self.options_for(case))

    def apply(self, model: Any, transformations: Sequence[Transformation]) -> Any:
        """The model after transformations."""
        graph = self.backend.builder.build(model)
        return self.backend.inserter.apply(model, graph, iter(transformations), self.options)

    def outputs(self, model: Any, case: ModelCase) -> list[dict[str, np.ndarray]]:
        """Outputs of a working model for each feed, by the backend's own runner.

        Override it where the runner computes less exactly than the model says, e.g. with rounded activations.
        """
        run = self.backend.inserter.runner(model)
        return [{name: np.asarray(array) for name, array in run(feed).items()} for feed in case.feeds]

    def expected(self, case: ModelCase, weights: Mapping[str, np.ndarray]) -> list[dict[str, np.ndarray]]:
        """Outputs of the model that the case's author makes with other weights."""
        model = case.make({name: np.array(array) for name, array in {**case.weights, **weights}.items()})
        return self.outputs(self.backend.builder.open(model, self.options_for(case)), case)

    def snapshot(self, model: Any, case: ModelCase) -> Any:
        """All that a user could see of a model: nodes, constants, and outputs."""
        working = self.backend.builder.open(model, self.options_for(case))
        graph = self.backend.builder.build(working)
        constants = {name: comparable(np.array(constant.read())) for name, constant in graph.constants.items()}
        return comparable(graph.nodes), constants, comparable(self.outputs(working, case))

    def same_outputs(
        self,
        found: Sequence[Mapping[str, np.ndarray]],
        wanted: Sequence[Mapping[str, np.ndarray]],
        what: str,
        at_least: float = 0.0,
    ) -> None:
        """Fail unless outputs are the same up to the tolerance.

        :param at_least: a tolerance for what is not computed in the same steps.
        """
        for got, want in zip(found, wanted, strict=True):
            expect(list(got) == list(want), f"{what}: the model's outputs are {list(got)}, they should be {list(want)}")
            for name in want:
                self.same(got[name], want[name], f"{what}: output {name!r}", at_least)

    def same(self, got: np.ndarray, want: np.ndarray, what: str, at_least: float = 0.0) -> None:
        """Fail unless two arrays are the same up to the tolerance."""
        expect(
            got.dtype == want.dtype and got.shape == want.shape,
            f"{what} is {got.dtype.name} of shape {got.shape}; it should be {want.dtype.name} of {want.shape}",
        )
        difference = np.abs(got.astype(np.float64) - want.astype(np.float64)).max(initial=0)
        largest = np.abs(want.astype(np.float64)).max(initial=0)
        allowed = max(self.tolerance, at_least, _rounding(want.dtype)) * largest
        expect(
            difference <= allowed,
            f"{what} differs by up to {difference:.3g} from what it should be; allowed are {allowed:.3g} "
            f"(magnitudes reach {largest:.3g})",
        )


def _rounding(dtype: np.dtype) -> float:
    # the order of a sum's terms is the framework's own
    return {"float16": 2.0**-7, "bfloat16": 2.0**-4, "float64": 2.0**-40}.get(dtype.name, 0.0)


def weight_uses(graph: Graph) -> Iterator[tuple[Node, int, Port, Constant, WeightLayout]]:
    """Every use of a constant as a weight: node, input index, port, constant, layout."""
    for node in graph:
        for index, port in node.weights:
            if port.constant is not None and port.layout is not None:
                yield node, index, port, graph.constants[port.constant], port.layout


def layout_of(graph: Graph, constant: str) -> WeightLayout:
    """What the axes of a weight mean to its first user."""
    layouts = [node.inputs[index].layout for node, index in graph.users(constant)]
    layout = next((found for found in layouts if found is not None), None)
    expect(
        layout is not None,
        f"no node of the graph uses the weight {constant!r} as a weight: a Port with `constant` and `layout` "
        "must lead to it (its name comes from ModelCase.weights)",
    )
    assert layout is not None
    return layout


def group_sizes(scheme: Scheme, layout: WeightLayout, shape: Sequence[int]) -> list[int]:
    """Group sizes to try for a weight: the whole channel, and two that divide it."""
    channels = shape[layout.reduction_axes[-1]]
    fits = len(layout.reduction_axes) == 1
    if scheme.fixed_group_size is not None:
        return [scheme.fixed_group_size] if fits and channels % scheme.fixed_group_size == 0 else []
    return [-1, *(size for size in (16, 32) if fits and channels % size == 0)]


def request_for(scheme: Scheme, layout: WeightLayout, group_size: int) -> CompressionRequest:
    """What an algorithm would ask the backend."""
    axis = None if group_size == -1 else layout.reduction_axes[-1]
    return CompressionRequest(scheme.name, scheme.format.name, axis, group_size)


def compressed(array: np.ndarray, scheme: Scheme, layout: WeightLayout, group_size: int) -> CompressedTensor:
    """A weight in a scheme."""
    return compress(
        array,
        scheme,
        reduction_axes=layout.reduction_axes,
        group_axis=None if group_size == -1 else layout.reduction_axes[-1],
        group_size=group_size,
        codebook=_CODEBOOK if scheme.name == "codebook" else None,
    )


def activation_of(node: Node) -> TargetPoint | None:
    """The point where a node takes its activation, when it has exactly one."""
    ports = [index for index, port in enumerate(node.inputs) if port.constant is None and port.tensor]
    return TargetPoint(node.name, PointKind.INPUT, ports[0]) if len(ports) == 1 and not node.scope else None
