"""Models as files, and what becomes of them."""

from pathlib import Path

import onnx
import pytest

from nncf_core.errors import NNCFError
from nncf_core.graph import Graph
from nncf_core.pipeline import run as run_pipeline
from nncf_onnx.builder import OnnxGraphBuilder

BUILDER = OnnxGraphBuilder()
INT8 = {"compression": {"algorithm": "weight_compression"}}


def graph_of(proto: onnx.ModelProto | Path) -> Graph:
    return BUILDER.build(BUILDER.open(proto, {}))


def saved(proto: onnx.ModelProto, folder: Path, external: bool = False) -> Path:
    path = folder / "model.onnx"
    onnx.save(proto, path, save_as_external_data=external, location="weights.bin", size_threshold=0)
    return path


def broken(proto: onnx.ModelProto, tmp_path: Path, **compress: object) -> str:
    """The message of the one error that a broken model gives; nothing is written."""
    path = tmp_path / "broken.onnx"
    path.write_bytes(proto.SerializeToString())
    files = set(tmp_path.iterdir())
    with pytest.raises(NNCFError) as caught:
        run_pipeline({"compression": {"algorithm": "weight_compression", **compress}}, path, output=tmp_path / "o.onnx")
    assert set(tmp_path.iterdir()) == files
    return str(caught.value)
