"""Plans: stored and read bit for bit, applied elsewhere; and the report's figures."""

import json
import zipfile
from typing import get_args

import numpy as np
import pytest

from nncf_core.errors import InvalidPathError, ValidationError
from nncf_core.numerics.formats import SCHEMES
from nncf_core.numerics.kernels import compress
from nncf_core.numerics.quantizer import Quantizer
from nncf_core.pipeline import apply_plan, make_plan, run
from nncf_core.plan import Plan, PlanEntry, describe, entry_for
from nncf_core.report import Report, describe_model
from nncf_core.testing import registered
from nncf_core.testing.numpy_backend import plugin, samples
from nncf_core.testing.numpy_backend.builder import NumpyGraphBuilder
from nncf_core.testing.suite import comparable
from nncf_core.transformations import (
    CompressConstant,
    FoldMask,
    InsertBias,
    InsertLowRank,
    InsertMask,
    InsertMultiply,
    InsertQuantizer,
    InsertThreshold,
    MaskKind,
    PointKind,
    ReplaceConstant,
    ResizeOutput,
    ShrinkConstant,
    TargetPoint,
    Training,
    Transformation,
)


@pytest.fixture(autouse=True)
def numpy_backend():
    with registered(plugin, "numpy"):
        yield


CASE = samples.language_model()
POINT = TargetPoint("block0/up", PointKind.INPUT, 0)


def tensor_of(scheme, weight, axis=1):
    scheme = SCHEMES[scheme]
    size = scheme.fixed_group_size or scheme.default_group_size
    size = 32 if size == 128 else size
    table = np.linspace(-1, 1, 16, dtype=np.float32) if scheme.name == "codebook" else None
    return compress(
        weight, scheme, reduction_axes=axis, group_axis=None if size == -1 else axis, group_size=size, codebook=table
    )


def plan_of(*edits):
    graph = NumpyGraphBuilder().build(CASE.model())
    return Plan("numpy", tuple(entry_for("test", edit, graph) for edit in edits), (("test", tuple(edits)),))


def constants_of(model):
    return comparable(model.constants)


class TestStoring:
    @pytest.mark.parametrize("scheme", SCHEMES)
    def test_every_scheme_is_read_bit_for_bit(self, scheme, tmp_path):
        plan = plan_of(CompressConstant("embedding", tensor_of(scheme, CASE.weights["embedding"]), "because"))
        plan.save(tmp_path / "plan")
        assert comparable(Plan.load(tmp_path / "plan")) == comparable(plan)

    def test_float8_scales_keep_their_type(self, tmp_path):
        for scheme, dtype in (("mxfp4", "float8_e8m0fnu"), ("nvfp4", "float8_e4m3fn")):
            plan_of(CompressConstant("embedding", tensor_of(scheme, CASE.weights["embedding"]))).save(tmp_path)
            ((_, (edit,)),) = Plan.load(tmp_path).steps
            assert edit.tensor.scale.dtype.name == dtype
            assert (edit.tensor.global_scale is None) == (scheme == "mxfp4")

    def test_other_edits_are_read_bit_for_bit(self, tmp_path):
        plan = plan_of(
            ReplaceConstant("block0.up", CASE.weights["block0.up"].T.copy().T * 2, "twice"),
            InsertMultiply(POINT, np.arange(64, dtype=np.float16), "a name", "a reason"),
            InsertMultiply(TargetPoint("head"), np.asarray(3.0)),
            InsertBias("head", np.arange(5, dtype=np.float64) / 3, "an error"),
        )
        plan.save(tmp_path)
        assert comparable(Plan.load(tmp_path)) == comparable(plan)

    def test_every_kind_of_edit_is_read_bit_for_bit(self, tmp_path):
        tensor = tensor_of("int4_sym", CASE.weights["embedding"])
        steps = np.full(3, 0.5, np.float32)
        edits = (
            CompressConstant("w", tensor, "why", integer_operand=True, training=Training(8), integers=(-7, 7)),
            ReplaceConstant("w", np.float16([[1, 2]])),
            InsertMultiply(POINT, np.float32([3])),
            InsertThreshold(POINT, 0.25, "threshold", "why"),
            InsertBias("layer", np.float64([1 / 3])),
            InsertLowRank("w", tensor, np.ones((2, 1), np.float32), "why"),
            InsertQuantizer(POINT, Quantizer(steps, np.int32([1, 2, 3]), 0, 255, axis=1), "name", "why"),
            InsertQuantizer(POINT, Quantizer(0.5, 0, -448, 448, float8="f8e4m3")),
            InsertMask("w", np.ones((2, 2), np.float32), MaskKind.SCORED, "why"),
            FoldMask("w", "why"),
            ShrinkConstant("w", 1, [0, 3], "why"),
            ResizeOutput("node", ((None, 4), (2,)), ((None, 3), (1,)), ((0, 3, 1),), "why"),
        )
        assert {type(edit) for edit in edits} == set(get_args(Transformation))
        plan = Plan("numpy", (), (("first", edits[:5]), ("second", edits[5:])))
        plan.save(tmp_path)
        assert comparable(Plan.load(tmp_path)) == comparable(plan)

    def test_the_same_plan_gives_the_same_files(self, tmp_path):
        plan = plan_of(CompressConstant("embedding", tensor_of("nf4", CASE.weights["embedding"])))
        for name in ("one", "two"):
            plan.save(tmp_path / name)
        for name in ("plan.json", "arrays.npz"):
            assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()

    def test_entries_can_be_read_by_people_and_machines(self, tmp_path):
        plan_of(CompressConstant("embedding", tensor_of("int4_sym", CASE.weights["embedding"]), "why")).save(tmp_path)
        (entry,) = json.loads((tmp_path / "plan.json").read_text())["entries"]
        assert entry["target"] == "embedding"
        assert entry["users"] == ["embed", "head"]
        assert (entry["format"], entry["group_size"], entry["reason"]) == ("int4", 32, "why")

    def test_a_plan_without_arrays_is_not_stored(self, tmp_path):
        with pytest.raises(ValidationError, match="make_plan"):
            Plan("numpy", (PlanEntry("a", "replace", "w"),)).save(tmp_path / "plan")
        assert not (tmp_path / "plan").exists()

    def test_an_empty_plan_can_be_stored(self, tmp_path):
        Plan("numpy", ()).save(tmp_path)
        assert Plan.load(tmp_path) == Plan("numpy", ())


class TestBrokenFiles:
    @pytest.fixture
    def folder(self, tmp_path):
        plan_of(CompressConstant("embedding", tensor_of("int4_asym", CASE.weights["embedding"]))).save(tmp_path)
        return tmp_path

    @pytest.mark.parametrize("name", ["plan.json", "arrays.npz"])
    def test_a_missing_file_is_named(self, folder, name):
        (folder / name).unlink()
        with pytest.raises(InvalidPathError, match=name):
            Plan.load(folder)

    @pytest.mark.parametrize("name", ["plan.json", "arrays.npz"])
    @pytest.mark.parametrize("keep", [0, 0.5, 0.99])
    def test_a_cut_off_file_is_an_error(self, folder, name, keep):
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: int(len(content) * keep)])
        with pytest.raises(ValidationError, match="does not hold a readable plan"):
            Plan.load(folder)

    @pytest.mark.parametrize(
        "text", ["[]", "{}", "7", '{"version": 2}', '{"version": 2, "framework": "numpy", "entries": 3, "steps": []}']
    )
    def test_other_json_is_an_error(self, folder, text):
        (folder / "plan.json").write_text(text)
        with pytest.raises(ValidationError):
            Plan.load(folder)

    def test_another_version_is_an_error(self, folder):
        data = json.loads((folder / "plan.json").read_text())
        (folder / "plan.json").write_text(json.dumps({**data, "version": 99}))
        with pytest.raises(ValidationError, match="version 99"):
            Plan.load(folder)

    def test_pickled_arrays_are_refused(self, folder):
        class Danger:
            def __reduce__(self):
                return (pytest.fail, ("the pickle was read",))

        names = zipfile.ZipFile(folder / "arrays.npz").namelist()
        np.savez(folder / "arrays.npz", **{n.removesuffix(".npy"): np.array([Danger()], object) for n in names})
        with pytest.raises(ValidationError):
            Plan.load(folder)


@pytest.mark.needs("nncf_weight_compression")
class TestApplying:
    config = {  # noqa: RUF012
        "compression": {"algorithm": "weight_compression", "mode": "int4_asym", "group_size": 32, "ratio": 0.5}
    }

    def test_a_stored_plan_does_what_a_run_does(self, tmp_path):
        plan, report = make_plan(self.config, CASE.model())
        plan.save(tmp_path)
        applied = apply_plan(Plan.load(tmp_path), CASE.model())
        result = run(self.config, CASE.model())
        assert constants_of(applied) == constants_of(result.model)
        assert report == result.report
        assert plan.entries == result.plan.entries

    def test_the_model_is_not_changed(self):
        model = CASE.model()
        before = constants_of(model)
        plan, _ = make_plan(self.config, model)
        assert constants_of(model) == before
        apply_plan(plan, model)
        assert constants_of(model) == before

    def test_without_arrays_the_entries_are_the_same(self):
        whole, report = make_plan(self.config, CASE.model())
        light, light_report = make_plan(self.config, CASE.model(), keep_arrays=False)
        assert light.steps == ()
        assert light.entries == whole.entries
        assert light_report == report

    def test_a_plan_for_another_model_is_an_error(self):
        plan, _ = make_plan(self.config, CASE.model())
        with pytest.raises(ValidationError, match=r"constant 'embedding'.*another model"):
            apply_plan(plan, samples.perceptron().model())

    def test_a_plan_for_a_missing_point_is_an_error(self):
        plan = plan_of(InsertMultiply(POINT, np.asarray(2.0)))
        with pytest.raises(ValidationError, match="block0/up:input:0"):
            apply_plan(plan, samples.perceptron().model())

    def test_a_plan_for_another_shape_is_an_error(self):
        plan = plan_of(CompressConstant("embedding", tensor_of("int8_sym", np.ones((4, 32), np.float32))))
        with pytest.raises(ValidationError, match=r"embedding.*\(96, 64\)"):
            apply_plan(plan, CASE.model())

    def test_a_plan_for_another_backend_is_an_error(self):
        with pytest.raises(ValidationError, match="made for onnx models, this is a numpy one"):
            apply_plan(Plan("onnx", ()), CASE.model())


class TestReport:
    """Figures, counted by hand from shapes."""

    graph = NumpyGraphBuilder().build(CASE.model())
    elements = 96 * 64 + 64 * 128 + 128 * 64 + 64 * 64

    def report(self, *edits):
        return Report.of(self.graph, plan_of(*edits))

    def test_of_an_unchanged_model(self):
        report = describe_model(self.graph)
        assert (report.bytes_before, report.bytes_after) == (4 * self.elements, 4 * self.elements)
        assert report.elements == self.elements
        assert report.bits_per_weight == 32
        (share,) = report.shares
        assert (share.label, share.layers, share.bits_per_weight) == ("float32", 4, 32)

    def test_of_two_formats(self):
        report = self.report(
            CompressConstant("embedding", tensor_of("int8_asym", CASE.weights["embedding"])),
            CompressConstant("block0.up", tensor_of("int4_asym", CASE.weights["block0.up"], axis=0)),
        )
        embedding = 96 * 64 + 96 * (2 + 1)  # codes, float16 scales, zero points
        up = 64 * 128 // 2 + 2 * 128 * 2 + 2 * 128 // 2  # two groups of 32 for each of 128 channels
        rest = 4 * (128 * 64 + 64 * 64)
        shares = {share.label: (share.layers, share.elements, share.bytes) for share in report.shares}
        assert shares == {
            "float32": (2, 128 * 64 + 64 * 64, rest),
            "uint4, group size 32": (1, 64 * 128, up),
            "uint8, per channel": (1, 96 * 64, embedding),
        }
        assert report.bytes_after == embedding + up + rest
        assert report.bits_per_weight == pytest.approx(8 * (embedding + up + rest) / self.elements)
        assert report.shares[0].label == "float32"

    def test_other_edits_do_not_count_as_compression(self):
        edits = ReplaceConstant("embedding", CASE.weights["embedding"]), InsertMultiply(POINT, np.asarray(2.0))
        report = self.report(*edits)
        assert [share.label for share in report.shares] == ["float32"]
        assert report.bits_per_weight == 32
        assert [entry.action for entry in report.entries] == ["replace", "multiply"]

    @pytest.mark.needs("nncf_weight_compression")
    def test_of_a_compressed_model(self):
        result = run({"compression": {"algorithm": "weight_compression"}}, CASE.model())
        again = describe_model(NumpyGraphBuilder().build(result.model))
        assert again.bytes_after == result.report.bytes_after
        assert [share.label for share in again.shares] == ["uint8, per channel"]

    def test_of_a_model_without_weights(self):
        report = describe_model(NumpyGraphBuilder().build(samples.without_weights().model()))
        assert (report.shares, report.bits_per_weight) == ((), 0)
        assert "all" in str(report)

    def test_json_and_text_say_the_same(self):
        report = self.report(CompressConstant("embedding", tensor_of("int8_sym", CASE.weights["embedding"])))
        data = report.to_json()
        json.dumps(data)
        text = str(report)
        for share in data["formats"]:
            assert share["format"] in text
            assert f"{share['bytes']:,}" in text
        assert sum(share["bytes"] for share in data["formats"]) == data["bytes_after"]

    def test_describe_lets_edits_pass_one_by_one(self):
        def edits():
            for name in ("embedding", "block0.up"):
                made.append(name)
                yield ReplaceConstant(name, CASE.weights[name])

        made, entries = [], []
        stream = describe("test", edits(), self.graph, entries)
        next(stream)
        assert (made, [entry.target for entry in entries]) == (["embedding"], ["embedding"])
