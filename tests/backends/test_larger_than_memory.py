"""A model of three times the memory that the process may have is compressed all the same."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

LIMIT = 300 << 20
"""Bytes of memory for everything but what is mapped from files; Python with a framework needs about half of it."""

WIDTH, LAYERS = 4096, 29

COMPRESS = f"""
import json, resource, sys
from pathlib import Path
resource.setrlimit(resource.RLIMIT_DATA, ({LIMIT}, {LIMIT}))
from nncf_core.pipeline import run
section = {{"algorithm": "weight_compression", "mode": "int8_sym"}}
report = run({{"compression": section}}, Path(sys.argv[1]), output=Path(sys.argv[2])).report
print(json.dumps(report.to_json()))
"""


def weight(index: int) -> np.ndarray:
    rows = np.random.default_rng(index).standard_normal((64, WIDTH), dtype=np.float32).astype(np.float16)
    return np.tile(rows, (WIDTH // 64, 1))


def onnx_model(folder: Path) -> Path:
    import onnx
    from onnx import helper

    with (folder / "model.onnx.data").open("wb") as file:
        for index in range(LAYERS):
            file.write(weight(index).data)
    initializers = []
    for index in range(LAYERS):
        tensor = onnx.TensorProto(
            name=f"w{index}", dims=[WIDTH, WIDTH], data_type=onnx.TensorProto.FLOAT16, data_location=1
        )
        places = {"location": "model.onnx.data", "offset": index * WIDTH * WIDTH * 2, "length": WIDTH * WIDTH * 2}
        for key, value in places.items():
            tensor.external_data.add(key=key, value=str(value))
        initializers.append(tensor)
    nodes = [helper.make_node("MatMul", [f"h{i}", f"w{i}"], [f"h{i + 1}"], name=f"layer{i}") for i in range(LAYERS)]
    ends = [
        [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT16, ["n", WIDTH])] for name in ("h0", f"h{LAYERS}")
    ]
    graph = helper.make_graph(nodes, "layers", *ends, initializers)
    path = folder / "model.onnx"
    path.write_bytes(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10).SerializeToString()
    )
    return path


def openvino_model(folder: Path) -> Path:
    import openvino
    from openvino import opset13

    parameter = value = opset13.parameter([-1, WIDTH], np.float16, name="x")
    for index in range(LAYERS):
        value = opset13.matmul(value, opset13.constant(weight(index), name=f"w{index}"), False, False)
    path = folder / "model.xml"
    openvino.serialize(openvino.Model([value], [parameter], "layers"), path)
    return path


MODELS = {"onnx": (onnx_model, "model.onnx.data"), "openvino": (openvino_model, "model.bin")}


@pytest.fixture(params=[pytest.param(name, marks=pytest.mark.needs(name, f"nncf_{name}")) for name in MODELS])
def model(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    make, data = MODELS[request.param]
    source = make(tmp_path)
    assert (tmp_path / data).stat().st_size >= 3 * LIMIT
    yield source, tmp_path / data
    for path in tmp_path.iterdir():
        path.unlink()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits private memory alone")
def test_a_model_larger_than_memory(model: tuple[Path, Path], tmp_path: Path) -> None:
    source, data = model
    output = tmp_path / f"small{source.suffix}"
    done = subprocess.run(
        [sys.executable, "-c", COMPRESS, source, output], capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 0, done.stderr[-2000:]
    report = json.loads(done.stdout.splitlines()[-1])
    # the last layer gets 8 bits as well
    assert report["bits_per_weight"] == pytest.approx(8, abs=0.1)
    written = tmp_path / data.name.replace("model", "small")
    # what was written does not fit into memory either
    assert LIMIT < written.stat().st_size < 0.52 * data.stat().st_size
    codes = np.fromfile(written, np.int8, WIDTH, offset=0)
    assert len(np.unique(codes)) > 100
