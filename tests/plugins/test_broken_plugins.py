"""Plugins that break the contract are shown with what is wrong, and break nothing else."""

import pytest

pytestmark = pytest.mark.fresh_env

GOOD = """
from nncf_core.hookspecs import hookimpl
NNCF_HOOK_API = 1

class Nothing:
    name, parameters = "{name}", dict
    def schema(self): return {{"type": "object", "properties": {{}}}}
    def rounds(self, graph, params): return 1
    def requests(self, graph, params, context, round_index): return ()
    def transformations(self, graph, statistics, params, context, round_index): return ()

@hookimpl{mark}
def nncf_algorithms():
    return [Nothing()]
"""
HOOK = "from nncf_core.hookspecs import hookimpl\nNNCF_HOOK_API = 1\n@hookimpl\n"
BROKEN = {
    "no_import": ("import no_such_framework", "ModuleNotFoundError: No module named 'no_such_framework'"),
    "no_syntax": ("def", "SyntaxError"),
    "exits": ("raise SystemExit(3)", "SystemExit"),
    "no_version": ("x = 1", "states no hook API version; set NNCF_HOOK_API"),
    "old_version": ("NNCF_HOOK_API = 0", "is written for hook API 0; nncf-core"),
    "unknown_hook": (
        HOOK + "def nncf_algoritms(): return []",
        "unknown hooks nncf_algoritms; known: nncf_graph_builders",
    ),
    "wrong_arguments": (HOOK + "def nncf_algorithms(registry): return []", "registry"),
    "raises": (HOOK + "def nncf_algorithms(): return [1 / 0]", "hook nncf_algorithms: ZeroDivisionError"),
    "no_list": (HOOK + "def nncf_algorithms(): return 7", "hook nncf_algorithms: TypeError"),
    "incomplete": (
        HOOK + "def nncf_algorithms():\n    class A: name = 'a'; parameters = dict\n    return [A()]",
        "no algorithm: it lacks requests, rounds, schema, transformations",
    ),
}


def distribution(folder, name, source, version="1.0"):
    """An installed distribution of one module, which is its plugin."""
    (folder / f"{name}.py").write_text(source)
    info = folder / f"dist_{name}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: dist-{name}\nVersion: {version}\n")
    (info / "entry_points.txt").write_text(f"[nncf]\n{name} = {name}\n")


@pytest.fixture
def environment(environment_with):
    return environment_with("example-weight-clipping", "toy", "nncf-weight-compression")


@pytest.fixture
def broken(environment, tmp_path):
    """The environment with every broken plugin in it at once."""
    for name, (source, _) in BROKEN.items():
        distribution(tmp_path, name, source)
    return environment.with_folder(tmp_path)


def test_each_is_listed_with_its_error(broken, tmp_path):
    found = broken.plugins(tmp_path)
    for name, (_, message) in BROKEN.items():
        assert found[name]["error"] is not None, name
        assert message in found[name]["error"]
        assert found[name]["distribution"] == f"dist-{name}"
        assert found[name]["registers"] == []
    good = {name: record for name, record in found.items() if name not in BROKEN}
    assert set(good) == {"core", "toy", "weight_clipping", "weight_compression"}
    assert all(record["error"] is None and record["registers"] for record in good.values())


def test_the_plain_list_says_so_too(broken, tmp_path):
    lines = broken.execute("nncf", "plugins", cwd=tmp_path).stdout
    assert "no_import  (dist-no_import 1.0)  FAILED\n    error: ModuleNotFoundError" in lines


def test_the_others_work(broken, tmp_path):
    script = """
import json, nncf, numpy as np
from toy import Layer, Network
model = Network([Layer("only", np.eye(8, dtype=np.float32), np.zeros(8, np.float32))])
print(json.dumps(nncf.compress_weights(model).layers[0].weight.dtype.name))
"""
    assert broken.python(script, tmp_path) == "uint8"


def test_an_algorithm_of_a_broken_plugin_says_why(broken, tmp_path):
    script = """
import json, nncf
try:
    nncf.NNCFConfig.from_dict({"compression": {"algorithm": "raises"}})
except nncf.ValidationError as error:
    print(json.dumps(str(error)))
"""
    message = broken.python(script, tmp_path)
    assert "'raises' of dist-raises is installed but failed" in message
    assert "ZeroDivisionError" in message


def test_two_providers_of_one_name(environment, tmp_path):
    distribution(tmp_path, "zebra", GOOD.format(name="shared", mark=""))
    distribution(tmp_path, "ape", GOOD.format(name="shared", mark=""))
    found = environment.with_folder(tmp_path).plugins(tmp_path)
    assert found["ape"]["registers"] == ["algorithm shared"]
    assert (found["zebra"]["registers"], found["zebra"]["shadowed"]) == ([], ["algorithm shared (by ape)"])
    lines = environment.with_folder(tmp_path).execute("nncf", "plugins", cwd=tmp_path).stdout
    assert "not used: algorithm shared (by ape)" in lines


def test_tryfirst_wins(environment, tmp_path):
    distribution(tmp_path, "zebra", GOOD.format(name="shared", mark="(tryfirst=True)"))
    distribution(tmp_path, "ape", GOOD.format(name="shared", mark=""))
    found = environment.with_folder(tmp_path).plugins(tmp_path)
    assert found["zebra"]["registers"] == ["algorithm shared"]
    assert found["ape"]["shadowed"] == ["algorithm shared (by zebra)"]


def test_an_installed_plugin_replaces_the_cores_own(environment, tmp_path):
    source = HOOK + (
        "def nncf_strip_formats():\n    class F:\n        name = 'in_place'\n"
        "        def strip(self, graph): return ()\n    return [F()]"
    )
    distribution(tmp_path, "mine", source)
    found = environment.with_folder(tmp_path).plugins(tmp_path)
    assert found["mine"]["registers"] == ["strip format in_place"]
    assert found["core"]["shadowed"] == ["strip format in_place (by mine)"]


def test_chosen_plugins_alone_are_loaded(broken, tmp_path):
    found = broken.plugins(tmp_path, NNCF_LOAD_PLUGINS="toy, weight_clipping")
    assert set(found) == {"core", "toy", "weight_clipping"}
    assert set(broken.plugins(tmp_path, NNCF_LOAD_PLUGINS="")) == {"core"}


def test_a_broken_backend_is_named_when_it_is_needed(environment, tmp_path):
    distribution(tmp_path, "openvino_backend", "import openvino")
    info = tmp_path / "dist_openvino_backend-1.0.dist-info" / "METADATA"
    info.write_text("Metadata-Version: 2.1\nName: nncf-openvino\nVersion: 1.0\n")
    script = """
import json, nncf
try:
    nncf.compress_weights("model.xml")
except nncf.UnsupportedBackendError as error:
    print(json.dumps(str(error)))
"""
    message = environment.with_folder(tmp_path).python(script, tmp_path)
    assert "nncf-openvino is installed but failed: ModuleNotFoundError: No module named 'openvino'" in message
