"""What users are told of datasets that cannot be used: what is wrong, where, and what to do."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nncf_core import errors
from nncf_core.controlling import Validation
from nncf_core.dataset import Dataset, check_dataset
from nncf_core.dataset_files import ModelInput, read_dataset
from nncf_core.pipeline import collect_statistics, run
from nncf_core.text_data import generate_text_data
from nncf_core.user_functions import source_file, user_object
from tests.cli.models import onnx_model, rows, weights

PORT = ModelInput("x", "float32", (None, 3, 4, 4))
TOKENS = ModelInput("input_ids", "int64", (None, None))


def made(folder: Path, name: str, content: Any) -> Path:
    """A file of some content, or a folder of files."""
    path = folder / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif isinstance(content, str):
        path.write_text(content)
    elif isinstance(content, dict):
        path.mkdir()
        for inner, each in content.items():
            made(path, inner, each)
    elif content is not None:
        content(path)
    return path


def array(value: Any) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        with path.open("wb") as file:
            np.save(file, value)

    return write


def arrays(**values: Any) -> Callable[[Path], None]:
    return lambda path: np.savez(path, **values)


FILES = {
    "no such file": ("none.npz", None, {}, errors.InvalidPathError, ["dataset file {path}", "correct its name"]),
    "no such text": ("none.txt", None, {"tokenizer": "{words}"}, errors.InvalidPathError, ["file {path}", "correct"]),
    "no such name": ("none", None, {}, errors.InvalidPathError, ["no dataset {path}", "module:function"]),
    "an unknown kind": ("a.csv", "1,2", {}, errors.UnsupportedDatasetError, ["{path}", "give an .npy, .npz"]),
    "no arrays": ("a.npz", arrays(), {}, errors.UnsupportedDatasetError, ["{path} holds no arrays", "numpy.savez("]),
    "no archive": ("a.npz", b"text", {}, errors.UnsupportedDatasetError, ["{path} is not an .npz", "numpy.savez"]),
    "cut off": ("a.npz", b"PK\x03\x04", {}, errors.UnsupportedDatasetError, ["{path} is not an .npz", "numpy.savez"]),
    "no array": ("a.npy", b"\x93NUMPY", {}, errors.UnsupportedDatasetError, ["{path} is not an .npy", "numpy.save."]),
    "without a name": ("a.npz", array(rows(2)), {}, errors.UnsupportedDatasetError, ["{path}", "numpy.savez(path,"]),
    "a number": ("a.npy", array(np.float32(1)), {}, errors.UnsupportedDatasetError, ["{path}", "numpy.save(path,"]),
    "uneven": (
        "a.npz", arrays(x=rows(2), y=rows(3)), {}, errors.UnsupportedDatasetError,
        ["arrays of {path}", "'x': 2, 'y': 3", "one entry for each sample"],
    ),
    "an unknown option": (
        "a.npz", arrays(x=rows(2)), {"scale": "1"}, errors.ValidationError, ["option scale", "it takes none"],
    ),
    "no pictures": (
        "a", {"b.md": "text"}, {}, errors.UnsupportedDatasetError,
        ["folder {path}", ".png", "give another"],
    ),
    "a broken picture": (
        "a", {"b.png": b"text"}, {}, errors.UnsupportedDatasetError, ["{path}/b.png is not an image", "leave it out"],
    ),
    "grey": ("a", {"b.png": b""}, {"mean": "grey"}, errors.ValidationError, ["option mean is 'grey'", "0.5,0.5,0.5"]),
    "no tokenizer": ("a.txt", "text", {}, errors.ValidationError, ["needs a tokenizer", "tokenizer.json"]),
    "no such tokenizer": (
        "a.txt", "text", {"tokenizer": "none.json"}, errors.InvalidPathError, ["tokenizer file none.json", "option"],
    ),
    "no tokenizer's file": (
        "a.txt", "text", {"tokenizer": "{path}"}, errors.UnsupportedDatasetError,
        ["{path} is not a tokenizer.json", "Give"],
    ),
    "length": (
        "a.txt", "text", {"tokenizer": "{words}", "length": "0"}, errors.ValidationError,
        ["length is '0'", "at least 1"],
    ),
    "no number": (
        "a.txt", "text", {"tokenizer": "{words}", "length": "all"}, errors.ValidationError,
        ["length is 'all'", "give a"],
    ),
    "other letters": (
        "a.txt", b"\xff\xfe", {"tokenizer": "{words}"}, errors.UnsupportedDatasetError,
        ["{path} is not text in UTF-8", "Convert"],
    ),
    "too short": (
        "a.txt", "w1 w2", {"tokenizer": "{words}"}, errors.UnsupportedDatasetError,
        ["{path} holds 2 tokens", "more text"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_files(name: str, tmp_path: Path) -> None:
    pytest.importorskip("PIL")
    tokenizers = pytest.importorskip("tokenizers")
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel({f"w{i}": i for i in range(9)}, "w0"))
    words.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    words.save(str(tmp_path / "words.json"))
    file, content, options, kind, parts = FILES[name]
    path = made(tmp_path, file, content)
    known = {"path": path, "words": tmp_path / "words.json"}
    given = {key: value.format(**known) for key, value in options.items()}
    port = TOKENS if file.endswith(".txt") else PORT
    with pytest.raises(kind) as caught:
        list(read_dataset(str(path), lambda: [port], given).get_inference_data())
    for part in parts:
        assert part.format(**known) in str(caught.value)


def test_files_that_need_a_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, content, package, module in (
        ("a.parquet", b"", "pyarrow", "pyarrow.parquet"),
        ("a", {"b.png": b""}, "Pillow", "PIL.Image"),
        ("a.txt", "text", "tokenizers", "tokenizers"),
    ):
        monkeypatch.setitem(sys.modules, module, None)
        path = made(tmp_path, name, content)
        with pytest.raises(errors.InstallationError, match=f"needs {package}: pip install {package}"):
            read_dataset(str(path), lambda: [PORT], {"tokenizer": "t"} if name == "a.txt" else {})


def test_tables(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    with pytest.raises(errors.InvalidPathError, match=r"none\.parquet; correct its name"):
        read_dataset(str(tmp_path / "none.parquet"), lambda: [PORT])
    path = made(tmp_path, "a.parquet", b"PAR1")
    with pytest.raises(errors.UnsupportedDatasetError, match=r"a\.parquet is not a Parquet.*column for each input"):
        read_dataset(str(path), lambda: [PORT])


CODE = """
import numpy as np
number = 3
def fails():
    raise RuntimeError("no disk")
def gives():
    return 3
"""

FUNCTIONS = {
    "nothing": (":f", errors.ValidationError, ["is not of the form module:function", "metrics:accuracy"]),
    "no name": ("errors_data:", errors.ValidationError, ["is not of the form module:function"]),
    "no module": ("no_such:f", errors.InvalidPathError, ["no_such:f", "there is no module 'no_such'", "{folder}"]),
    "no submodule": ("errors_data.b:f", errors.InvalidPathError, ["no module 'errors_data.b'"]),
    "no function": ("errors_data:none", errors.InvalidPathError, ["'errors_data' has no 'none'; correct the name"]),
    "no import": (
        "errors_import:f", errors.InvalidPathError,
        ["'errors_import' cannot be imported", "no_such_package", "Correct"],
    ),
    "a fault": ("errors_fault:f", errors.InvalidPathError, ["it fails with ZeroDivisionError", "Correct"]),
    "a fault of names": ("errors_names:f", errors.InvalidPathError, ["it fails with AttributeError", "Correct"]),
    "syntax": ("errors_syntax:f", errors.InvalidPathError, ["it fails with SyntaxError", "Correct"]),
}  # fmt: skip


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("what", ["The dataset", "--validation"])
def test_functions(name: str, what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same errors wherever a function is named."""
    monkeypatch.chdir(tmp_path)
    for module, code in {
        "errors_data": CODE,
        "errors_import": "import no_such_package",
        "errors_fault": "1 / 0",
        "errors_names": "import json\njson.f",
        "errors_syntax": "def",
    }.items():
        (tmp_path / f"{module}.py").write_text(code)
    source, kind, parts = FUNCTIONS[name]
    before = list(sys.path)
    with pytest.raises(kind) as caught:
        user_object(source, what)
    assert sys.path == before
    for part in [what, *parts]:
        assert part.format(folder=tmp_path) in str(caught.value)


def test_datasets_of_functions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "errors_sets.py").write_text(CODE)
    for name, message in {
        "fails": r"RuntimeError\('no disk'\); correct it",
        "gives": "gave a int, not an iterable.*let it",
    }.items():
        with pytest.raises(errors.UnsupportedDatasetError, match=f"errors_sets:{name}.*{message}"):
            read_dataset(f"errors_sets:{name}", lambda: [PORT])
    for name in ("gives", "number"):
        assert (
            source_file(user_object(f"errors_sets:{name}", "it"), f"errors_sets:{name}") == tmp_path / "errors_sets.py"
        )
    assert source_file(len, "math:len") is None


# runs

QUANTIZED = {"compression": {"algorithm": "post_training_quantization"}}
REFINED = {
    "compression": [{"algorithm": "weight_compression", "mode": "int4_sym", "group_size": 32}, {"algorithm": "gptq"}]
}
X = rows(4)

ITEMS = {
    "none": ([], errors.UnsupportedDatasetError, ["The dataset has no items", "at least one"]),
    "null": ([{"x": X[:1]}, None], errors.UnsupportedDatasetError, ["Item 1 of the dataset is None", "inputs are"]),
    "names": ([{"y": X[:1]}], errors.UnsupportedDatasetError, ["Item 0 of the dataset", "'y'", "x"]),
    "shape": (
        [{"x": X[:1]}, {"x": X[:1, :7]}], errors.UnsupportedDatasetError,
        ["Item 1 of the dataset", "takes float32 [n, 64], and is given float32 [1, 7]"],
    ),
    "empty": ([{"x": X[:0]}], errors.UnsupportedDatasetError, ["Item 0 of the dataset holds no sample", "Leave out"]),
    "NaN": (
        [{"x": X[:1] * np.nan}], errors.ValidationError,
        ["Item 0 of the dataset holds NaN in the input 'x'", "correct it"],
    ),
    "infinity": (
        [{"x": X[:1]}, {"x": X[:1] * np.inf}], errors.NotFiniteError,
        ["Item 1 of the dataset holds infinite numbers in the input 'x'", "correct it"],
    ),
    "infinity without name": ([X[:1], (X[:1] * np.inf,)], errors.NotFiniteError, ["Item 1", "in the input 'x'"]),
    "too large": ([np.full_like(X[:1], 3e38)], errors.NotFiniteError, ["holds NaN or infinite values", "look at"]),
    "text": ([{"x": "text"}], errors.UnsupportedDatasetError, ["Item 0 of the dataset"]),
}  # fmt: skip


@pytest.mark.needs("onnx", "nncf_onnx", "nncf_post_training_quantization")
@pytest.mark.parametrize("config", [QUANTIZED, REFINED], ids=["whole", "part by part"])
@pytest.mark.parametrize("name", ITEMS)
def test_items(name: str, config: dict[str, Any], tmp_path: Path) -> None:
    if config is REFINED:
        pytest.importorskip("nncf_weight_refinement")
    items, kind, parts = ITEMS[name]
    with pytest.raises(kind) as caught:
        run(config, onnx_model(tmp_path / "model.onnx"), dataset=Dataset(items))
    for part in parts:
        assert part in str(caught.value)


@pytest.mark.needs("onnx", "nncf_onnx", "nncf_post_training_quantization")
@pytest.mark.parametrize("value", [np.nan, -np.inf])
def test_the_data_are_not_blamed_for_a_weight(value: float, tmp_path: Path) -> None:
    numbers = weights()
    numbers[0][3, 5] = value
    with pytest.raises(errors.ValidationError, match=r"^Tensor 'w0' has the value .* at \[3, 5\].*Repair the model"):
        run(QUANTIZED, onnx_model(tmp_path / "model.onnx", numbers), dataset=Dataset([{"x": X[:1]}]))


@pytest.mark.needs("onnx", "nncf_onnx", "nncf_post_training_quantization")
def test_what_asks_for_no_statistics(tmp_path: Path) -> None:
    model, data = onnx_model(tmp_path / "model.onnx"), Dataset([{"x": X[:1]}])
    config = {"compression": {"algorithm": "weight_compression"}}
    with pytest.raises(errors.ValidationError, match=r"No algorithm of the config asks for no statistics.*give the"):
        collect_statistics(config, model, data)
    with pytest.raises(errors.ValidationError, match="no section for the algorithm 'gptq'; add one"):
        collect_statistics(config, model, data, algorithm="gptq")


def test_other_things_than_datasets() -> None:
    with pytest.raises(errors.UnsupportedDatasetError, match=r"The dataset is a list; wrap the data: nncf\.Dataset"):
        check_dataset([1])
    with pytest.raises(errors.UnsupportedDatasetError, match=r"validation dataset is a list; wrap the data: nncf\.Dat"):
        Validation(print, [1])  # type: ignore[arg-type]
    with pytest.raises(errors.ValidationError, match="validation_fn is 3; it must be a function of a model and items"):
        Validation(3, Dataset([1]))  # type: ignore[arg-type]


@pytest.mark.needs("nncf_accuracy_control", "nncf_onnx")
def test_metrics(tmp_path: Path) -> None:
    model, config = onnx_model(tmp_path / "model.onnx"), json.loads(json.dumps(QUANTIZED))
    config["compression"] = [config["compression"], {"algorithm": "accuracy_control"}]
    data = Dataset([{"x": X[:1]}])
    with pytest.raises(errors.ValidationError, match=r"'accuracy_control' needs a metric: pass validation=Validation"):
        run(config, model, dataset=data)
    with pytest.raises(
        errors.UnsupportedDatasetError, match="validation dataset has no items; the metric needs at least"
    ):
        run(config, model, dataset=data, validation=Validation(lambda *_: 1.0, Dataset(iter(()))))


def test_text_data() -> None:
    class Model:
        generate = print

    with pytest.raises(errors.UnsupportedModelError, match=r"A int writes no text: give a model of the transformers"):
        generate_text_data(3, None)
    for arguments, name in (({"seq_len": 0}, "seq_len is 0"), ({"dataset_size": "a"}, "dataset_size is 'a'")):
        with pytest.raises(errors.ValidationError, match=f"{name}; it must be an integer of at least 1"):
            generate_text_data(Model(), None, **arguments)


@pytest.mark.needs("onnx", "nncf_onnx")
def test_comparisons(tmp_path: Path) -> None:
    import onnx

    from nncf_core.comparison import compare

    model = onnx_model(tmp_path / "model.onnx")
    with pytest.raises(errors.UnsupportedDatasetError, match="has no items; comparing needs at least one"):
        compare(model, model, [])
    with pytest.raises(
        errors.UnsupportedDatasetError, match=r"Item 0 of the dataset does not fit .*model\.onnx: .*Give items that fit"
    ):
        compare(model, model, [{"x": X[:1, :7]}])
    other = onnx.load(onnx_model(tmp_path / "other.onnx", weights()))
    other.graph.output.append(onnx.helper.make_tensor_value_info("z1", onnx.TensorProto.FLOAT, ["n", 64]))
    onnx.save(other, tmp_path / "more.onnx")
    with pytest.raises(
        errors.ValidationError, match=r"more\.onnx has 2 outputs, .*other\.onnx has 1; only models with"
    ):
        compare(tmp_path / "more.onnx", tmp_path / "other.onnx", [{"x": X[:1]}])
    other.graph.input[0].type.tensor_type.ClearField("shape")
    onnx.save(other, tmp_path / "free.onnx")
    with pytest.raises(errors.UnsupportedDatasetError, match=r"Nothing is known of the shape.*give a dataset"):
        compare(tmp_path / "free.onnx", tmp_path / "more.onnx")


@pytest.mark.needs("onnx", "nncf_onnx", "nncf_weight_refinement")
def test_items_are_counted_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a dataset is read in pieces, an item has its number in the whole."""
    monkeypatch.setattr("nncf_core.calibration._CHUNK", 2)
    items = [{"x": X[:1]}] * 3 + [None]
    with pytest.raises(errors.UnsupportedDatasetError, match=r"^Item 3 of the dataset is None"):
        run(REFINED, onnx_model(tmp_path / "model.onnx"), dataset=Dataset(items))


@pytest.mark.needs("nncf_accuracy_control", "nncf_onnx")
def test_a_folder_for_models_on_the_way(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    control = {
        "algorithm": "accuracy_control",
        "advanced_parameters": {"intermediate_model_dir": str(tmp_path / "file/a")},
    }
    config, data = {"compression": [QUANTIZED["compression"], control]}, Dataset([{"x": X[:1]}])
    with pytest.raises(errors.InvalidPathError, match=r"Cannot write .*/file/a/.*onnx: .*Give a place"):
        run(config, onnx_model(tmp_path / "m.onnx"), dataset=data, validation=Validation(lambda *_: 1.0, data))
