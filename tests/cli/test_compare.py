"""Models side by side."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from nncf_core.cli import main
from nncf_core.comparison import compare
from nncf_core.errors import VerificationError
from tests.cli.models import MAKERS, onnx_model, openvino_model, rows, weights

FRAMEWORKS = [pytest.param(name, marks=pytest.mark.needs(name, f"nncf_{name}")) for name in MAKERS]


def nncf(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments])


def outputs(arrays: list[np.ndarray], x: np.ndarray) -> np.ndarray:
    for array in arrays:
        x = np.maximum(x @ array, 0)
    return x


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path, list[np.ndarray]]:
    """Two ONNX models, the second with other weights."""
    generator = np.random.default_rng(5)
    others = [w + generator.normal(size=w.shape).astype(np.float32) / 100 for w in weights()]
    return onnx_model(tmp_path / "a.onnx"), onnx_model(tmp_path / "b.onnx", others), others


def test_errors_are_those_of_numpy(pair: tuple[Path, Path, list[np.ndarray]]) -> None:
    first, second, others = pair
    items = [{"x": row[None]} for row in rows(6)]
    found = compare(first, second, items, runs=0)
    a, b = outputs(weights(), rows(6)).astype(np.float64), outputs(others, rows(6)).astype(np.float64)
    (error,) = found.outputs
    assert error.name == "z2"
    assert error.snr == pytest.approx(10 * math.log10((a**2).sum() / ((a - b) ** 2).sum()), abs=1e-3)
    assert error.cosine == pytest.approx((a * b).sum() / np.linalg.norm(a) / np.linalg.norm(b), abs=1e-6)
    assert error.largest == pytest.approx(np.abs(a - b).max(), rel=1e-4)
    assert error.agreement == pytest.approx((a.argmax(1) == b.argmax(1)).mean())
    assert found.bytes == (first.stat().st_size, second.stat().st_size)
    assert (found.items, found.milliseconds) == (6, None)


def test_times_are_medians_of_turns(pair: tuple[Path, Path, list[np.ndarray]]) -> None:
    # each run asks twice: the first model takes 1, 1, 7 ms, the second 2, 9, 2 ms
    taken = iter(np.cumsum([0, 1, 0, 2, 0, 1, 0, 9, 0, 7, 0, 2]) / 1000)
    found = compare(*pair[:2], runs=3, clock=lambda: next(taken))
    assert found.milliseconds == pytest.approx((1, 2))


def test_the_table(pair: tuple[Path, Path, list[np.ndarray]], tmp_path: Path) -> None:
    np.savez(tmp_path / "data.npz", x=rows())
    result = nncf("compare", *pair[:2], "--dataset", tmp_path / "data.npz", "--runs", 3, "-q")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["a.onnx", "b.onnx", "ratio"]
    assert lines[1].split()[0] == "size"
    assert lines[2].split()[::2][:2] == ["time", "ms"]
    assert lines[5].split()[0] == "z2"
    data = json.loads(nncf("compare", pair[0], pair[0], "--runs", 0, "--json", "-q").stdout)
    assert data["outputs"] == [{"name": "z2", "snr": None, "cosine": 1.0, "largest": 0.0, "agreement": 1.0}]
    assert data["milliseconds"] is None


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_model_and_what_it_was_compressed_to(framework: str, tmp_path: Path) -> None:
    make, suffix = MAKERS[framework]
    model, small = make(tmp_path / f"model{suffix}"), tmp_path / f"small{suffix}"
    assert nncf("compress-weights", model, "-o", small).exit_code == 0
    np.save(tmp_path / "data.npy", rows())
    result = nncf("compare", model, small, "--dataset", tmp_path / "data.npy", "--json", "-q")
    assert result.exit_code == 0, result.output
    data = json.loads(result.stdout)
    assert data["items"] == 8
    # runtimes may round activations to 8 bits, too
    assert 25 < data["outputs"][0]["snr"] < 60
    assert data["bytes"][0] > 1.3 * data["bytes"][1]
    assert min(data["milliseconds"]) > 0


@pytest.mark.needs("openvino", "nncf_openvino")
def test_models_of_two_frameworks(tmp_path: Path) -> None:
    first, second = onnx_model(tmp_path / "a.onnx"), openvino_model(tmp_path / "b.xml")
    (error,) = compare(first, second, [row[None] for row in rows(3)], runs=1).outputs
    assert error.snr > 40


@pytest.mark.needs("openvino", "nncf_openvino")
def test_an_input_is_fed_by_the_name_of_its_tensor(tmp_path: Path) -> None:
    import openvino
    from openvino import opset13

    inputs = opset13.parameter([-1, 64], np.float32, name="Parameter_1")
    inputs.output(0).set_names({"x"})
    value = inputs
    for weight in weights():
        value = opset13.relu(opset13.matmul(value, opset13.constant(weight), False, False))
    openvino.save_model(openvino.Model([value], [inputs], "g"), tmp_path / "b.xml")
    (error,) = compare(onnx_model(tmp_path / "a.onnx"), tmp_path / "b.xml", runs=0).outputs
    assert error.snr > 40
    assert nncf("compress-weights", tmp_path / "b.xml", "-o", tmp_path / "c.xml").exit_code == 0


def test_what_cannot_be_compared(tmp_path: Path) -> None:
    model, narrow = onnx_model(tmp_path / "a.onnx"), onnx_model(tmp_path / "b.onnx", weights((64, 96, 64, 8)))
    result = nncf("compare", model, narrow, "-q")
    assert result.exit_code == 2
    assert "The output 'z2' has the shape (1, 16) in" in result.stderr
    np.savez(tmp_path / "data.npz", x=np.ones((2, 7), np.float32))
    result = nncf("compare", model, model, "--dataset", tmp_path / "data.npz", "-q")
    assert result.exit_code == 2
    assert f"Item 0 of the dataset does not fit {model}: the input 'x' takes float32 [?, 64]" in result.stderr
    assert nncf("compare", model, tmp_path / "none.onnx").exit_code == 2


def test_a_model_that_does_not_run_is_named(tmp_path: Path) -> None:
    import onnx

    model = onnx_model(tmp_path / "a.onnx")
    unknown = onnx.load(model)
    unknown.graph.node[0].op_type, unknown.graph.node[0].domain = "NoSuchOperator", "my"
    unknown.opset_import.append(onnx.helper.make_opsetid("my", 1))
    onnx.save(unknown, tmp_path / "unknown.onnx")
    for pair in ((model, tmp_path / "unknown.onnx"), (tmp_path / "unknown.onnx", model)):
        result = nncf("compare", *pair)
        assert result.exit_code == 2
        assert f"{tmp_path / 'unknown.onnx'} cannot be compared: onnxruntime does not run the model" in result.stderr


@pytest.mark.needs("torch", "nncf_torch")
def test_other_names_of_inputs(tmp_path: Path) -> None:
    make, _ = MAKERS["torch"]
    result = nncf("compare", onnx_model(tmp_path / "a.onnx"), make(tmp_path / "b.pt2"))
    assert result.exit_code == 2
    assert "a.onnx takes x, " in result.stderr
    assert "b.pt2 takes input." in result.stderr


def test_data_that_hold_nan(tmp_path: Path) -> None:
    model, data = onnx_model(tmp_path / "a.onnx"), rows(3)
    data[1, 5] = np.nan
    np.savez(tmp_path / "data.npz", x=data)
    result = nncf("compare", model, model, "--dataset", tmp_path / "data.npz", "-q")
    assert result.exit_code == 2
    assert "Item 1 of the dataset holds NaN in 1 of 64 numbers of the input 'x'; correct the data" in result.stderr


@pytest.mark.parametrize("first", [True, False])
def test_outputs_that_hold_nan(first: bool, tmp_path: Path) -> None:
    arrays = weights()
    arrays[1][3, 4] = np.nan
    model, broken = onnx_model(tmp_path / "a.onnx"), onnx_model(tmp_path / "b.onnx", arrays)
    result = nncf("compare", *((broken, model) if first else (model, broken)), "--json", "-q")
    assert result.exit_code == 1
    assert f"{broken} gives NaN in" in result.stderr
    assert "numbers of the output 'z2' for item 0, so that the models cannot be compared" in result.stderr
    assert not result.stdout


def test_infinite_outputs(tmp_path: Path) -> None:
    arrays = weights()
    arrays[2][:, 3] = 3e38
    model, infinite = onnx_model(tmp_path / "a.onnx"), onnx_model(tmp_path / "b.onnx", arrays)
    items = [{"x": np.ones((1, 64), np.float32)}]
    with pytest.raises(VerificationError, match="do not give the same infinite numbers in 1 of 16"):
        compare(model, infinite, items, runs=0)
    # where both do, the rest is compared
    arrays[2][:, 5] *= 2
    (error,) = compare(infinite, onnx_model(tmp_path / "c.onnx", arrays), items, runs=0).outputs
    assert math.isfinite(error.snr)
