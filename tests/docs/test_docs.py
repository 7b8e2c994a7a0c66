"""The documentation is true: links lead somewhere, examples run, commands exist."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from nncf_core.cli import main

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(), re.DOTALL)


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


def test_the_readmes_script_runs(tmp_path: Path) -> None:
    pytest.importorskip("nncf_onnx")
    (script,) = blocks(ROOT / "README.md", "python")
    (tmp_path / "models").symlink_to(ROOT / "models")
    subprocess.run([sys.executable, "-W", "error", "-c", script], cwd=tmp_path, check=True)
    small, whole = (tmp_path / "small.onnx").stat().st_size, (ROOT / "models/digits_transformer.onnx").stat().st_size
    assert small < 0.3 * whole


def test_the_example_of_statistics_runs(tmp_path: Path) -> None:
    for name in ("nncf_onnx", "nncf_post_training_quantization"):
        pytest.importorskip(name)
    (script,) = blocks(ROOT / "docs/post_training_quantization.md", "python")
    (tmp_path / "models").symlink_to(ROOT / "models")
    script += "\nassert any(node.op_type == 'QuantizeLinear' for node in quantized.graph.node)\n"
    subprocess.run([sys.executable, "-W", "error", "-c", script], cwd=tmp_path, check=True)


def test_the_example_of_training_runs() -> None:
    for name in ("nncf_torch", "nncf_weight_compression"):
        pytest.importorskip(name)
    (script,) = blocks(ROOT / "docs/torch.md", "python")
    script += "\nassert losses[-1] < 0.3 * losses[0], losses"
    script += "\nassert torch.equal(small(data), trained(data))\nassert '0.weight_codes' in small.state_dict()\n"
    subprocess.run([sys.executable, "-W", "error", "-c", script], check=True)


def test_the_examples_of_compression_in_a_training_run() -> None:
    for name in ("nncf_torch", "nncf_magnitude_sparsity", "nncf_knowledge_distillation"):
        pytest.importorskip(name)
    script = "\n".join(blocks(ROOT / "docs/training.md", "python"))
    script += "\nassert controller.compression_rate > 0.59"
    script += "\nassert torch.equal(used.eval()(data), compressed.eval()(data))\n"
    subprocess.run([sys.executable, "-W", "error", "-c", script], check=True)


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


def test_the_plugin_of_the_guide_works() -> None:
    import numpy as np

    from nncf_core.pipeline import run
    from nncf_core.registry import registry

    pytest.importorskip("nncf_onnx")
    from tests.backends.onnx import models

    code = blocks(ROOT / "docs/plugins.md", "python")[0]
    module = type(sys)("guide")
    exec(compile(code, "docs/plugins.md", "exec"), module.__dict__)  # noqa: S102
    registry().register(module, "guide")
    try:
        weight = models.random(64, 32)
        config = {"compression": {"algorithm": "weight_clipping", "k": 1.0}}
        result = run(config, models.matmul(weight))
        (stored,) = result.model.graph.initializer
        limit = float(weight.std())
        np.testing.assert_allclose(np.abs(np.frombuffer(stored.raw_data, np.float32)).max(), limit, rtol=1e-6)
        assert result.report.entries[0].reason.startswith("clipped to")
    finally:
        registry().unregister("guide")


def test_the_refining_plugin_of_the_guide_works() -> None:
    import numpy as np

    import nncf
    from nncf_core.pipeline import run
    from nncf_core.registry import registry

    for name in ("nncf_onnx", "nncf_weight_compression"):
        pytest.importorskip(name)
    from tests.backends.onnx import models

    code = blocks(ROOT / "docs/plugins.md", "python")[1]
    module = type(sys)("guide")
    exec(compile(code, "docs/plugins.md", "exec"), module.__dict__)  # noqa: S102
    registry().register(module, "guide")
    try:
        weight = models.random(64, 32)
        weight[5] = 20.0 * np.sign(weight[5])  # large where inputs are small
        data = np.random.default_rng(0).normal(size=(3, 64)).astype(np.float32)
        data[:, 5] *= 1e-3
        main_section = {"algorithm": "weight_compression", "mode": "int4_sym", "group_size": 64, "all_layers": True}
        config = {"compression": [main_section, {"algorithm": "clipping", "part": 0.5}]}
        result = run(config, models.matmul(weight), dataset=nncf.Dataset([data]))
        assert [entry.reason for entry in result.report.entries] == ["clipped"]
    finally:
        registry().unregister("guide")


def test_help_is_shown_for_every_command() -> None:
    for name in main.commands:
        assert CliRunner().invoke(main, [name, "--help"]).exit_code == 0


@pytest.mark.parametrize("title", ["ONNX", "OpenVINO", "PyTorch"])
def test_the_scripts_of_the_quick_start_run(title: str, tmp_path: Path) -> None:
    backend = {"ONNX": "nncf_onnx", "OpenVINO": "nncf_openvino", "PyTorch": "nncf_torch"}[title]
    for name in ("nncf_weight_compression", backend):
        pytest.importorskip(name)
    page = (ROOT / "docs/quick_start.md").read_text()
    section = page.split(f"\n## {title}\n")[1].split("\n## ")[0]
    (script,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    if title == "ONNX":
        (tmp_path / "model.onnx").symlink_to(ROOT / "models/digits_transformer.onnx")
    elif title == "OpenVINO":
        import openvino

        openvino.save_model(openvino.convert_model(ROOT / "models/digits_transformer.onnx"), tmp_path / "model.xml")
    subprocess.run([sys.executable, "-W", "error", "-c", script], cwd=tmp_path, check=True)
    assert any(path.name.startswith("small.") for path in tmp_path.iterdir())


def test_the_quantization_of_the_quick_start_runs(tmp_path: Path) -> None:
    for name in ("nncf_onnx", "nncf_post_training_quantization"):
        pytest.importorskip(name)
    (tmp_path / "digits.onnx").symlink_to(ROOT / "models/digits_transformer.onnx")
    script = blocks(ROOT / "docs/quick_start.md", "python")[-1]
    subprocess.run([sys.executable, "-W", "error", "-c", script], cwd=tmp_path, check=True)
    assert (tmp_path / "quantized.onnx").exists()
