"""Who provides what, and what happens to plugins that break the contract."""

import types

import pytest

from nncf_core import contracts, hookspecs
from nncf_core import registry as registry_module
from nncf_core.errors import PluginError, UnsupportedBackendError
from nncf_core.hookspecs import HOOK_API, hookimpl
from nncf_core.registry import Registry
from nncf_core.testing import numpy_backend
from nncf_core.testing.numpy_backend import plugin as numpy_plugin
from nncf_core.testing.numpy_backend import samples
from nncf_core.testing.numpy_backend.aggregator import NumpyStatisticsAggregator
from nncf_core.testing.numpy_backend.builder import NumpyGraphBuilder
from nncf_core.testing.numpy_backend.inserter import NumpyTargetPointInserter


class Strip:
    def __init__(self, name):
        self.name = name

    def strip(self, graph):
        return ()


def plugin(version=HOOK_API, mark=hookimpl, **hooks):
    """A module with hooks that return the given values."""
    module = types.ModuleType("a_plugin")
    if version is not None:
        module.NNCF_HOOK_API = version
    for hook, value in hooks.items():
        setattr(module, hook, mark(value if callable(value) else lambda value=value: value))
    return module


def record(known, name):
    return {record.name: record for record in known.records}[name]


class TestRegister:
    def test_providers_are_found_by_name(self):
        known = Registry()
        mine = Strip("mine")
        known.register(plugin(nncf_strip_formats=[mine]), "one")
        assert known.strip_formats == {"mine": mine}
        assert record(known, "one").registers == ["strip format mine"]
        assert record(known, "one").error is None

    def test_objects_can_be_plugins(self):
        class Plugin:
            NNCF_HOOK_API = HOOK_API

            @hookimpl
            def nncf_strip_formats(self):
                return (Strip(name) for name in "ab")

        known = Registry()
        known.register(Plugin())
        assert set(known.strip_formats) == {"a", "b"}
        assert [record.name for record in known.records] == ["Plugin"]

    @pytest.mark.parametrize(
        ("module", "message"),
        [
            (plugin(None), "states no hook API version"),
            (plugin(HOOK_API + 1), f"is written for hook API {HOOK_API + 1}"),
            (plugin("1"), "is written for hook API 1"),
            (plugin(nncf_strip_format=[]), "unknown hooks nncf_strip_format; known: nncf_graph_builders"),
            (plugin(nncf_strip_formats=lambda wrong: []), "wrong"),
        ],
    )
    def test_what_breaks_the_contract_is_an_error(self, module, message):
        known = Registry()
        with pytest.raises(PluginError, match=message):
            known.register(module, "bad")
        assert known.records == ()
        assert known.strip_formats == {}

    @pytest.mark.parametrize("wrong", [{"nncf_strip_formats": lambda wrong: []}, {"nncf_unknown": []}])
    def test_a_rejected_plugin_leaves_nothing_behind(self, wrong):
        module = plugin(nncf_algorithms=[], **wrong)
        known = Registry()
        with pytest.raises(PluginError):
            known.register(module, "bad")
        known.register(plugin(nncf_strip_formats=[Strip("good")]), "good")
        assert known.algorithms == {}
        assert set(known.strip_formats) == {"good"}

    def test_unregister_removes_what_it_provided(self):
        known = Registry()
        known.register(plugin(nncf_strip_formats=[Strip("mine")]), "one")
        assert known.strip_formats
        known.unregister("one")
        assert known.strip_formats == {}
        assert known.records == ()

    @pytest.mark.parametrize("value", [[1 / 2], 7, None, [Strip("a"), "text"]])
    def test_a_hook_that_fails_hides_no_other(self, value):
        known = Registry()
        known.register(plugin(nncf_strip_formats=value, nncf_algorithms=[]), "bad")
        known.register(plugin(nncf_strip_formats=[Strip("good")]), "good")
        assert set(known.strip_formats) == {"good"}
        assert record(known, "bad").error.startswith("hook nncf_strip_formats: ")
        assert record(known, "bad").registers == []

    def test_a_provider_that_lacks_methods_is_told_which(self):
        class Half:
            name = "half"
            parameters = dict

            def schema(self):
                return {}

        known = Registry()
        known.register(plugin(nncf_algorithms=[Half()]), "bad")
        assert known.algorithms == {}
        assert "is no algorithm: it lacks requests, rounds, transformations" in record(known, "bad").error

    def test_every_hook_has_a_protocol_and_a_registry_entry(self):
        declared = {name for name in vars(hookspecs) if name.startswith("nncf_")}
        assert declared == set(registry_module._HOOKS)
        assert all(getattr(contracts, entry[1].__name__) is entry[1] for entry in registry_module._HOOKS.values())


class TestConflicts:
    def both(self, **marks):
        known = Registry()
        providers = {}
        for name, mark in marks.items():
            providers[name] = Strip("shared")
            known.register(plugin(mark=mark, nncf_strip_formats=[providers[name]]), name)
        (winner,) = known.strip_formats.values()
        return known, next(name for name, provider in providers.items() if provider is winner)

    def test_the_plugin_registered_last_wins(self):
        known, winner = self.both(first=hookimpl, second=hookimpl)
        assert winner == "second"
        assert record(known, "first").shadowed == ["strip format shared (by second)"]
        assert record(known, "first").registers == []
        assert record(known, "second").shadowed == []

    def test_tryfirst_wins(self):
        known, winner = self.both(first=hookimpl(tryfirst=True), second=hookimpl)
        assert winner == "first"
        assert record(known, "second").shadowed == ["strip format shared (by first)"]

    def test_records_are_not_doubled_by_looking_again(self):
        known, _ = self.both(first=hookimpl, second=hookimpl)
        known.register(plugin(nncf_strip_formats=[Strip("third")]), "third")
        assert record(known, "first").shadowed == ["strip format shared (by second)"]
        assert record(known, "second").registers == ["strip format shared"]


class TestInstalled:
    """Entry points without installing anything."""

    @pytest.fixture
    def install(self, monkeypatch):
        class Distribution:
            version = "1.5"

            def __init__(self, name):
                self.name = name

        class Point:
            def __init__(self, distribution, name, load):
                self.dist, self.name, self.value, self.load = Distribution(distribution), name, f"{name}.module", load

        def install(*points):
            made = [Point(*point) for point in points]
            monkeypatch.setattr(registry_module.importlib.metadata, "entry_points", lambda group: made)
            known = Registry()
            known.load_installed()
            return known

        return install

    def strip(self, name="shared"):
        return lambda: plugin(nncf_strip_formats=[Strip(name)])

    @pytest.mark.parametrize("order", [1, -1])
    def test_alphabetical_order_of_distributions_decides(self, install, order):
        points = [("a-dist", "z", self.strip()), ("b-dist", "a", self.strip()), ("b-dist", "b", self.strip())]
        known = install(*points[::order])
        assert record(known, "z").registers == ["strip format shared"]
        assert record(known, "a").shadowed == ["strip format shared (by z)"]
        assert record(known, "b").shadowed == ["strip format shared (by z)"]

    def test_records_know_where_a_plugin_comes_from(self, install):
        known = install(("my-dist", "mine", self.strip()))
        found = record(known, "mine")
        assert (found.distribution, found.version, found.target) == ("my-dist", "1.5", "mine.module")

    @pytest.mark.parametrize("error", [ImportError("no such thing"), SystemExit(2), RecursionError()])
    def test_one_that_fails_to_load_breaks_no_other(self, install, error):
        def fail():
            raise error

        known = install(("a", "bad", fail), ("b", "good", self.strip()))
        assert type(error).__name__ in record(known, "bad").error
        assert set(known.strip_formats) == {"shared"}

    def test_ctrl_c_is_not_swallowed(self, install):
        def interrupted():
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            install(("a", "slow", interrupted))

    def test_two_distributions_with_one_entry_point_name_are_both_shown(self, install):
        known = install(("a", "same", self.strip("one")), ("b", "same", self.strip("two")))
        assert {record.name for record in known.records} == {"same", "same (a)"}
        assert set(known.strip_formats) == {"one", "two"}

    @pytest.mark.parametrize(
        ("value", "loaded"), [("x", {"x"}), (" y , x,", {"x", "y"}), ("", set()), ("unknown", set())]
    )
    def test_load_plugins_chooses(self, install, monkeypatch, caplog, value, loaded):
        monkeypatch.setenv("NNCF_LOAD_PLUGINS", value)
        known = install(("a", "x", self.strip("x")), ("b", "y", self.strip("y")))
        assert {record.name for record in known.records} == loaded
        assert ("names no plugin: unknown; installed: x, y" in caplog.text) == (value == "unknown")


class TestBackends:
    def test_a_backend_is_assembled_from_three_hooks(self):
        known = Registry()
        known.register(numpy_plugin, "numpy")
        backend = known.backends["numpy"]
        assert isinstance(backend.builder, NumpyGraphBuilder)
        assert isinstance(backend.inserter, NumpyTargetPointInserter)
        assert isinstance(backend.aggregator, NumpyStatisticsAggregator)

    def test_one_part_can_be_replaced_alone(self):
        class Mine(NumpyStatisticsAggregator):
            pass

        known = Registry()
        known.register(numpy_plugin, "numpy")
        known.register(plugin(nncf_statistics_aggregators=[Mine()]), "mine")
        assert isinstance(known.backends["numpy"].aggregator, Mine)
        assert isinstance(known.backends["numpy"].builder, NumpyGraphBuilder)

    def test_without_an_inserter_there_is_no_backend(self):
        known = Registry()
        known.register(plugin(nncf_graph_builders=[NumpyGraphBuilder()]), "half")
        assert known.backends == {}

    def test_an_aggregator_is_optional(self):
        known = Registry()
        parts = plugin(
            nncf_graph_builders=[NumpyGraphBuilder()], nncf_target_point_inserters=[NumpyTargetPointInserter()]
        )
        known.register(parts, "most")
        assert known.backends["numpy"].aggregator is None

    def test_models_and_paths_find_their_backend(self, tmp_path):
        known = Registry()
        known.register(numpy_plugin, "numpy")
        for source in (samples.perceptron().model(), "a.npmodel", tmp_path / "B.NPMODEL"):
            assert known.backend_for(source).framework == "numpy"

    def test_a_builder_that_fails_hides_no_other(self, caplog):
        class Fails(NumpyGraphBuilder):
            framework, title = "a", "A Broken One"

            def accepts(self, model):
                raise AttributeError("model.layers")

        class Inserter(NumpyTargetPointInserter):
            framework = "a"

        known = Registry()
        known.register(numpy_plugin, "numpy")
        known.register(plugin(nncf_graph_builders=[Fails()], nncf_target_point_inserters=[Inserter()]), "a")
        assert list(known.backends) == ["a", "numpy"]
        assert known.backend_for(samples.perceptron().model()).framework == "numpy"
        assert "A Broken One" in caplog.text

    def test_what_nobody_reads_names_what_is_installed(self):
        known = Registry()
        with pytest.raises(UnsupportedBackendError, match=r"builtins\.dict.*Installed backends: none"):
            known.backend_for({})
        known.register(numpy_plugin, "numpy")
        with pytest.raises(UnsupportedBackendError, match=r"suffix '\.txt' \(a\.txt\).*Installed backends: NumPy"):
            known.backend_for("a.txt")

    @pytest.mark.parametrize(
        ("source", "package"), [("m.onnx", "nncf-onnx"), ("m.xml", "nncf-openvino"), ("m.pt2", "nncf-torch")]
    )
    def test_known_frameworks_name_their_package(self, source, package):
        with pytest.raises(UnsupportedBackendError, match=f"pip install {package}"):
            Registry().backend_for(source)

    def test_models_of_known_frameworks_are_known_by_their_class(self):
        base = type("Module", (), {"__module__": "torch.nn.modules"})
        mine = type("Mine", (base,), {"__module__": "mine"})
        with pytest.raises(UnsupportedBackendError, match=r"mine\.Mine.*PyTorch.*pip install nncf-torch"):
            Registry().backend_for(mine())


def test_the_numpy_backend_is_not_installed():
    assert numpy_backend.__name__ not in [record.target for record in registry_module.registry().records]
    assert "numpy" not in registry_module.registry().backends
