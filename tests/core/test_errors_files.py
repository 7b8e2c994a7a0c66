"""What users are told of files that cannot be read or written: what is wrong, where, and what to do."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from attrs import evolve

from nncf_core import errors
from nncf_core.checkpoints import Checkpoints
from nncf_core.config.nncf_config import NNCFConfig, read_json
from nncf_core.files import aside, write_text
from nncf_core.graph import Graph, Node, OpKind
from nncf_core.locking import digests_of
from nncf_core.origins import Origin
from nncf_core.plan import Plan
from nncf_core.plots import bar_chart
from nncf_core.plugin_templates import write_plugin
from nncf_core.spool import Spool
from nncf_core.statistics import Statistics, StatisticsRequest
from nncf_core.statistics_cache import StatisticsCache
from nncf_core.transformations import ReplaceConstant, TargetPoint

GRAPH = Graph("none", (Node("a", "Add", OpKind.ADD),))
REQUEST = StatisticsRequest(TargetPoint("a"), "abs_max")


def collected(origin: bool = True) -> Statistics:
    found = Statistics()
    found.aggregator(REQUEST).update(np.ones(3))
    found.items = 1
    found.origin = Origin.of(GRAPH, "mine", 0) if origin else None
    return found


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where a folder should be."""
    path = tmp_path / "file"
    path.write_text("text")
    return path


WRITERS: dict[str, tuple[Callable[[Path], Any], list[str]]] = {
    "text": (lambda path: write_text(path / "a", "text"), ["Cannot write {file}/a: ", "({file})"]),
    "a plan": (lambda path: Plan("none", ()).save(path / "plan"), ["Cannot write the plan to {file}/plan: "]),
    "statistics": (lambda path: collected().save(path / "a.npz"), ["Cannot write statistics to {file}/a.npz: "]),
    "a plot": (
        lambda path: bar_chart(path / "a.svg", ["a"], [1.0], [False], "t", "x", "m"),
        ["Cannot write {file}/a.svg: "],
    ),
    "a plugin": (
        lambda path: write_plugin("algorithm", "my-own-algo", path),
        ["Cannot write {file}/my-own-algo: ", "Give a place"],
    ),
    "tensors": (
        lambda path: Spool(path, 0).put("exact", "x", 0, np.ones(3)),
        ["Cannot keep tensors in {file}: ", "Give a work_dir, or set TMPDIR"],
    ),
    "finished parts": (
        lambda path: Checkpoints(path, "none", "run").write([], []),
        ["Cannot write the plan to {file}/part-0: "],
    ),
}


@pytest.mark.parametrize("name", WRITERS)
def test_what_cannot_be_written(name: str, file: Path) -> None:
    if name == "a plot":
        pytest.importorskip("matplotlib")
    write, parts = WRITERS[name]
    with pytest.raises(errors.InvalidPathError) as caught:
        write(file)
    for part in parts:
        assert part.format(file=file) in str(caught.value)
    assert any(text in str(caught.value) for text in ("Give a place that can be written to", "Give a work_dir"))
    assert file.read_text() == "text"


LARGE = {
    "text": lambda path: write_text(path / "a", "text" * 100),
    "a plan": lambda path: Plan("none", (), (("mine", (ReplaceConstant("a", np.ones(100)),)),)).save(path),
    "statistics": lambda path: collected().save(path / "a.npz"),
    "finished parts": lambda path: Checkpoints(path, "none", "run" * 100).write([], []),
    "tensors": lambda path: Spool(path, 0).put("exact", "x", 0, np.ones(100)),
}


@pytest.mark.skipif(os.name == "nt", reason="no limits of processes")
@pytest.mark.parametrize("name", LARGE)
def test_what_has_no_room(name: str, tmp_path: Path) -> None:
    """The system refuses to make files of more than 200 bytes."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200, hard))
    try:
        with pytest.raises(errors.InvalidPathError) as caught:
            LARGE[name](tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "File too large" in str(caught.value)
    assert str(tmp_path) in str(caught.value)
    assert not list(tmp_path.glob("*.tmp"))


def test_places_of_other_things(tmp_path: Path) -> None:
    with pytest.raises(errors.InvalidPathError, match=r"Cannot write .*: it is a folder"), aside(tmp_path):
        pass
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(errors.InvalidPathError, match=r"pipe or a socket; give the name"), aside(tmp_path / "pipe"):
            pass


def test_a_state_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "state.json").mkdir()
    with pytest.raises(errors.InvalidPathError, match=r"Cannot write .*state\.json"):
        Checkpoints(tmp_path, "none", "run").write([], [])


@pytest.mark.parametrize("text", ["{", "[]", '{"version": 1}'])
def test_a_state_that_cannot_be_read(text: str, tmp_path: Path) -> None:
    (tmp_path / "state.json").write_text(text)
    with pytest.raises(
        errors.ValidationError, match=rf"state\.json is not readable: .* Remove {tmp_path} to begin anew"
    ):
        Checkpoints(tmp_path, "none", "run").open("")


def test_a_folder_of_another_calibration(tmp_path: Path) -> None:
    Checkpoints(tmp_path, "none", "run").write([], [])
    for other, digest, what in (("mine", "", "framework"), ("none", "x", "calibration data")):
        with pytest.raises(errors.ValidationError, match=f"with another {what}. Give another work_dir, or remove it"):
            Checkpoints(tmp_path, other, "run").open(digest)


PLANS = {
    "none": ({}, errors.InvalidPathError, "holds no plan: .*plan.json is missing; give the folder"),
    "no arrays": ({"plan.json": "{}"}, errors.InvalidPathError, "holds no plan: .*arrays.npz is missing"),
    "no JSON": ({"plan.json": "{", "arrays.npz": "a"}, errors.ValidationError, "readable plan: .* Make it anew"),
    "no archive": ({"plan.json": "{}", "arrays.npz": "a"}, errors.ValidationError, "readable plan: .* Make it anew"),
}


@pytest.mark.parametrize("name", PLANS)
def test_plans(name: str, tmp_path: Path) -> None:
    files, kind, message = PLANS[name]
    for each, text in files.items():
        (tmp_path / each).write_text(text)
    with pytest.raises(kind, match=rf"{tmp_path} .*{message}"):
        Plan.load(tmp_path)


def test_a_plan_of_another_version(tmp_path: Path) -> None:
    Plan("none", ()).save(tmp_path)
    data = json.loads((tmp_path / "plan.json").read_text())
    (tmp_path / "plan.json").write_text(json.dumps({**data, "version": 99}))
    with pytest.raises(errors.ValidationError, match=r"holds a plan of version 99, not \d+: make it anew"):
        Plan.load(tmp_path)


def test_statistics(tmp_path: Path) -> None:
    with pytest.raises(errors.StatisticsCacheError, match=r"no file of statistics .*none\.npz; correct its name"):
        Statistics.load(tmp_path / "none.npz")
    with pytest.raises(errors.StatisticsCacheError, match=r"must hold one file of statistics.*it holds none"):
        Statistics.load(tmp_path)
    (tmp_path / "a.npz").write_text("text")
    with pytest.raises(errors.StatisticsCacheError, match=r"a\.npz does not hold readable statistics: .* Remove it"):
        Statistics.load(tmp_path / "a.npz")
    (tmp_path / "b.npz").write_text("text")
    with pytest.raises(errors.StatisticsCacheError, match=r"or give its name; it holds a\.npz, b\.npz"):
        Statistics.load(tmp_path)
    with pytest.raises(errors.StatisticsCacheError, match=r"do not say what they are of.*collect_statistics gives"):
        collected(origin=False).save(tmp_path / "c.npz")


def test_statistics_of_something_else(tmp_path: Path) -> None:
    mine, other = collected(), collected()
    assert other.origin is not None
    other.origin = evolve(other.origin, algorithm="gptq")
    with pytest.raises(
        errors.StatisticsCacheError, match=r"round 0 of gptq, not for round 0 of mine\. Collect both with"
    ):
        mine.merge(other)
    cache = StatisticsCache(tmp_path / "mine-0.npz", Origin.of(GRAPH, "mine", 0))
    cache.write(collected())
    missing = StatisticsRequest(TargetPoint("a"), "mean", 0)
    for most, least, requests, message in (
        (0, None, [REQUEST], "they are of 1 items of a dataset, subset_size is 0"),
        (None, 2, [REQUEST], "they are of 1 items of a dataset, 2 are wanted"),
        (None, None, [missing], f"they lack {missing.key}"),
    ):
        with pytest.raises(errors.StatisticsCacheError) as caught:
            cache.read(requests, most, least)
        assert f"The statistics in {cache.file} are not those of this run: {message}." in str(caught.value)
        assert "Remove the file to collect them anew, or give another statistics_path" in str(caught.value)
    assert len(cache.read([REQUEST], 1, 1)) == 1


CONFIGS = {
    "none": (None, errors.InvalidPathError, "Cannot read the config {file}: No such file"),
    "letters": (b"\xff\xfe", errors.InvalidPathError, "Cannot read the config {file}: it is not text in UTF-8."),
    "no JSON": (b"{'a': 1}", errors.ValidationError, "{file} is not JSON: "),
    "twice": (b'{"a": 1, "a": 2}', errors.ValidationError, "{file}: the key 'a' is given twice"),
    "NaN": (b'{"a": NaN}', errors.ValidationError, "{file}: NaN is not a JSON value"),
    "large": (b'{"a": 1e999}', errors.ValidationError, "{file}: the number 1e999 is too large"),
    "deep": (b'{"a": ' + b"[" * 100_000, errors.ValidationError, "{file} is nested too deeply for a config"),
    "a list": (b"[]", errors.ValidationError, "{file} holds a list; a config is an object {{...}}."),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_configs(name: str, tmp_path: Path) -> None:
    content, kind, message = CONFIGS[name]
    path = tmp_path / "config.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(kind) as caught:
        NNCFConfig.from_json(path)
    assert message.format(file=path) in str(caught.value)
    with pytest.raises(kind, match=r"lock file|is not JSON|twice|NaN|large"):
        read_json(path, "lock file")


def test_digests_of_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(errors.InvalidPathError, match=r"Cannot read .*none: No such file.*; correct its name"):
        digests_of([tmp_path / "none"])
