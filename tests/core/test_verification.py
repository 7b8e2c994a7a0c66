"""What is found out about a model that was written."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nncf_core.dataset import Dataset
from nncf_core.graph import Graph
from nncf_core.made_inputs import made_inputs
from nncf_core.observing import Observation
from nncf_core.pipeline import run
from nncf_core.registry import registry
from nncf_core.testing import registered
from nncf_core.transformations import InsertMultiply, PointKind, ReplaceConstant, TargetPoint, Transformation
from nncf_core.verification import Certificate, verify
from tests.cli.models import MAKERS, onnx_model, openvino_model, rows, torch_model, weights
from tests.core.pipeline_doubles import Scale, module

FRAMEWORKS = [pytest.param(name, marks=pytest.mark.needs(name, f"nncf_{name}")) for name in MAKERS]
WEIGHTS = {"algorithm": "weight_compression", "mode": "int4_asym", "group_size": 32}
QUANTIZED = {"algorithm": "post_training_quantization"}


def compressed(
    source: Path, section: dict[str, Any], options: dict[str, Any] | None = None
) -> tuple[Path, Observation]:
    """A compressed model, and notes of the run."""
    notes, output = Observation(measures=False, verifies=True), source.with_name(f"small{source.suffix}")
    data = data_of() if section is QUANTIZED else None
    config = {"compression": section, "backend_params": options or {}}
    run(config, source, dataset=data, output=output, observation=notes)
    return output, notes


def data_of() -> Dataset[Any, Any]:
    return Dataset([row[None] for row in rows()])


def results(certificate: Certificate) -> dict[str, bool | None]:
    return {check.name: check.passed for check in certificate.checks}


def edited(path: Path, change: Callable[[Any], None]) -> None:
    """Change an ONNX file."""
    import onnx

    model = onnx.load(path)
    change(model.graph)
    onnx.save(model, path)


def with_initializer(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Any], None]:
    def edit(graph: Any) -> None:
        from onnx import numpy_helper

        found = next(each for each in graph.initializer if each.name == name)
        found.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(found)), name))

    return edit


def unchecked(notes: Observation) -> None:
    """Let other checks find what is wrong with constants."""
    notes.demands.open = set(notes.demands.constants)
    notes.demands.constants.clear()


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("given", [None, data_of()], ids=["random", "dataset"])
def test_compressed_weights(framework: str, given: Dataset[Any, Any] | None, tmp_path: Path) -> None:
    make, suffix = MAKERS[framework]
    source = make(tmp_path / f"model{suffix}")
    output, notes = compressed(source, WEIGHTS)
    certificate = verify(source, output, notes, given)
    assert results(certificate) == {"stored": True, "run": True, "layers": True}
    assert certificate.snr is None if given is None else 10 < certificate.snr < 30
    assert "3 layers" in str(certificate)


@pytest.mark.needs("nncf_post_training_quantization")
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_quantized_activations(framework: str, tmp_path: Path) -> None:
    make, suffix = MAKERS[framework]
    source = make(tmp_path / f"model{suffix}")
    output, notes = compressed(source, QUANTIZED)
    certificate = verify(source, output, notes, data_of())
    assert results(certificate) == dict.fromkeys(("stored", "run", "quantizers", "layers"), True)
    assert "3 quantizers give" in str(certificate)


@pytest.mark.needs("torch", "nncf_torch", "nncf_post_training_quantization")
@pytest.mark.parametrize("section", [WEIGHTS, QUANTIZED], ids=["weights", "quantized"])
def test_numbers_of_16_bits(section: dict[str, Any], tmp_path: Path) -> None:
    source = torch_model(tmp_path / "model.pt2", "float16")
    half = Dataset([row[None].astype(np.float16) for row in rows()])
    notes, output = Observation(measures=False, verifies=True), tmp_path / "small.pt2"
    run({"compression": section}, source, dataset=half, output=output, observation=notes)
    certificate = verify(source, output, notes, half)
    names = ("stored", "run", "layers") if section is WEIGHTS else ("stored", "run", "quantizers", "layers")
    assert results(certificate) == dict.fromkeys(names, True)


@pytest.mark.needs("openvino", "nncf_openvino", "nncf_post_training_quantization")
def test_ranges_of_16_bits(tmp_path: Path) -> None:
    """Where ranges are rounded to float16, some elements lie at the next level."""
    source = openvino_model(tmp_path / "model.xml", np.float16)
    half = Dataset([row[None].astype(np.float16) for row in rows()])
    notes, output = Observation(measures=False, verifies=True), tmp_path / "small.xml"
    run({"compression": QUANTIZED}, source, dataset=half, output=output, observation=notes)
    assert results(verify(source, output, notes, half)) == dict.fromkeys(
        ("stored", "run", "quantizers", "layers"), True
    )


class Factor(Scale):
    """Multiplies what the first layer is given, and divides its weight."""

    def transformations(
        self, graph: Graph, statistics: Any, params: Any, context: Any, round_index: int
    ) -> Iterator[Transformation]:
        node = next(node for node in graph if node.weights)
        (_, port), inputs = next(iter(node.weights)), [port.constant for port in node.inputs]
        assert port.constant is not None
        assert port.layout is not None
        weight = graph.constants[port.constant].read()
        (axis,) = port.layout.reduction_axes
        factor = np.logspace(-0.2, 0.2, weight.shape[axis], dtype=np.float32)
        yield InsertMultiply(TargetPoint(node.name, PointKind.INPUT, inputs.index(None)), factor)
        shape = [-1 if index == axis else 1 for index in range(weight.ndim)]
        yield ReplaceConstant(port.constant, weight / factor.reshape(shape))


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_factor_that_was_not_written(framework: str, tmp_path: Path) -> None:
    """A weight that makes up for a factor that is not there costs little enough for outputs to pass."""
    make, suffix = MAKERS[framework]
    source, notes = make(tmp_path / f"model{suffix}"), Observation(measures=False, verifies=True)
    with registered(module(nncf_algorithms=[Factor("factor")]), "mine"):
        output = tmp_path / f"small{suffix}"
        run({"compression": {"algorithm": "factor"}}, source, output=output, observation=notes)
    certificate = verify(source, output, notes, data_of())
    assert results(certificate) == {"stored": True, "run": True, "layers": None}
    assert "2 constants hold their new numbers" in certificate.checks[0].text
    assert certificate.snr is not None
    assert certificate.snr > 100

    backend, lacking = registry().backend_for(source), source.with_name(f"lacking{suffix}")
    model = backend.builder.open(source, {})
    graph = backend.builder.build(model)
    (name,) = notes.demands.constants
    weight = registry().backend_for(output).builder.build(backend.builder.open(output, {})).constants[name].read()
    backend.builder.save(backend.inserter.apply(model, graph, [ReplaceConstant(name, weight)], {}), lacking)
    certificate = verify(source, lacking, notes, data_of())
    assert certificate.snr is not None
    assert certificate.snr > 0
    assert results(certificate)["stored"] is False
    (fault,) = certificate.faults
    assert fault.startswith("the factor at ")
    assert "was not written" in fault


@pytest.mark.needs("nncf_onnx")
@pytest.mark.parametrize("form", ["matmul_nbits", "dequantize_linear"])
def test_forms_of_one_backend(form: str, tmp_path: Path) -> None:
    source = onnx_model(tmp_path / "model.onnx")
    output, notes = compressed(source, WEIGHTS, {"weight_format": form})
    assert results(verify(source, output, notes))["layers"]


@pytest.mark.needs("nncf_onnx")
def test_codes_that_were_stored_wrongly(tmp_path: Path) -> None:
    source = onnx_model(tmp_path / "model.onnx")
    output, notes = compressed(source, WEIGHTS)
    edited(output, with_initializer("w1_scale", lambda scale: scale * np.float32(1.05)))
    certificate = verify(source, output, notes)
    assert not certificate.passed
    assert certificate.faults == ("the constant 'w1' was written with other scales, not as it was compressed",)


@pytest.mark.needs("nncf_onnx", "nncf_post_training_quantization")
def test_a_quantizer_that_is_off(tmp_path: Path) -> None:
    source = onnx_model(tmp_path / "model.onnx")
    output, notes = compressed(source, QUANTIZED)
    edited(output, with_initializer("relu0/output_0_scale", lambda scale: scale * np.float32(0.9)))
    certificate = verify(source, output, notes, data_of())
    assert results(certificate)["quantizers"] is False
    assert "the quantizer at relu0:output:0 gives" in certificate.faults[0]


@pytest.mark.needs("nncf_onnx")
def test_the_first_layer_that_is_off_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A runtime that takes every code of two layers for a bit more than it is."""
    from nncf_onnx.running import Session

    source = onnx_model(tmp_path / "model.onnx")
    output, notes = compressed(source, WEIGHTS)
    plain = Session.run

    def wrong(self: Session, feed: Any) -> dict[str, np.ndarray]:
        found, whole = plain(self, feed), "x" in feed
        off = [name for name in found if whole and name in ("layer1:output:0", "layer2:output:0")]
        return {name: array * np.float32(1.001) if name in off else array for name, array in found.items()}

    monkeypatch.setattr(Session, "run", wrong)
    (fault,) = verify(source, output, notes).faults
    assert "the layer 'layer1' gives other numbers" in fault


@pytest.mark.needs("nncf_onnx")
@pytest.mark.parametrize(
    ("scale", "message"), [(np.nan, "holds NaN or infinite numbers"), (0.0, "is 0 everywhere on random inputs")]
)
def test_outputs_that_are_no_good(scale: float, message: str, tmp_path: Path) -> None:
    source = onnx_model(tmp_path / "model.onnx")
    output, notes = compressed(source, WEIGHTS)
    unchecked(notes)
    edited(output, with_initializer("w2_scale", lambda old: old * np.float32(scale)))
    certificate = verify(source, output, notes)
    assert results(certificate)["run"] is False
    assert message in certificate.faults[0]


@pytest.mark.needs("nncf_onnx")
def test_more_error_than_signal(tmp_path: Path) -> None:
    source = onnx_model(tmp_path / "model.onnx")
    output, notes = compressed(source, WEIGHTS)
    unchecked(notes)
    edited(output, with_initializer("w2_scale", lambda scale: -3 * scale))
    certificate = verify(source, output, notes, data_of())
    assert certificate.passed  # layers are what their codes say
    assert certificate.snr is not None
    assert certificate.snr < 0
    notes.rewrites = 1
    (fault,) = verify(source, output, notes, data_of()).faults
    assert fault.endswith("dB: more error than signal")


@pytest.mark.needs("nncf_onnx", "nncf_magnitude_sparsity")
def test_what_is_taken_away_on_purpose_is_no_fault(tmp_path: Path) -> None:
    source = onnx_model(tmp_path / "model.onnx")
    params = {"sparsity_target": 0.9}
    output, notes = compressed(source, {"algorithm": "magnitude_sparsity", "params": params})
    certificate = verify(source, output, notes, data_of())
    assert certificate.passed
    assert certificate.snr is not None
    assert certificate.snr < 3


@pytest.mark.needs("nncf_onnx")
def test_what_the_runtime_does_not_take(tmp_path: Path) -> None:
    def foreign(graph: Any) -> None:
        graph.node[-1].op_type = "Rectify"

    source = onnx_model(tmp_path / "model.onnx")
    output, notes = compressed(source, WEIGHTS)
    edited(output, foreign)
    certificate = verify(source, output, notes)
    assert results(certificate) == {"stored": True, "run": False}
    assert "ONNX runs the original, but not what was written" in certificate.faults[0]
    # nor does it take the original
    edited(source, foreign)
    assert results(verify(source, output, notes)) == {"stored": True, "run": None}


@pytest.mark.needs("nncf_onnx")
def test_a_file_that_cannot_be_opened(tmp_path: Path) -> None:
    source = onnx_model(tmp_path / "model.onnx")
    output, notes = compressed(source, WEIGHTS)
    output.write_bytes(output.read_bytes()[:1000])
    assert "cannot be opened" in verify(source, output, notes).faults[0]


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_model_that_memory_does_not_hold(framework: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make, suffix = MAKERS[framework]
    source = make(tmp_path / f"model{suffix}")
    output, notes = compressed(source, WEIGHTS)
    monkeypatch.setattr("nncf_core.running.free_memory", lambda: 10_000)
    certificate = verify(source, output, notes)
    assert results(certificate) == {"stored": True, "run": None, "layers": True}
    assert "3 layers give" in str(certificate)
    assert "on random inputs" in str(certificate)
    monkeypatch.setattr("nncf_core.verifying.free_memory", lambda: 10_000)
    certificate = verify(source, output, notes)
    assert results(certificate) == {"stored": True, "run": None, "layers": None}
    assert "3 too large for the memory that is free" in str(certificate)


@pytest.mark.needs("nncf_openvino")
def test_an_original_that_overflows(tmp_path: Path) -> None:
    import openvino as ov
    from openvino import opset13 as ops

    random = np.random.default_rng(0)
    x = y = ops.parameter([1, 32], np.float32)
    for _ in range(3):
        y = ops.matmul(y, ops.constant((random.standard_normal((32, 32)) * 1e15).astype(np.float32)), False, True)
    source = tmp_path / "model.xml"
    ov.save_model(ov.Model([ops.result(y)], [x], "main"), source, compress_to_fp16=False)
    output, notes = compressed(source, WEIGHTS)
    certificate = verify(source, output, notes)
    assert results(certificate) == {"stored": True, "run": True, "layers": True}
    assert "holds NaN or infinite numbers, as that of the original does" in str(certificate)
    assert "2 of 3 layers give" in str(certificate)
    assert "1 with NaN or infinite numbers" in str(certificate)


@pytest.mark.needs("nncf_onnx")
def test_layers_of_a_large_model_are_sampled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = onnx_model(tmp_path / "model.onnx", weights((64,) * 21))
    output, notes = compressed(source, WEIGHTS)
    monkeypatch.setattr("nncf_core.verifying._ALL_WEIGHTS", 4 * 64 * 64 * 7)
    monkeypatch.setattr("nncf_core.verifying._LAYERS", 3)
    assert "7 of 20 layers give" in str(verify(source, output, notes))


def language_model(names: Sequence[tuple[str, int, list[int | str]]]) -> Any:
    """Inputs of a language model; its ids take rows of a table of 7."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    inputs = [helper.make_tensor_value_info(*name) for name in names]
    table = numpy_helper.from_array(np.zeros((7, 4), np.float32), "table")
    nodes = [
        helper.make_node("Identity", ["input_ids"], ["ids"]),
        helper.make_node("Gather", ["table", "ids"], ["rows"], name="embed"),
        *(helper.make_node("Identity", [name], [f"{name}/taken"]) for name, _, _ in names[1:]),
    ]
    output = helper.make_tensor_value_info("rows", TensorProto.FLOAT, ["b", "s", 4])
    graph = helper.make_graph(nodes, "g", inputs, [output], [table])
    return onnx.load_from_string(helper.make_model(graph).SerializeToString())


@pytest.mark.needs("nncf_onnx")
def test_made_inputs_are_within_bounds() -> None:
    from onnx import TensorProto as Types

    model = language_model(
        [
            ("input_ids", Types.INT64, ["b", "s"]),
            ("attention_mask", Types.INT64, ["b", "s"]),
            ("position_ids", Types.INT64, ["b", "s"]),
            ("past_key_values.0.key", Types.FLOAT, ["b", 2, "p", 4]),
            ("pixels", Types.FLOAT, ["b", 3, "h", "w"]),
            ("use_cache", Types.BOOL, [1]),
            ("beam", Types.INT32, ["b"]),
        ]
    )
    builder = registry().backend_for(model).builder
    made = made_inputs(builder.build(builder.open(model, {})))
    assert made is not None
    assert {name: (array.shape, array.dtype.name) for name, array in made.items()} == {
        "input_ids": ((1, 8), "int64"),
        "attention_mask": ((1, 8), "int64"),
        "position_ids": ((1, 8), "int64"),
        "past_key_values.0.key": ((1, 2, 0, 4), "float32"),
        "pixels": ((1, 3, 64, 64), "float32"),
        "use_cache": ((1,), "bool"),
        "beam": ((1,), "int32"),
    }
    assert made["input_ids"].max() < 7
    assert len(np.unique(made["input_ids"])) > 2
    assert made["attention_mask"].all()
    assert made["use_cache"].all()
    assert made["position_ids"].tolist() == [list(range(8))]
    assert made["beam"].tolist() == [0]
