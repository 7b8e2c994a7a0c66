"""Opening models and describing them."""

from __future__ import annotations

import numpy as np

from nncf_core.graph import Trait
from nncf_core.numerics.arrays import to_host
from nncf_core.report import weight_constants
from nncf_core.testing.backends.base import BackendSuite, layout_of, weight_uses
from nncf_core.testing.cases import ModelCase
from nncf_core.testing.imports import frameworks_imported_by
from nncf_core.testing.suite import comparable, expect
from nncf_core.transformations import ReplaceConstant

_FOREIGN: tuple[object, ...] = (
    None,
    object(),
    "a string",
    3,
    {},
    [],
    (),
    np.zeros(2),
    lambda: None,
    type,
    BackendSuite,
)


class ReadingTests(BackendSuite):
    """The graph builder."""

    def test_parts_belong_to_one_framework(self) -> None:
        """Builder, inserter and aggregator name the framework."""
        backend = self.backend
        for part in (backend.builder, backend.inserter, backend.aggregator):
            expect(
                part is None or part.framework == self.framework,
                f"{part!r}.framework must be {self.framework!r}",
            )
        expect(backend.builder.title.strip(), "GraphBuilder.title must be the framework's name as people write it")
        for suffix in backend.builder.suffixes:
            expect(
                suffix.startswith(".") and suffix == suffix.lower(),
                f"GraphBuilder.suffixes must be lower case with the dot; {suffix!r} is not",
            )

    def test_accepts_its_models(self, case: ModelCase) -> None:
        """``accepts`` is true for the framework's models."""
        expect(
            self.backend.builder.accepts(case.model()) is True,
            "GraphBuilder.accepts must return True for a model of the framework",
        )

    def test_accepts_nothing_else(self) -> None:
        """``accepts`` is false, and raises nothing, for other objects."""
        for item in _FOREIGN:
            expect(
                self.backend.builder.accepts(item) is False,
                f"GraphBuilder.accepts must return False for {item!r}, which is no model of the framework",
            )

    def test_plugin_imports_no_framework(self) -> None:
        """The plugin's module, its hooks, and ``accepts`` leave the framework alone."""
        module = getattr(self.plugin, "__name__", None)
        known = (
            "from nncf_core.registry import registry\nknown = registry()"
            if module is None
            else "import importlib\nfrom nncf_core.registry import Registry\nknown = Registry()\n"
            f"known.register(importlib.import_module({module!r}))"
        )
        code = f"{known}\nassert known.backends[{self.framework!r}].builder.accepts(object()) is False"
        found = frameworks_imported_by(code, self.framework_modules)
        expect(
            not found,
            f"loading the plugin and asking GraphBuilder.accepts(object()) imported {', '.join(found)}; import "
            "frameworks inside the methods that need them, and let `accepts` look at the module of the object's class",
        )

    def test_open_does_not_alias(self, case: ModelCase) -> None:
        """Changes of a working model do not reach the user's model."""
        source = case.model()
        before = self.snapshot(source, case)
        working = self.backend.builder.open(source, self.options_for(case))
        edits = [ReplaceConstant(name, np.zeros_like(array)) for name, array in case.weights.items()]
        self.apply(working, edits)
        expect(
            self.snapshot(source, case) == before,
            "changing the model that GraphBuilder.open returned changed the user's model; copy its structure "
            "(large arrays may be shared as long as nothing writes into them)",
        )

    def test_export_gives_the_users_kind(self, case: ModelCase) -> None:
        """``export`` gives a model that the backend accepts and that computes the same."""
        source = case.model()
        exported = self.backend.builder.export(self.backend.builder.open(source, self.options_for(case)), source)
        expect(
            self.backend.builder.accepts(exported) and type(exported) is type(source),
            f"GraphBuilder.export gave a {type(exported).__name__} for a {type(source).__name__}",
        )
        again = self.backend.builder.open(exported, self.options_for(case))
        self.same_outputs(self.outputs(again, case), self.expected(case, {}), "after open and export")

    def test_build_is_deterministic(self, case: ModelCase) -> None:
        """Two equal models have equal graphs."""
        first, second = (self.backend.builder.build(self.opened(case)) for _ in range(2))
        expect(
            first.framework == self.framework, f"Graph.framework must be {self.framework!r}, not {first.framework!r}"
        )
        expect(first.nodes == second.nodes, "GraphBuilder.build gave two graphs with different nodes for one model")
        expect(
            list(first.constants.items()) == list(second.constants.items()),
            "GraphBuilder.build gave two graphs with different constants, or in another order, for one model",
        )

    def test_nodes_are_in_topological_order(self, case: ModelCase) -> None:
        """Every activation is a model input or comes from an earlier node."""
        graph = self.backend.builder.build(self.opened(case))
        known = {name for feed in case.feeds for name in feed}
        for node in graph:
            for index, port in enumerate(node.inputs):
                expect(
                    port.constant is not None or not port.tensor or port.tensor in known,
                    f"input {index} of node {node.name!r} is the tensor {port.tensor!r}, which is neither an input of "
                    f"the model ({sorted(case.feeds[0])}) nor an output of an earlier node; name tensors alike in "
                    "outputs and inputs, and sort nodes topologically",
                )
            known.update(port.tensor for port in node.outputs)

    def test_constants_are_readable(self, case: ModelCase) -> None:
        """Constants have the type and shape that is stated, also when they are read again after release."""
        graph = self.backend.builder.build(self.opened(case))
        for name, constant in graph.constants.items():
            expect(name == constant.name, f"Graph.constants has {constant.name!r} under the name {name!r}")
            first = comparable(np.array(constant.read()))
            constant.release()
            array = constant.read()
            expect(
                comparable(to_host(constant.array())) == first,
                f"constant {name!r}: array() (on_device) gives other values than read()",
            )
            expect(comparable(array) == first, f"constant {name!r} reads differently after release()")
            expect(
                array.dtype.name == constant.dtype and array.shape == constant.shape,
                f"constant {name!r} is stated to be {constant.dtype} of shape {constant.shape}, but read() gives "
                f"{array.dtype.name} of {array.shape}",
            )

    def test_ports_name_constants_that_exist(self, case: ModelCase) -> None:
        """Ports refer to constants of the graph."""
        graph = self.backend.builder.build(self.opened(case))
        for node in graph:
            for index, port in enumerate(node.inputs):
                expect(
                    port.constant is None or port.constant in graph.constants,
                    f"input {index} of node {node.name!r} refers to the constant {port.constant!r}, which "
                    "Graph.constants does not have",
                )
                expect(
                    port.layout is None or port.constant is not None,
                    f"input {index} of node {node.name!r} has a layout but no constant",
                )

    def test_weights_are_found(self, case: ModelCase) -> None:
        """The weights of the case are in the graph, with their values and sizes, each used as a weight."""
        graph = self.backend.builder.build(self.opened(case))
        used = [constant.name for constant in weight_constants(graph)]
        for name, array in case.weights.items():
            expect(
                name in used,
                f"the weight {name!r} is not among the constants that the graph's nodes use as weights ({used}); its "
                "port needs `constant` and `layout`, and its node a weighted OpKind",
            )
            for user, index in graph.users(name):
                expect(
                    Trait.WEIGHTED not in user.traits or user.inputs[index].layout is not None,
                    f"input {index} of node {user.name!r} is the weight {name!r}; its port needs a layout there, too",
                )
            constant = graph.constants[name]
            expect(
                comparable(np.array(constant.read())) == comparable(array),
                f"constant {name!r} does not read as the array that the model was made with",
            )
            expect(
                constant.is_float and constant.stored_bytes == array.nbytes,
                f"Constant.stored_bytes of {name!r} is {constant.stored_bytes}; it takes {array.nbytes}",
            )
        expect(
            bool(used) == bool(case.weights),
            f"the graph uses {used} as weights, the case names {list(case.weights)}",
        )

    def test_layouts_partition_the_axes(self, case: ModelCase) -> None:
        """Reduction, channel and batch axes are all axes of the constant, each once."""
        graph = self.backend.builder.build(self.opened(case))
        for node, index, _, constant, layout in weight_uses(graph):
            axes = [*layout.reduction_axes, *layout.channel_axes, *layout.batch_axes]
            expect(
                sorted(axes) == list(range(len(constant.shape))) and layout.reduction_axes,
                f"the layout of input {index} of node {node.name!r}, {layout}, must name each axis of the constant "
                f"{constant.name!r} of shape {constant.shape} once, and at least one reduction axis",
            )
        for name in case.weights:
            layout_of(graph, name)
