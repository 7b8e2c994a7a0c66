"""The documentation is true: links lead somewhere, examples run, commands exist."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from nncf_core.cli import main
from tests.docs.blocks import PAGES, ROOT, STORIES, Story, blocks

_TRAINED = ("filter_pruning-0", "lora_tuning-0", "low_rank_correction-0", "quantization_aware_training-0", "training-0")
"""Blocks that train, or calibrate, for long."""


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target


def test_the_readme_opens_with_the_two_commands() -> None:
    first = blocks(ROOT / "README.md", "")[0].splitlines()
    assert [line.split("#")[0].strip() for line in first] == ["make demo", "make test"]
    makefile = (ROOT / "Makefile").read_text()
    assert "\ndemo:" in makefile
    assert "\ntest:" in makefile


def _parameter(story: Story) -> Any:
    name = f"{Path(story.page).stem}-{story.numbers[0]}"
    return pytest.param(story, id=name, marks=pytest.mark.slow if name in _TRAINED else ())


@pytest.mark.parametrize("story", [_parameter(story) for story in STORIES])
def test_the_python_blocks_run(story: Story, tmp_path: Path) -> None:
    for name in story.needs:
        pytest.importorskip(name)
    # copies: blocks write models, too, and through a link they would replace the repository's own
    shutil.copytree(ROOT / "models", tmp_path / "models")
    for name in ("model.onnx", "digits.onnx"):
        shutil.copy(ROOT / "models/digits_transformer.onnx", tmp_path / name)
    (tmp_path / "story.py").write_text(story.script)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, "-W", "error", "story.py"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_every_python_block_runs() -> None:
    there = {(str(page.relative_to(ROOT)), i) for page in PAGES for i, _ in enumerate(blocks(page, "python"))}
    assert there == {(story.page, number) for story in STORIES for number in story.numbers}


def test_what_looks_like_python_says_so() -> None:
    for page in PAGES:
        for code in blocks(page, ""):
            assert not re.search(r"\bnncf\.[\w.]+\(", code), (page, code)


def test_the_readmes_config_is_valid() -> None:
    pytest.importorskip("nncf_weight_compression")
    import nncf

    (text,) = blocks(ROOT / "README.md", "json")
    nncf.NNCFConfig.from_dict(json.loads(text))


def test_the_commands_exist() -> None:
    for page in PAGES:
        for line in re.findall(r"^nncf .*$", page.read_text(), re.MULTILINE):
            words = line.split("#")[0].split()
            command = main.commands[words[1]]
            known = {option for parameter in command.params for option in parameter.opts}
            assert {word for word in words if word.startswith("-")} <= known, line


def test_the_table_of_commands_lists_all_of_them() -> None:
    page = (ROOT / "docs" / "command_line.md").read_text()
    rows = re.findall(r"^\| `nncf ([\w-]+)(.*?)` \|", page, re.MULTILINE)
    assert sorted(name for name, _ in rows) == sorted(main.commands)
    for name, usage in rows:
        known = {option for parameter in main.commands[name].params for option in parameter.opts}
        assert {word for word in usage.split() if word.startswith("-")} <= known


def test_help_is_shown_for_every_command() -> None:
    for name in main.commands:
        assert CliRunner().invoke(main, [name, "--help"]).exit_code == 0
