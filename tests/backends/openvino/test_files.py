"""Files: read through a map, written aside, the same bytes each time; and what is wrong with broken ones."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("nncf_openvino")

import openvino as ov

import nncf
from nncf_core.pipeline import run as run_pipeline
from nncf_openvino.constants import constant as new_constant
from nncf_openvino.spool import Spool
from tests.backends.openvino import models
from tests.backends.openvino.models import BUILDER, INSERTER, graph_of, random, run

INT8 = {"compression": {"algorithm": "weight_compression", "mode": "int8_asym"}}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    ov.serialize(models.mlp(random(64, 128), random(32, 64, seed=1)), tmp_path / "model.xml")
    return tmp_path / "model.xml"


def test_a_file_and_its_model_give_the_same_files(path: Path) -> None:
    run_pipeline(INT8, path, output=path.with_name("from_file.xml"))
    run_pipeline(INT8, ov.Core().read_model(path), output=path.with_name("from_model.xml"))
    run_pipeline(INT8, path, output=path.with_name("again.xml"))
    for suffix in (".xml", ".bin"):
        first = path.with_name(f"from_file{suffix}").read_bytes()
        assert path.with_name(f"again{suffix}").read_bytes() == first
        assert path.with_name(f"from_model{suffix}").read_bytes() == first


def test_another_process_writes_the_same_bytes(path: Path) -> None:
    for name in ("first", "second"):
        command = [sys.executable, "-m", "nncf_core.cli", "compress-weights", path, "-o", path.with_name(f"{name}.xml")]
        subprocess.run([*command, "--mode", "int8_asym"], check=True, capture_output=True)
    for suffix in (".xml", ".bin"):
        assert path.with_name(f"first{suffix}").read_bytes() == path.with_name(f"second{suffix}").read_bytes()


def test_files_are_smaller_and_compute_the_same_as_models(path: Path) -> None:
    run_pipeline(INT8, path, output=path.with_name("small.xml"))
    assert path.with_name("small.bin").stat().st_size < path.with_suffix(".bin").stat().st_size / 3
    x = random(3, 128, seed=5)
    want = run(nncf.compress_weights(ov.Core().read_model(path)), x=x)[0]
    np.testing.assert_array_equal(run(ov.Core().read_model(path.with_name("small.xml")), x=x)[0], want)
    np.testing.assert_array_equal(run(nncf.compress_weights(path), x=x)[0], want)


def test_the_input_may_be_overwritten(path: Path) -> None:
    want = run(nncf.compress_weights(path), x=random(3, 128, seed=5))[0]
    run_pipeline(INT8, path, output=path)
    np.testing.assert_array_equal(run(ov.Core().read_model(path), x=random(3, 128, seed=5))[0], want)
    assert sorted(p.name for p in path.parent.iterdir()) == ["model.bin", "model.xml"]


def test_the_argument_is_not_changed_and_shares_its_constants() -> None:
    model = models.mlp(random(64, 128), random(32, 64, seed=1))
    before = [(n.get_friendly_name(), n.get_type_name()) for n in model.get_ordered_ops()]
    small = nncf.compress_weights(model, ignored_scope=nncf.IgnoredScope(names=["last"]))
    assert [(n.get_friendly_name(), n.get_type_name()) for n in model.get_ordered_ops()] == before
    assert address(small, "w1") == address(model, "w1")
    assert address(small, "w0") != address(model, "w0")


def address(model: ov.Model, name: str) -> int:
    return next(n for n in model.get_ordered_ops() if n.get_friendly_name() == name).data.ctypes.data


def twins(weight: np.ndarray) -> ov.Model:
    """An embedding and a head with weights of equal bytes, and an If whose branches have them, too."""
    tokens, condition = models.parameter([-1], "tokens", np.int64), models.parameter([], "condition", np.bool_)
    table = models.constant(weight, "table")
    x = models.named(models.ops.gather(table, tokens, models.constant(np.array(0), "axis")), "embed")
    y = models.named(models.ops.matmul(x, models.constant(weight.copy(), "head"), False, True), "logits", "y")
    chosen, inputs, bodies = models.ops.if_op(condition.output(0)), [], []
    for _ in range(2):
        p = models.parameter([-1, weight.shape[1]], "p")
        product = models.ops.matmul(p, models.constant(weight.copy(), "inner"), False, True)
        inputs.append(p)
        bodies.append(models.model_of([models.named(product, "product")], [p]))
    chosen.set_then_body(bodies[0])
    chosen.set_else_body(bodies[1])
    chosen.set_input(x.output(0), *inputs)
    result = chosen.set_output(bodies[0].get_results()[0], bodies[1].get_results()[0])
    return models.model_of([y, models.named(models.ops.relu(result), "chosen", "z")], [tokens, condition])


@pytest.mark.parametrize("as_model", [False, True])
def test_constants_that_share_their_bytes_are_one(tmp_path: Path, as_model: bool) -> None:
    model, path = twins(random(64, 32)), tmp_path / "model.xml"
    ov.serialize(model, path)
    source = ov.Core().read_model(path) if as_model else path
    assert [node.name for node, _ in graph_of(source).users("table")] == ["embed", "logits"]
    small = nncf.compress_weights(source)
    weights = [name for name, constant in graph_of(small).constants.items() if constant.compressed]
    assert sorted(weights) == ["inner", "inner#1", "table"]
    for condition in (False, True):
        feed = {"tokens": np.array([3, 5]), "condition": np.array(condition)}
        for got, want in zip(run(small, **feed), run(nncf.compress_weights(model), **feed), strict=True):
            np.testing.assert_allclose(got, want, atol=1e-6)


def test_a_model_outlives_the_run_that_made_it(path: Path) -> None:
    small = nncf.compress_weights(path)
    path.with_suffix(".bin").unlink()
    x = random(3, 128, seed=5)
    first = run(small, x=x)[0]
    np.random.default_rng(0).random(1 << 20)  # takes memory that may have become free
    np.testing.assert_array_equal(run(small, x=x)[0], first)


def test_what_is_written_down(path: Path) -> None:
    model = nncf.compress_weights(path, mode=nncf.CompressWeightsMode.INT4_SYM, group_size=32)
    assert model.get_rt_info(["nncf", "weight_compression", "mode"]).astype(str) == "int4_sym"
    assert model.get_rt_info(["nncf", "weight_compression", "group_size"]).astype(str) == "32"
    assert model.get_rt_info(["nncf", "version"]).astype(str)


def test_defaults_and_methods_are_written_down(path: Path) -> None:
    def recorded(model: ov.Model, *names: str) -> dict[str, str]:
        return {name: model.get_rt_info(["nncf", "weight_compression", name]).astype(str) for name in names}

    found = {"ratio": "1.0", "group_size": "-1", "all_layers": "False", "backup_mode": "int8_asym"}
    found |= {"sensitivity_metric": "weight_quantization_error", "compression_format": "dequantize"}
    found |= dict.fromkeys(("awq", "scale_estimation", "gptq", "lora_correction"), "False")
    assert recorded(nncf.compress_weights(path), *found) == found
    dataset = nncf.Dataset([{"x": random(8, 128, seed=1)}])
    mode = nncf.CompressWeightsMode.INT4_SYM
    model = nncf.compress_weights(path, mode=mode, ratio=0.5, group_size=32, gptq=True, dataset=dataset)
    found = {"ratio": "0.5", "gptq": "True", "awq": "False", "sensitivity_metric": "max_activation_variance"}
    assert recorded(model, *found) == found
    damp = model.get_rt_info(["nncf", "weight_compression", "advanced_parameters", "gptq_params", "damp_percent"])
    assert damp.astype(str) == "0.1"


def test_an_equal_file_name_of_another_kind_is_refused(path: Path) -> None:
    with pytest.raises(nncf.ValidationError, match=r"\.xml"):
        BUILDER.save(BUILDER.open(path, {}), path.with_name("model.onnx"))


def test_where_it_cannot_be_written(path: Path) -> None:
    model = BUILDER.open(path, {})
    with pytest.raises(nncf.InvalidPathError, match="missing"):
        BUILDER.save(model, path.parent / "missing" / "model.xml")
    (path.parent / "folder.xml").mkdir()
    with pytest.raises(nncf.InvalidPathError, match="folder"):
        BUILDER.save(model, path.parent / "folder.xml")


class TestSpool:
    def test_what_exceeds_the_memory_goes_to_a_file(self) -> None:
        spool = Spool(limit=1000)
        small, large = np.arange(200, dtype=np.uint8), np.arange(5000).astype(np.uint8)
        assert spool.put(small) is small
        held = spool.put(large)
        assert held is not large
        np.testing.assert_array_equal(held, large)

    @pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts open files where the system lists them")
    def test_many_arrays_need_few_files(self) -> None:
        before, spool = len(os.listdir("/proc/self/fd")), Spool(limit=0)
        arrays = [np.full(5000 + i, i % 251, np.uint8) for i in range(500)]
        held = [spool.put(array) for array in arrays]
        assert len(os.listdir("/proc/self/fd")) - before < 5
        for one, other in zip(arrays, held, strict=True):
            np.testing.assert_array_equal(one, other)
            assert other.ctypes.data % 64 == 0
        del spool
        np.testing.assert_array_equal(held[7], arrays[7])

    def test_no_room_for_the_file(self) -> None:
        limited = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))"
        script = f"""
{limited}
import signal, numpy
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
from nncf_core.errors import InvalidPathError
from nncf_openvino.spool import Spool
try:
    Spool(limit=0).put(numpy.zeros(1 << 22, numpy.uint8))
except InvalidPathError as error:
    print(error)
"""
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
        assert "TMPDIR" in done.stdout

    def test_models_are_the_same(self, path: Path) -> None:
        want = run(nncf.compress_weights(path), x=random(3, 128, seed=5))[0]
        working = BUILDER.open(path, {})
        working.spool = Spool(limit=0)
        raw = np.arange(8192).astype(np.uint8)
        node = new_constant(working, raw, [8192], ov.Type.u8, "c")
        np.testing.assert_array_equal(node.data, raw)
        graph = BUILDER.build(working)
        edits = compressions(graph)
        working = INSERTER.apply(working, graph, edits, {})
        exported = BUILDER.export(working, path)
        del working, node, edits, graph
        np.testing.assert_array_equal(run(exported, x=random(3, 128, seed=5))[0], want)


def compressions(graph):
    from nncf_core.numerics.formats import SCHEMES
    from nncf_core.numerics.kernels import compress
    from nncf_core.transformations import CompressConstant

    constants = [graph.constants[name] for name in ("w0", "w1")]
    return [CompressConstant(c.name, compress(c.read(), SCHEMES["int8_asym"], reduction_axes=1)) for c in constants]


class TestBroken:
    """Everything that can be wrong with a pair of files gives one clear error of the framework."""

    def opened(self, path: Path) -> None:
        BUILDER.build(BUILDER.open(path, {}))

    def test_no_file(self, tmp_path: Path) -> None:
        with pytest.raises(nncf.InvalidPathError, match=r"none\.xml"):
            self.opened(tmp_path / "none.xml")
        with pytest.raises(nncf.InvalidPathError, match="not a file"):
            self.opened(tmp_path)

    def test_no_weights(self, path: Path) -> None:
        path.with_suffix(".bin").unlink()
        with pytest.raises(nncf.InvalidPathError, match=r"model\.bin"):
            self.opened(path)

    def test_truncated_weights(self, path: Path) -> None:
        raw = path.with_suffix(".bin").read_bytes()
        path.with_suffix(".bin").write_bytes(raw[:-100])
        with pytest.raises(nncf.UnsupportedModelError, match="truncated"):
            self.opened(path)
        path.with_suffix(".bin").write_bytes(b"")
        with pytest.raises(nncf.UnsupportedModelError, match="truncated"):
            self.opened(path)

    @pytest.mark.parametrize(
        ("old", "new", "message"),
        [
            ("</net>", "", "XML"),
            ("<net ", '<!DOCTYPE net [<!ENTITY a "b">]><net ', "document type"),
            ("<net ", "<html ", "'html'"),
            ('version="11"', 'version="7"', "IR version 7"),
            ('version="11"', 'version="x"', "version is 'x'"),
            ('type="MatMul"', 'type="NoSuchOperator"', "NoSuchOperator"),
            ('from-layer="0"', 'from-layer="77"', "model.xml"),
            ('shape="64, 128"', 'shape="64, 129"', "model.xml"),
            ('shape="64, 128"', 'shape="64, -128"', "model.xml"),
            ('offset="0"', 'offset="-8"', "offset"),
            ('offset="0"', 'offset="99999999999999999999999"', "truncated"),
            ('size="32768"', 'size="many"', "size"),
            ('size="32768"', 'size="16"', "model.xml"),
            ('element_type="f32" shape="64, 128"', 'element_type="f33" shape="64, 128"', "model.xml"),
        ],
    )
    def test_damaged_structure(self, path: Path, old: str, new: str, message: str) -> None:
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))
        with pytest.raises(nncf.NNCFError, match=message) as caught:
            self.opened(path)
        assert len(str(caught.value).splitlines()) == 1

    def test_another_root(self, tmp_path: Path) -> None:
        (tmp_path / "page.xml").write_text("<html><body/></html>")
        with pytest.raises(nncf.UnsupportedModelError, match="html"):
            self.opened(tmp_path / "page.xml")

    @pytest.mark.parametrize("size", [0, 1, 10, 200, 2000])
    def test_cut_off(self, path: Path, size: int) -> None:
        path.write_bytes(path.read_bytes()[:size])
        with pytest.raises(nncf.UnsupportedModelError):
            self.opened(path)

    def test_weights_that_are_a_link_out_of_the_folder(self, path: Path, tmp_path: Path) -> None:
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir()
        path.with_suffix(".bin").rename(elsewhere / "secret")
        path.with_suffix(".bin").symlink_to(elsewhere / "secret")
        with pytest.raises(nncf.InvalidPathError, match="secret"):
            self.opened(path)

    def test_a_pair_of_links_as_in_caches(self, path: Path, tmp_path: Path) -> None:
        snapshot = tmp_path / "snapshot"
        snapshot.mkdir()
        for suffix in (".xml", ".bin"):
            path.with_suffix(suffix).rename(tmp_path / f"blob{suffix[1:]}")
            (snapshot / f"model{suffix}").symlink_to(tmp_path / f"blob{suffix[1:]}")
        self.opened(snapshot / "model.xml")


def test_a_model_without_weights_needs_no_bin(tmp_path: Path) -> None:
    x = models.parameter([2], "x")
    ov.serialize(models.model_of([models.named(models.ops.relu(x), "relu")], [x]), tmp_path / "model.xml")
    (tmp_path / "model.bin").unlink()
    assert list(graph_of(tmp_path / "model.xml").constants) == []


def test_the_command(path: Path) -> None:
    from click.testing import CliRunner

    from nncf_core.cli import main

    arguments = ["compress-weights", str(path), "-o", str(path.with_name("small.xml")), "--mode", "int8_sym", "--json"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    assert [entry["format"] for entry in json.loads(result.stdout)["entries"]] == ["int8", "int8"]
    inspected = CliRunner().invoke(main, ["inspect", str(path.with_name("small.xml"))])
    assert "int8, per channel" in inspected.output


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems do not say what is mapped")
@pytest.mark.parametrize("as_model", [False, True])
def test_pages_of_weights_are_given_back(tmp_path: Path, as_model: bool) -> None:
    ov.serialize(models.mlp(random(2048, 2048)), tmp_path / "model.xml")
    working = BUILDER.open(ov.Core().read_model(tmp_path / "model.xml") if as_model else tmp_path / "model.xml", {})
    constant = BUILDER.build(working).constants["w0"]
    before = mapped_pages()
    total = constant.read().sum()
    assert mapped_pages() - before > 15 << 10
    constant.release()
    assert mapped_pages() - before < 1 << 10
    assert constant.read().sum() == total


def mapped_pages() -> int:
    """KiB of files that are in this process's memory."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith(("RssFile", "RssShmem")))
