"""Statistics in files: collected in parts, merged, read instead of collected, and refused where they do not fit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import numpy_helper

import nncf
from nncf_core.api import quantize_config
from nncf_core.cli import main
from nncf_core.pipeline import collect_statistics, run
from nncf_core.statistics import Statistics
from tests.algorithms.post_training_quantization.networks import block, images, residual
from tests.backends.digits import converted, convolutions
from tests.backends.digits import images as digits

NAME = "post_training_quantization"
SAMPLES = images(12)
FILE = f"{NAME}-0.npz"


def config(**section: Any) -> dict[str, Any]:
    return {"compression": {"algorithm": NAME, **section}}


def dataset(*part: int) -> nncf.Dataset:
    return nncf.Dataset(SAMPLES[slice(*part)])


def edited(name: str, change: Any = None) -> onnx.ModelProto:
    """The network with other values of a constant, or another name of a node."""
    proto = residual()
    for tensor in proto.graph.initializer:
        if tensor.name == name:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * 1.001, name))
    for node in proto.graph.node:
        node.name = change if node.name == name else node.name
    return proto


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("statistics")
    run(config(), residual(), dataset=dataset(8), statistics_path=folder)
    return folder


@pytest.mark.parametrize("framework", ["onnx", "openvino", "torch"])
def test_a_second_run_needs_no_data(framework: str, tmp_path: Path) -> None:
    x = digits()[0][:4]
    items = list(x.split(1)) if framework == "torch" else [item.numpy() for item in x.split(1)]
    model = converted(convolutions(), x[:1], framework)
    # the second algorithm finds the model as the first has left it
    given = {**quantize_config(), "statistics_path": str(tmp_path / "new")}
    if framework == "torch":
        given["backend_params"] = {"example_input": items[0]}
    first = run(given, model, dataset=nncf.Dataset(items))
    assert {path.name for path in (tmp_path / "new").iterdir()} == {"smooth_quant-0.npz", FILE}
    second = run(given, model)
    assert len(first.plan.entries) > 8
    assert first.plan == second.plan


def test_parts_merge_to_the_whole(tmp_path: Path) -> None:
    ranges = {side: {"aggregator_type": "median"} for side in ("min", "max")}
    given = config(advanced_parameters={"activations_range_estimator_params": ranges})
    parts = []
    for index, part in enumerate([(5,), (5, 7), (7, 12)]):
        collected = collect_statistics(given, residual(), dataset(*part))
        parts.append(Statistics.load(collected.save(tmp_path / f"{index}.npz")))
    merged = parts[2]
    merged.merge(parts[0])
    merged.merge(parts[1])
    assert merged.items == 12
    assert merged.save(tmp_path / "merged") == tmp_path / "merged" / FILE
    assert len(Statistics.load(tmp_path / "merged")) == len(merged)
    found = run(given, residual(), statistics_path=tmp_path / "merged").model
    wanted = run(given, residual(), dataset=dataset(12)).model
    for one, other in zip(found.graph.initializer, wanted.graph.initializer, strict=True):
        # sums of means are rounded
        np.testing.assert_allclose(numpy_helper.to_array(one), numpy_helper.to_array(other), rtol=1e-6)


def test_a_later_algorithm_finds_what_those_before_have_left(tmp_path: Path) -> None:
    given = quantize_config()
    smooth = collect_statistics(given, residual(), dataset(4))
    smooth.save(tmp_path)
    later = collect_statistics({**given, "statistics_path": str(tmp_path)}, residual(), dataset(4, 8), algorithm=NAME)
    later.save(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"smooth_quant-0.npz", FILE}
    assert run(given, residual(), statistics_path=tmp_path).plan.entries
    with pytest.raises(nncf.ValidationError, match="no section for the algorithm 'other'"):
        collect_statistics(given, residual(), dataset(4), algorithm="other")


def test_the_command_reads_it(cache: Path, tmp_path: Path) -> None:
    onnx.save(residual(), tmp_path / "model.onnx")
    (tmp_path / "config.json").write_text(json.dumps({**config(), "statistics_path": str(cache)}))
    arguments = ["run", str(tmp_path / "config.json"), str(tmp_path / "model.onnx"), "-o", str(tmp_path / "out.onnx")]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    assert any(node.op_type == "QuantizeLinear" for node in onnx.load(tmp_path / "out.onnx").graph.node)


class TestWhatDoesNotFit:
    @pytest.mark.parametrize(
        ("proto", "match"),
        [
            (edited("w1"), r"the constant 'w1' had other values"),
            (edited("first", "renamed"), r"the node 'renamed' \(Conv: .*\) was 'first' \(Conv"),
            (block(), "the node"),
        ],
    )
    def test_of_another_model(self, cache: Path, proto: onnx.ModelProto, match: str) -> None:
        with pytest.raises(nncf.StatisticsCacheError, match=match) as error:
            run(config(), proto, statistics_path=cache)
        assert FILE in str(error.value)

    @pytest.mark.parametrize(
        ("section", "data", "match"),
        [
            ({"subset_size": 7}, None, "of 8 items of a dataset, subset_size is 7"),
            ({}, dataset(12), "of 8 items of a dataset, 12 are wanted"),
            ({"preset": "performance"}, None, r"they lack .*:mean_abs_max: and \d+ more"),
        ],
    )
    def test_other_settings(self, cache: Path, section: dict[str, Any], data: Any, match: str) -> None:
        with pytest.raises(nncf.StatisticsCacheError, match=match):
            run(config(**section), residual(), dataset=data, statistics_path=cache)

    def test_of_another_algorithm(self, cache: Path) -> None:
        with pytest.raises(nncf.StatisticsCacheError, match="round 0 of post_training_quantization, not"):
            run({"compression": {"algorithm": "smooth_quant"}}, residual(), statistics_path=cache / FILE)

    @pytest.mark.parametrize("how", ["cut", "empty", "text", "another archive"])
    def test_broken_files(self, cache: Path, tmp_path: Path, how: str) -> None:
        raw, file = (cache / FILE).read_bytes(), tmp_path / FILE
        file.write_bytes({"cut": raw[: len(raw) // 2], "empty": b"", "text": b"statistics"}.get(how, raw))
        if how == "another archive":
            np.savez(file, metadata=np.zeros(3, np.uint8))
        with pytest.raises(nncf.StatisticsCacheError, match=rf"{FILE} does not hold readable statistics"):
            run(config(), residual(), statistics_path=tmp_path)

    def test_parts_of_two_models_do_not_merge(self) -> None:
        first, second = (collect_statistics(config(), proto, dataset(1)) for proto in (residual(), edited("w0")))
        with pytest.raises(nncf.StatisticsCacheError, match="of something else: the constant 'w0'"):
            first.merge(second)

    def test_there_is_no_such_file(self, tmp_path: Path) -> None:
        with pytest.raises(nncf.StatisticsCacheError, match="no file of statistics"):
            Statistics.load(tmp_path / "none.npz")
        with pytest.raises(nncf.StatisticsCacheError, match="it holds none"):
            Statistics.load(tmp_path)

    def test_a_place_that_cannot_be_written_to(self, tmp_path: Path) -> None:
        (tmp_path / "taken").write_text("")
        with pytest.raises(nncf.InvalidPathError, match="taken"):
            run(config(), residual(), dataset=dataset(1), statistics_path=tmp_path / "taken")

    def test_nothing_is_left_behind_by_a_run_that_fails(self, tmp_path: Path) -> None:
        bad = nncf.Dataset([*SAMPLES[:2], np.zeros((1, 4, 16, 16), np.float32)])
        with pytest.raises(nncf.UnsupportedDatasetError):
            run(config(), residual(), dataset=bad, statistics_path=tmp_path / "new")
        assert not (tmp_path / "new").exists()
