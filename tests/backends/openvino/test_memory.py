"""Files that are several times larger than the memory that a process may have."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("nncf_openvino")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits of memory are Linux's"),
]

LIMIT = 320 << 20
LAYERS, SIZE = 64, 2048  # 64 weights of 16 MiB: 1 GiB

LAYER = """<layer id="{id}" name="w{i}" type="Const" version="opset1">
<data element_type="f32" shape="{n}, {n}" offset="{offset}" size="{size}"/>
<output><port id="0" precision="FP32"><dim>{n}</dim><dim>{n}</dim></port></output></layer>
<layer id="{next}" name="matmul{i}" type="MatMul" version="opset1"><data transpose_a="false" transpose_b="true"/>
<input><port id="0" precision="FP32"><dim>-1</dim><dim>{n}</dim></port>
<port id="1" precision="FP32"><dim>{n}</dim><dim>{n}</dim></port></input>
<output><port id="2" precision="FP32"><dim>-1</dim><dim>{n}</dim></port></output></layer>
"""

SCRIPT = """
import resource, sys
from pathlib import Path
from nncf_core.pipeline import run
resource.setrlimit(resource.RLIMIT_DATA, (int(sys.argv[3]),) * 2)
section = {"algorithm": "weight_compression", "mode": sys.argv[4]}
if sys.argv[4] == "int4_sym":
    section.update(group_size=64, all_layers=True)
run({"compression": section}, Path(sys.argv[1]), output=Path(sys.argv[2]))
# not ru_maxrss, which a process takes over from the one that started it
status = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
print(int(status["VmHWM"].split()[0]) * 1024)
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of many equal layers that is written without being in memory."""
    folder = tmp_path_factory.mktemp("large")
    weight = np.random.default_rng(0).normal(0, 0.02, (SIZE, SIZE)).astype(np.float32)
    layers, edges = [], []
    with (folder / "model.bin").open("wb") as file:
        for i in range(LAYERS):
            layers.append(
                LAYER.format(i=i, id=2 * i + 1, next=2 * i + 2, n=SIZE, offset=i * weight.nbytes, size=weight.nbytes)
            )
            edges.append(f'<edge from-layer="{2 * i}" from-port="{2 if i else 0}" to-layer="{2 * i + 2}" to-port="0"/>')
            edges.append(f'<edge from-layer="{2 * i + 1}" from-port="0" to-layer="{2 * i + 2}" to-port="1"/>')
            weight[0, i] += 1  # equal constants would be written once
            file.write(weight.data)
    port = f'precision="FP32"><dim>-1</dim><dim>{SIZE}</dim></port>'
    edges.append(f'<edge from-layer="{2 * LAYERS}" from-port="2" to-layer="{2 * LAYERS + 1}" to-port="0"/>')
    (folder / "model.xml").write_text(
        '<?xml version="1.0"?><net name="large" version="11"><layers>'
        '<layer id="0" name="x" type="Parameter" version="opset1">'
        f'<data shape="?,{SIZE}" element_type="f32"/><output><port id="0" {port}</output></layer>'
        + "".join(layers)
        + f'<layer id="{2 * LAYERS + 1}" name="y" type="Result" version="opset1"><input><port id="0" {port}</input>'
        f"</layer></layers><edges>{''.join(edges)}</edges></net>"
    )
    return folder / "model.xml"


@pytest.mark.parametrize("mode", ["int8_asym", "int4_sym"])
def test_a_model_three_times_the_memory(model: Path, tmp_path: Path, mode: str) -> None:
    size = model.with_suffix(".bin").stat().st_size
    assert size > 3 * LIMIT
    command = [sys.executable, "-c", SCRIPT, str(model), str(tmp_path / "small.xml"), str(LIMIT), mode]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "TMPDIR": str(tmp_path)})
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / "small.bin").stat().st_size < size / (3.9 if mode == "int8_asym" else 7.4)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["small.bin", "small.xml"]
    assert int(done.stdout) < 1.3 * size


CHECKED = """
import resource, sys
from nncf_core.cli.main import main
resource.setrlimit(resource.RLIMIT_DATA, (int(sys.argv[3]),) * 2)
sys.argv = ["nncf", "compress-weights", sys.argv[1], "-o", sys.argv[2]]
main()
"""


def test_the_written_model_is_verified_within_the_memory(model: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", CHECKED, str(model), str(tmp_path / "small.xml"), str(LIMIT)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "TMPDIR": str(tmp_path)})
    assert done.returncode == 0, done.stderr[-2000:]
    said = done.stdout + done.stderr
    assert f"stored: yes, bit for bit: {LAYERS} constants hold their codes" in said
    assert "run: not checked, the model is too large to be run in the memory that is free" in said
    assert f"of {LAYERS} layers give what they give with the weights that their codes stand for" in said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["small.bin", "small.xml", "small.xml.lock.json"]
