"""New virtual environments with chosen distributions, made without a network.

Our distributions are installed from wheels. What they require comes from the surrounding environment: a folder of
links to exactly the distributions that their metadata asks for, and nothing else, so that frameworks are absent
unless something that is installed requires them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Mapping, Sequence
from email.parser import HeaderParser
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.plugins import samples

ROOT = Path(__file__).parents[2]
_ALGORITHMS = sorted((ROOT / "plugins/algorithms").glob("*/pyproject.toml"))
PROJECTS = {
    "nncf": ROOT / "plugins/nncf",
    "nncf-core": ROOT / "nncf_core",
    "nncf-onnx": ROOT / "plugins/nncf_onnx",
    "nncf-openvino": ROOT / "plugins/nncf_openvino",
    "nncf-torch": ROOT / "plugins/nncf_torch",
    **{f"nncf-{file.parent.name.replace('_', '-')}": file.parent for file in _ALGORITHMS},
    "example-weight-clipping": ROOT / "tests/plugins/third_party_algorithm",
    "toy": samples.BACKEND,
}


class Environment:
    """A virtual environment.

    :param extra: folder that scripts find modules and distributions in, besides what is installed.
    """

    def __init__(self, folder: Path, extra: Path | None = None) -> None:
        self.folder = folder
        self._variables = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "NNCF", "COV"))}
        self._variables["PYTHONNOUSERSITE"] = "1"
        if extra is not None:
            self._variables["PYTHONPATH"] = str(extra)

    def with_folder(self, extra: Path) -> Environment:
        """The same environment, where a folder's modules and distributions are found as well."""
        return Environment(self.folder, extra)

    def execute(
        self, program: str, *arguments: object, cwd: Path, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """Run one of the environment's programs."""
        command = [str(self.folder / "bin" / program), *map(str, arguments)]
        environment = {**self._variables, **variables}
        return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300)

    def python(self, script: str, cwd: Path, **variables: str) -> Any:
        """Run a script and return the JSON in the last line that it prints."""
        done = self.execute("python", "-c", script, cwd=cwd, **variables)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    def plugins(self, cwd: Path, **variables: str) -> dict[str, dict[str, Any]]:
        """What ``nncf plugins --json`` says, by name of the plugin."""
        done = self.execute("nncf", "plugins", "--json", cwd=cwd, **variables)
        assert done.returncode == 0, done.stderr
        return {record["name"]: record for record in json.loads(done.stdout)}


def build_wheels(folder: Path, projects: Mapping[str, Path] = PROJECTS) -> dict[str, Path]:
    """A wheel of each distribution."""
    wheels = {}
    for name, project in projects.items():
        out = folder / name
        command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(out)]
        subprocess.run(command, cwd=project, check=True, capture_output=True)
        (wheels[name],) = out.glob("*.whl")
    return wheels


def make_environment(folder: Path, wheels: list[Path], besides: Sequence[str] = ()) -> Environment:
    """A virtual environment with these wheels, what they require, and other requirements."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    python = folder / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "--disable-pip-version-check"]
    install = ["install", "--quiet", "--no-deps", "--no-index", *map(str, wheels)]
    subprocess.run([*pip, *install], check=True, capture_output=True)
    links = folder / "required"
    links.mkdir()
    own = {canonicalize_name(name) for name in PROJECTS}
    requirements = [*besides, *(r for wheel in wheels for r in _requirements_of(wheel))]
    for distribution in _required(requirements, own):
        _link(distribution, links)
    (packages,) = folder.glob("lib/python*/site-packages")
    (packages / "required.pth").write_text(f"{links}\n")
    return Environment(folder)


def _requirements_of(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [n for n in archive.namelist() if n.endswith(".dist-info/METADATA")]
        return HeaderParser().parsestr(archive.read(name).decode()).get_all("Requires-Dist", [])


def _required(requirements: list[str], own: set[str]) -> list[metadata.Distribution]:
    """Distributions of the surrounding environment that are required, directly or not."""
    found: dict[str, metadata.Distribution] = {}
    waiting = list(requirements)
    while waiting:
        requirement = Requirement(waiting.pop())
        name = canonicalize_name(requirement.name)
        wanted = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        if not wanted or name in own or name in found:
            continue
        found[name] = metadata.distribution(requirement.name)
        assert requirement.specifier.contains(found[name].version, prereleases=True), requirement
        waiting += found[name].requires or []
    return list(found.values())


def _link(distribution: metadata.Distribution, folder: Path) -> None:
    for name in {file.parts[0] for file in distribution.files or ()} - {"..", "__pycache__"}:
        target = folder / name
        if not target.exists():
            target.symlink_to(Path(str(distribution.locate_file(name))))
