"""The one pipeline: order, rounds, plans, files, and what is wrong with a config."""

from pathlib import Path

import numpy as np
import pytest

from nncf_core.errors import (
    InvalidPathError,
    PluginError,
    UnsupportedDatasetError,
    ValidationError,
)
from nncf_core.graph import OpKind
from nncf_core.pipeline import make_plan, run
from nncf_core.testing import registered
from nncf_core.testing.numpy_backend import NumpyModel
from nncf_core.testing.numpy_backend.builder import NumpyGraphBuilder
from nncf_core.testing.numpy_backend.inserter import NumpyTargetPointInserter
from nncf_core.testing.suite import comparable
from nncf_core.transformations import InsertMultiply
from tests.core.pipeline_doubles import CASE, POINT, Scale, config, last_of, module


class TestRecords:
    def test_what_was_done_is_written_down_where_the_backend_can(self):
        class Recording(NumpyGraphBuilder):
            records = []  # noqa: RUF012

            def record(self, model, algorithm, parameters):
                self.records.append((algorithm, parameters))

        plugin = module(
            nncf_graph_builders=[Recording()],
            nncf_target_point_inserters=[NumpyTargetPointInserter()],
            nncf_algorithms=[Scale(), Scale("other")],
        )
        with registered(plugin, "recording"):
            run(config({"factor": 5}, {"algorithm": "other", "rounds": 0}), CASE.model())
        ((algorithm, parameters),) = Recording.records
        assert algorithm == "scale"
        assert parameters["factor"] == 5
        assert parameters["rounds"] == 1
        assert "subset_size" not in parameters


class TestOrder:
    def test_sections_run_in_the_order_given(self, scale):
        result = run(config({}, {"algorithm": "other", "factor": 3}), CASE.model())
        np.testing.assert_array_equal(last_of(result), CASE.weights["last"] * 6)
        done = [(entry.algorithm, entry.reason) for entry in result.plan.entries]
        assert done == [("scale", "times 2.0"), ("other", "times 3.0")]

    def test_a_single_section_needs_no_list(self, scale):
        result = run({"compression": {"algorithm": "scale"}}, CASE.model())
        np.testing.assert_array_equal(last_of(result), CASE.weights["last"] * 2)

    def test_each_round_sees_the_model_so_far(self, scale):
        result = run(config({"rounds": 3}), CASE.model())
        np.testing.assert_array_equal(last_of(result), CASE.weights["last"] * 8)
        assert [seen[0] for seen in scale.seen] == [0, 1, 2]
        assert len(result.plan.entries) == 3

    def test_the_graph_is_built_once_for_each_round(self, scale, backend):
        run(config({"rounds": 2}, {"algorithm": "other"}), CASE.model())
        assert [call[0] for call in backend.calls] == ["open", *["build", "apply"] * 3]

    def test_a_later_algorithm_sees_the_earlier_ones_edits(self, scale):
        run(config({"factor": 5}, {"algorithm": "other"}), CASE.model())
        graph = scale.other.seen[0][1]
        np.testing.assert_array_equal(graph.constants["last"].read(), CASE.weights["last"] * 5)

    def test_rounds_are_counted_on_the_model_so_far(self, scale):
        class OncePerMultiply(Scale):
            def rounds(self, graph, params):
                return len(graph.of_kind([OpKind.MULTIPLY]))

        class Insert(Scale):
            def transformations(self, graph, statistics, params, context, round_index):
                yield InsertMultiply(POINT, np.asarray(1.0))

        counting = OncePerMultiply("counting")
        with registered(module(nncf_algorithms=[Insert("insert"), counting]), "counting"):
            run(config({"algorithm": "insert", "rounds": 2}, {"algorithm": "counting"}), CASE.model())
        assert [seen[0] for seen in counting.seen] == [0, 1]

    def test_zero_rounds_do_nothing(self, scale):
        result = run(config({"rounds": 0}), CASE.model())
        assert (result.plan.entries, scale.seen) == ((), [])

    def test_the_users_model_is_not_changed(self, scale):
        model = CASE.model()
        before = comparable(model.constants)
        result = run(config({}), model)
        assert result.model is not model
        assert comparable(model.constants) == before

    def test_the_config_is_not_changed(self, scale):
        given = config({"ignored_scope": {"names": ["sum"]}})
        before = repr(given)
        run(given, CASE.model())
        assert repr(given) == before


class TestPlanning:
    def test_a_plan_of_several_rounds_is_that_of_a_run(self, scale):
        given = config({"rounds": 2}, {"algorithm": "other"})
        plan, report = make_plan(given, CASE.model())
        result = run(given, CASE.model())
        assert plan.entries == result.plan.entries
        assert report == result.report
        assert [name for name, _ in plan.steps] == ["scale", "scale", "other"]
        np.testing.assert_array_equal(plan.steps[-1][1][0].value, last_of(result))

    def test_light_plans_of_several_rounds_too(self, scale):
        for given in (config({"rounds": 3}), config({}, {"algorithm": "other"})):
            plan, _ = make_plan(given, CASE.model(), keep_arrays=False)
            assert plan.steps == ()
            assert plan.entries == run(given, CASE.model()).plan.entries

    def test_light_rounds_see_the_model_so_far(self, scale):
        make_plan(config({"rounds": 2}), CASE.model(), keep_arrays=False)
        second = scale.seen[1][1].constants["last"].read()
        np.testing.assert_array_equal(second, CASE.weights["last"] * 2)


class TestFiles:
    def test_paths_are_read_and_written(self, scale, tmp_path):
        source, output = tmp_path / "a.npmodel", tmp_path / "b.npmodel"
        NumpyGraphBuilder().save(CASE.model(), source)
        before = source.read_bytes()
        result = run(config({}), source, output=output)
        assert result.model is None
        assert source.read_bytes() == before
        saved = NumpyGraphBuilder().open(output, {})
        np.testing.assert_array_equal(saved.constants["last"], CASE.weights["last"] * 2)

    def test_a_path_without_output_gives_a_model(self, scale, tmp_path):
        NumpyGraphBuilder().save(CASE.model(), tmp_path / "a.npmodel")
        for path in (tmp_path / "a.npmodel", str(tmp_path / "a.npmodel")):
            assert isinstance(run(config({}), path).model, NumpyModel)

    def test_a_failed_run_leaves_the_old_output(self, scale, tmp_path):
        output = tmp_path / "b.npmodel"
        output.write_bytes(b"old")
        with pytest.raises(UnsupportedDatasetError):
            run(config({}, {"algorithm": "other", "data": True}), CASE.model(), output=output)
        assert output.read_bytes() == b"old"
        assert [path.name for path in Path(tmp_path).iterdir()] == ["b.npmodel"]

    def test_a_folder_that_is_missing_is_known_before_the_work(self, scale, backend, tmp_path):
        with pytest.raises(InvalidPathError, match="missing"):
            run(config({}), CASE.model(), output=tmp_path / "missing" / "b.npmodel")
        assert not backend.named("apply")


class TestConfig:
    @pytest.mark.parametrize("given", [{}, {"compression": []}])
    def test_nothing_to_do_is_an_error(self, scale, given):
        with pytest.raises(ValidationError, match="compression"):
            run(given, CASE.model())

    @pytest.mark.parametrize(
        ("section", "message"),
        [
            ({"factor": "two"}, r"compression\[0\]\.factor"),
            ({"unknown": 1}, "unknown"),
            ({"algorithm": "scales"}, "Did you mean 'scale'"),
            ({"target_scopes": ["no such"]}, '"target_scopes" names'),
        ],
    )
    def test_wrong_sections_are_errors(self, scale, section, message):
        with pytest.raises(ValidationError, match=message):
            run(config(section), CASE.model())

    def test_nothing_is_opened_before_the_config_is_checked(self, scale, backend):
        with pytest.raises(ValidationError):
            run(config({}, {"algorithm": "other", "factor": "two"}), CASE.model())
        assert backend.calls == []

    def test_parameters_that_cannot_be_made_name_the_algorithm(self, backend):
        class Broken(Scale):
            parameters = 3

        with (
            registered(module(nncf_algorithms=[Broken("broken")]), "algorithms"),
            pytest.raises((PluginError, ValidationError), match="broken"),
        ):
            run(config({"algorithm": "broken"}), CASE.model())
