"""What the pipeline gives to algorithms and backends: statistics, scopes, executors, options."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from nncf_core.contracts import CompressionRequest
from nncf_core.dataset import Dataset
from nncf_core.errors import (
    ParameterNotSupportedError,
    UnsupportedBackendError,
    UnsupportedDatasetError,
    ValidationError,
)
from nncf_core.graph import OpKind
from nncf_core.numerics.formats import FORMATS
from nncf_core.numerics.work import available_cores
from nncf_core.pipeline import run
from nncf_core.statistics import StatisticsRequest
from nncf_core.testing import registered
from nncf_core.testing.numpy_backend.builder import NumpyGraphBuilder
from nncf_core.testing.numpy_backend.inserter import NumpyTargetPointInserter
from nncf_core.transformations import InsertBias, InsertMultiply, TargetPoint
from tests.core.pipeline_doubles import CASE, MAX, POINT, Parameters, Recorder, Scale, config, module


class TestStatistics:
    def test_they_are_collected_once_and_delivered(self, scale, backend):
        run(config({"data": True}), CASE.model(), dataset=Dataset(CASE.feeds))
        assert backend.named("collect") == [("collect", (MAX,), len(CASE.feeds))]
        statistics = scale.seen[0][2]
        part = NumpyTargetPointInserter().extract(CASE.model(), (), [POINT])
        wanted = max(np.abs(part.run(feed)[str(POINT)]).max() for feed in CASE.feeds)
        assert statistics[MAX] == wanted

    def test_each_round_collects_on_the_model_so_far(self, scale, backend):
        class Smooth(Scale):
            def transformations(self, graph, statistics, params, context, round_index):
                self.seen.append(float(statistics[MAX]))
                yield InsertMultiply(TargetPoint("sum"), np.asarray(0.5))

        smooth = Smooth("smooth")
        with registered(module(nncf_algorithms=[smooth]), "smooth"):
            given = config({"algorithm": "smooth", "data": True, "rounds": 3})
            result = run(given, CASE.model(), dataset=Dataset(CASE.feeds))
        first, second, third = smooth.seen
        assert (second, third) == (pytest.approx(first / 2), pytest.approx(first / 4))
        assert [entry.target for entry in result.plan.entries] == ["sum:output:0"] * 3

    def test_the_subset_size_limits_them(self, scale, backend):
        pulled = []

        def items():
            for feed in CASE.feeds:
                pulled.append(feed)
                yield feed

        run(config({"data": True, "subset_size": 2}), CASE.model(), dataset=Dataset(items()))
        assert backend.named("collect")[0][2] == 2
        assert len(pulled) == 2

    def test_a_generator_serves_every_round(self, scale, backend):
        dataset = Dataset(feed for feed in CASE.feeds)
        run(config({"data": True, "rounds": 2}), CASE.model(), dataset=dataset)
        assert [call[2] for call in backend.named("collect")] == [len(CASE.feeds)] * 2

    def test_the_transform_function_is_applied(self, scale, backend):
        rows = [feed["x"] for feed in CASE.feeds]
        run(config({"data": True}), CASE.model(), dataset=Dataset(rows, lambda x: {"x": x}))
        assert scale.seen[0][2][MAX] > 0

    def test_without_a_dataset_the_algorithm_is_named(self, scale):
        with pytest.raises(UnsupportedDatasetError, match="'scale' needs calibration data"):
            run(config({"data": True}), CASE.model())

    def test_an_empty_dataset_is_an_error(self, scale):
        with pytest.raises(UnsupportedDatasetError, match="no items"):
            run(config({"data": True}), CASE.model(), dataset=Dataset([]))

    def test_data_free_settings_need_no_dataset(self, scale, backend):
        run(config({}), CASE.model(), dataset=Dataset(CASE.feeds))
        assert backend.named("collect") == []
        assert len(scale.seen[0][2]) == 0

    def test_a_backend_without_an_aggregator_is_named(self):
        with (
            registered(Recorder(aggregator=False).plugin, "recorder"),
            registered(module(nncf_algorithms=[Scale()]), "algorithms"),
        ):
            with pytest.raises(UnsupportedBackendError, match=r"'scale' needs statistics.*NumPy models"):
                run(config({"data": True}), CASE.model(), dataset=Dataset(CASE.feeds))
            run(config({}), CASE.model())


class TestContext:
    def context(self, scale):
        return scale.seen[-1][4]

    def test_ignored_names_are_resolved(self, scale):
        run(config({"ignored_scope": {"patterns": ["right/.*"], "types": ["Add"]}}), CASE.model())
        assert self.context(scale).ignored == {"right/matmul", "right/relu", "sum"}

    def test_each_section_has_its_own_scope(self, scale):
        run(config({"ignored_scope": {"names": ["sum"]}}, {"algorithm": "other"}), CASE.model())
        assert self.context(scale).ignored == {"sum"}
        assert self.context(scale.other).ignored == frozenset()

    def test_a_scope_that_matches_nothing_is_an_error(self, scale):
        with pytest.raises(ValidationError, match="no_such_node"):
            run(config({"ignored_scope": {"names": ["no_such_node"]}}), CASE.model())

    def test_the_executor_is_the_users(self, scale):
        with ThreadPoolExecutor(1) as executor:
            run(config({}), CASE.model(), executor=executor)
            assert self.context(scale).executor is executor
            assert executor.submit(int).result() == 0  # not shut down

    def test_its_own_executor_is_shut_down(self, scale):
        run(config({}), CASE.model())
        own = self.context(scale).executor
        # the calling thread works, too
        assert own._max_workers == max(available_cores() - 1, 1)
        with pytest.raises(RuntimeError, match="shutdown"):
            own.submit(int)

    def test_its_own_executor_is_shut_down_after_an_error(self, scale):
        with pytest.raises(UnsupportedBackendError):
            run(config({"data": True}), object())
        with pytest.raises(UnsupportedDatasetError):
            run(config({}, {"algorithm": "other", "data": True}), CASE.model())
        with pytest.raises(RuntimeError, match="shutdown"):
            self.context(scale).executor.submit(int)

    def test_the_progress_is_the_users(self, scale):
        class Counting:
            lines = []  # noqa: RUF012

            def track(self, items, description, total=None):
                self.lines.append((description, total))
                yield from items

        progress = Counting()
        given = config({"data": True, "subset_size": 3})
        run(given, CASE.model(), dataset=Dataset(list(CASE.feeds)), progress=progress)
        assert self.context(scale).progress is progress
        assert Counting.lines == [("Collecting statistics", 3)]

    def test_parameters_are_structured(self, scale):
        run(config({"factor": 4}), CASE.model())
        params = scale.seen[0][3]
        assert params == Parameters(factor=4.0)
        assert isinstance(params.factor, float)


class TestOptions:
    def test_backend_options_reach_the_backend(self, scale, backend):
        run(config({}, backend_params={"key": 1}), CASE.model())
        assert backend.named("open") == [("open", {"key": 1})]
        assert backend.named("apply") == [("apply", {"key": 1})]

    @pytest.mark.needs("nncf_weight_compression")
    def test_advanced_parameters_carry_them_too(self, backend):
        section = {"algorithm": "weight_compression", "advanced_parameters": {"backend_params": {"key": 2}}}
        run({"compression": section, "backend_params": {"key": 1, "other": 3}}, CASE.model())
        assert backend.named("apply") == [("apply", {"key": 2, "other": 3})]
        assert {call[2]["key"] for call in backend.named("refusal")} == {2}

    @pytest.mark.needs("nncf_weight_compression")
    def test_a_refusal_names_the_backends_that_can(self):
        section = {"algorithm": "weight_compression", "mode": "nf4", "group_size": 32}

        class Other(NumpyTargetPointInserter):
            framework = "other"

        class OtherBuilder(NumpyGraphBuilder):
            framework, title = "other", "The Other"

            def accepts(self, model):
                return False

        other = module(nncf_graph_builders=[OtherBuilder()], nncf_target_point_inserters=[Other()])
        with registered(Recorder(refused=frozenset(FORMATS)).plugin, "recorder"):
            with registered(other, "other"), pytest.raises(ParameterNotSupportedError) as error:
                run({"compression": section}, CASE.model())
            assert "was told to refuse nf4" in str(error.value)
            assert "Installed backends that can: " in str(error.value)
            assert "The Other" in str(error.value)

    @pytest.mark.needs("nncf_weight_compression")
    def test_a_backend_that_fails_on_a_foreign_graph_is_left_out(self):
        class Fails(NumpyTargetPointInserter):
            framework = "other"

            def refusal(self, graph, constant, request, options):
                raise KeyError("a property of its own graphs")

        class OtherBuilder(NumpyGraphBuilder):
            framework = "other"

            def accepts(self, model):
                return False

        other = module(nncf_graph_builders=[OtherBuilder()], nncf_target_point_inserters=[Fails()])
        section = {"algorithm": "weight_compression", "mode": "nf4", "group_size": 32}
        with (
            registered(Recorder(refused=frozenset(FORMATS)).plugin, "recorder"),
            registered(other, "other"),
            pytest.raises(ParameterNotSupportedError, match="was told to refuse nf4"),
        ):
            run({"compression": section}, CASE.model())

    def test_a_backend_is_asked_with_the_current_graph(self, scale, backend):
        run(config({}), CASE.model())
        context = scale.seen[0][4]
        constant = scale.seen[0][1].constants["last"]
        assert context.refusal(constant, CompressionRequest("int8_sym", "int8")) is None
        assert backend.named("refusal")[-1][1] == "last"


class TestRounds:
    """What rounds of one algorithm hand on, and what they see of the model."""

    def test_statistics_and_samples_of_rounds(self, scale, backend):
        kept = StatisticsRequest(POINT, "tensors")

        class Rounds(Scale):
            def samples(self, params, round_index):
                return (2, None)[round_index]

            def requests(self, graph, params, context, round_index):
                return [[kept, MAX], [MAX]][round_index]

            def transformations(self, graph, statistics, params, context, round_index):
                self.seen.append((float(statistics[MAX]), statistics.tensors(kept)))
                yield InsertMultiply(TargetPoint("sum"), np.asarray(0.5))

        rounds = Rounds("rounds")
        with registered(module(nncf_algorithms=[rounds]), "rounds"):
            run(config({"algorithm": "rounds", "rounds": 2}), CASE.model(), dataset=Dataset(CASE.feeds))
        assert [call[2] for call in backend.named("collect")] == [2, len(CASE.feeds)]
        part = NumpyTargetPointInserter().extract(CASE.model(), (), [POINT])
        tensors = [part.run(feed)[str(POINT)] for feed in CASE.feeds]
        (first, early), (second, late) = rounds.seen
        assert first == max(np.abs(tensor).max() for tensor in tensors[:2])
        assert second == pytest.approx(max(np.abs(tensor).max() for tensor in tensors) / 2)
        for found in (early, late):
            for tensor, wanted in zip(found, tensors[:2], strict=True):
                np.testing.assert_array_equal(tensor, wanted)

    def test_a_part_of_the_model_so_far_runs(self, scale):
        end, found = TargetPoint("last/matmul"), []

        class Parts(Scale):
            def transformations(self, graph, statistics, params, context, round_index):
                run_part = context.part([POINT], [end])
                sums = np.ones((1, CASE.model().constants["last"].shape[0]), np.float32)
                found.append(run_part({str(POINT): sums, "x": np.zeros(1)})[str(end)])
                assert [context.takes_bias(node) for node in graph] == [node.kind is OpKind.MATMUL for node in graph]
                assert context.takes_multiplication(POINT)
                yield InsertBias("last/matmul", np.full(found[0].shape[-1], 3), "three more")

        with registered(module(nncf_algorithms=[Parts("parts")]), "parts"):
            result = run(config({"algorithm": "parts", "rounds": 2}), CASE.model())
        weight = CASE.model().constants["last"]
        np.testing.assert_allclose(found[0][0], weight.sum(axis=0), rtol=1e-5)
        # the bias is behind the layer
        np.testing.assert_array_equal(found[1], found[0])
        assert [(entry.action, entry.target) for entry in result.plan.entries] == [("bias", "last/matmul")] * 2
