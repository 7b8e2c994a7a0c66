"""What the command says of itself, and to shells."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from nncf_core.cli import main
from tests.cli.models import onnx_model


@pytest.mark.parametrize("command", sorted(main.commands))
def test_every_command_shows_examples_that_it_takes(command: str) -> None:
    text = CliRunner().invoke(main, [command, "--help"]).stdout
    examples = text.split("Examples:\n")[1].split("\n\n")[0].splitlines()
    assert any(f"nncf {command}" in line for line in examples)
    known = {option for parameter in main.commands[command].params for option in parameter.opts}
    for line in examples:
        words = line.split()
        if words[0] == "nncf" and words[1] == command:
            assert {word for word in words if word.startswith("-")} <= known, line


def test_exit_codes(tmp_path: Path) -> None:
    text = CliRunner().invoke(main, ["--help"]).stdout
    assert "Exit codes:\n    0    done" in text
    model = onnx_model(tmp_path / "model.onnx")

    def code(*arguments: object) -> int:
        return CliRunner().invoke(main, [str(a) for a in arguments]).exit_code

    assert code("compress-weights", model, "-o", tmp_path / "small.onnx") == 0
    assert code("compress-weights", tmp_path / "none.onnx", "-o", tmp_path / "a.onnx") == 2
    assert code("compress-weights", model, "--mode", "int3", "-o", tmp_path / "a.onnx") == 2
    model.write_bytes(model.read_bytes() + b"\n")
    assert code("reproduce", tmp_path / "small.onnx.lock.json") == 1


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_script_for_each_shell(shell: str) -> None:
    result = CliRunner().invoke(main, ["completion", shell])
    assert result.exit_code == 0
    assert f"_NNCF_COMPLETE={shell}_complete" in result.stdout


@pytest.mark.parametrize(
    ("words", "expected"), [("nncf comp", "compare completion compress-weights"), ("nncf compare --it", "--items")]
)
def test_what_a_shell_is_told(words: str, expected: str) -> None:
    asked = {"_NNCF_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(len(words.split()) - 1)}
    command = [sys.executable, "-m", "nncf_core.cli"]
    done = subprocess.run(command, env={**os.environ, **asked}, capture_output=True, text=True, check=False)
    assert [line.split(",")[1] for line in done.stdout.splitlines()] == expected.split()
