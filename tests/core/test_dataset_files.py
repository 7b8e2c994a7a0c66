"""Datasets from files and functions."""

import math
import struct
import zlib
from collections.abc import Callable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nncf_core.dataset import Dataset
from nncf_core.dataset_files import ModelInput, read_dataset
from nncf_core.errors import InvalidPathError, UnsupportedDatasetError, ValidationError

ROWS = np.arange(12, dtype=np.float32).reshape(4, 3)


def none() -> Sequence[ModelInput]:
    raise AssertionError("arrays do not need the model")


def of(*ports: tuple[str, str, tuple[int | None, ...]]) -> Callable[[], Sequence[ModelInput]]:
    return lambda: [ModelInput(*port) for port in ports]


def items(source: object, inputs: Callable[[], Sequence[ModelInput]] = none, **options: str) -> list[Any]:
    return list(read_dataset(str(source), inputs, options).get_inference_data())


def test_an_archive_has_an_array_for_each_input(tmp_path: Path) -> None:
    np.savez(tmp_path / "data.npz", a=ROWS, b=ROWS[:, :1])
    found = items(tmp_path / "data.npz")
    assert len(found) == 4
    np.testing.assert_array_equal(found[2]["a"], ROWS[2:3])
    np.testing.assert_array_equal(found[2]["b"], ROWS[2:3, :1])
    np.savez(tmp_path / "uneven.npz", a=ROWS, b=ROWS[:2])
    with pytest.raises(UnsupportedDatasetError, match="different numbers of samples"):
        items(tmp_path / "uneven.npz")
    np.savez(tmp_path / "number.npz", a=ROWS, b=np.float32(1))
    with pytest.raises(UnsupportedDatasetError, match="without an axis of samples: b"):
        items(tmp_path / "number.npz")


def test_an_array_is_of_the_only_input(tmp_path: Path) -> None:
    np.save(tmp_path / "data.npy", ROWS)
    found = items(tmp_path / "data.npy")
    np.testing.assert_array_equal(np.concatenate(found), ROWS)
    np.save(tmp_path / "number.npy", np.float32(1))
    with pytest.raises(UnsupportedDatasetError, match="no array with samples"):
        items(tmp_path / "number.npy")


def test_pickles_are_not_read(tmp_path: Path) -> None:
    np.save(tmp_path / "data.npy", np.array([{}], object), allow_pickle=True)
    with pytest.raises(UnsupportedDatasetError, match="plain arrays"):
        items(tmp_path / "data.npy")


def test_broken_archives(tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    np.savez_compressed(path, x=np.random.default_rng(0).integers(0, 17, (40, 64)))
    content = path.read_bytes()
    path.write_bytes(content[:100] + bytes(byte ^ 0xFF for byte in content[100:200]) + content[200:])
    with pytest.raises(UnsupportedDatasetError, match=r"data\.npz is not an \.npz file of plain arrays: Error -3"):
        items(path)
    header = np.lib.format.magic(1, 0) + b"\x76\0" + b"{'descr': (".ljust(0x76)
    (tmp_path / "data.npy").write_bytes(header)
    with pytest.raises(UnsupportedDatasetError, match=r"data\.npy is not an \.npy file of plain arrays: "):
        items(tmp_path / "data.npy")


def test_a_table_has_a_column_for_each_input(tmp_path: Path) -> None:
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    table = pyarrow.table({"x": ROWS.tolist(), "length": [1, 2, 3, 4]})
    parquet.write_table(table, tmp_path / "data.parquet")
    found = items(tmp_path / "data.parquet", of(("x", "float32", (None, 3)), ("length", "int64", (None,))))
    assert (found[1]["x"].dtype, found[1]["length"].dtype) == (np.float32, np.int64)
    np.testing.assert_array_equal(found[1]["x"], ROWS[1:2])
    assert found[3]["length"].tolist() == [4]
    (tmp_path / "broken.parquet").write_bytes(b"PAR1")
    with pytest.raises(UnsupportedDatasetError, match="not a Parquet file"):
        items(tmp_path / "broken.parquet", of())


TYPES = {
    "whole": ([1.0, -3.0], "int8"),
    "signs": ([True, False], "int64"),
    "flags": ([0, 1], "bool"),
    "integers": ([1, 300], "float16"),
    "rounded": ([0.1, math.inf], "float32"),
    "decimals": ([Decimal("1.5"), Decimal("2.25")], "float32"),
    "nothing": ([[], []], "int64"),
}


@pytest.mark.parametrize("kind", TYPES)
def test_values_of_tables_that_stay_what_they_are(kind: str, tmp_path: Path) -> None:
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    values, taken = TYPES[kind]
    parquet.write_table(pyarrow.table({"x": values}), tmp_path / "a.parquet")
    found = items(tmp_path / "a.parquet", of(("x", taken, (None,))))
    assert [item["x"].dtype for item in found] == [taken, taken]
    assert [item["x"].tolist() for item in found] == [[each] for each in np.asarray(values, taken).tolist()]


@pytest.mark.parametrize(
    ("values", "wrong", "taken"),
    [
        ([[1.0, 2.0], [3.0, 13.9]], "13.9", "int64"),
        ([[1, 2], [2**64 - 1, 2**64 - 1]], "18446744073709551615", "int64"),
        ([[1, 2], [3, 300]], "300", "uint8"),
        ([[1, 2], [-1, 3]], "-1", "uint64"),
        ([[0, 1], [1, 2]], "2", "bool"),
        ([[1.0, 2.0], [3.0, math.inf]], "inf", "int32"),
        ([[1.0, 2.0], [3.0, math.nan]], "nan", "int32"),
        ([[1.0, 2.0], [3.0, 1e300]], "1e\\+300", "float32"),
        ([[1, 2], [3, 70_000]], "70000", "float16"),
        ([1.0, None], "None", "float32"),
        ([True, None], "None", "bool"),
    ],
)
def test_values_of_tables_that_would_change(values: list[Any], wrong: str, taken: str, tmp_path: Path) -> None:
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    unsigned = pyarrow.list_(pyarrow.uint64()) if "18446744073709551615" in wrong else None
    parquet.write_table(pyarrow.table({"x": pyarrow.array(values, unsigned)}), tmp_path / "a.parquet")
    with pytest.raises(
        UnsupportedDatasetError,
        match=rf"Row 1 of the column 'x' of .*a\.parquet holds {wrong}, which would not stay .* as {taken}, the",
    ):
        items(tmp_path / "a.parquet", of(("x", taken, (None, 2))))


def test_text_in_tables_is_no_number(tmp_path: Path) -> None:
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pyarrow.table({"x": ["12"]}), tmp_path / "a.parquet")
    with pytest.raises(UnsupportedDatasetError, match=r"Row 0 of the column 'x' of .* holds '12', .* as int64"):
        items(tmp_path / "a.parquet", of(("x", "int64", (None,))))
    assert items(tmp_path / "a.parquet", of(("x", "string", (None,))))[0]["x"].tolist() == ["12"]


@pytest.mark.parametrize("first", [True, False])
def test_images_become_what_the_model_takes(tmp_path: Path, first: bool) -> None:
    image = pytest.importorskip("PIL.Image")
    for index, color in enumerate([(255, 0, 0), (0, 51, 0)]):
        image.new("RGB", (10, 6), color).save(tmp_path / f"{index}.png")
    shape = (None, 3, 4, 5) if first else (None, 4, 5, 3)
    found = items(tmp_path, of(("x", "float32", shape)))
    assert [item["x"].shape for item in found] == [tuple(size or 1 for size in shape)] * 2
    pixel = found[1]["x"][0, :, 0, 0] if first else found[1]["x"][0, 0, 0]
    np.testing.assert_allclose(pixel, [0, 0.2, 0], rtol=1e-6)
    changed = items(tmp_path, of(("x", "float32", shape)), mean="0.5,0,0", std="0.25,1,2")
    pixel = changed[0]["x"][0, :, 0, 0] if first else changed[0]["x"][0, 0, 0]
    np.testing.assert_allclose(pixel, [2, 0, 0])
    (raw,) = items(tmp_path, of(("x", "uint8", shape)))[:1]
    assert (raw["x"].dtype, raw["x"].max()) == (np.uint8, 255)


@pytest.mark.parametrize("dtype", ["int8", "bool"])
def test_images_for_inputs_that_do_not_hold_their_pixels(tmp_path: Path, dtype: str) -> None:
    pytest.importorskip("PIL.Image").new("L", (4, 4), 200).save(tmp_path / "a.png")
    with pytest.raises(UnsupportedDatasetError, match=f"0 to 255, which {dtype} does not hold, .* input 'x'. Give"):
        items(tmp_path, of(("x", dtype, (None, 1, 4, 4))))


@pytest.mark.parametrize("dtype", ["<u2", ">u2"])
@pytest.mark.parametrize("channels", [1, 3])
def test_images_of_16_bits(tmp_path: Path, dtype: str, channels: int) -> None:
    image = pytest.importorskip("PIL.Image")
    pixels = np.linspace(0, 65535, 16).reshape(4, 4).astype(dtype)
    pixels[2:] = 65535, 65535, 0, 0
    suffix = "png" if dtype == "<u2" else "tif"
    image.fromarray(pixels).save(tmp_path / f"a.{suffix}")
    (item,) = items(tmp_path, of(("x", "float32", (None, channels, 4, 4))))
    for channel in item["x"][0]:
        np.testing.assert_allclose(channel, pixels.astype(np.float32) / 65535, rtol=1e-6)
    (item,) = items(tmp_path, of(("x", "uint8", (None, channels, 8, 8))))
    assert (item["x"].min(), item["x"].max()) == (0, 255)
    (item,) = items(tmp_path, of(("x", "float32", (None, 8, 8, channels))))
    assert (item["x"].min(), item["x"].max()) == (0, 1), "resizing does not overshoot"


@pytest.mark.parametrize(("dtype", "kind"), [(np.float32, "floating-point numbers"), (np.int32, "32-bit integers")])
def test_images_without_a_known_white(tmp_path: Path, dtype: type, kind: str) -> None:
    image = pytest.importorskip("PIL.Image")
    image.fromarray(np.ones((4, 4), dtype)).save(tmp_path / "a.tif")
    with pytest.raises(UnsupportedDatasetError, match=rf"a\.tif are {kind} .*convert it to 8 or 16 bits, or give arr"):
        items(tmp_path, of(("x", "float32", (None, 1, 4, 4))))


@pytest.mark.parametrize("size", [10_000, 30_000])
def test_images_that_are_too_large(tmp_path: Path, size: int) -> None:
    """Pillow warns of the first, and refuses the second."""
    image = pytest.importorskip("PIL.Image")
    path = tmp_path / "a.png"
    image.new("L", (4, 4)).save(path)
    content = path.read_bytes()
    start = content.index(b"IHDR")
    header = content[start : start + 4] + struct.pack(">II", size, size) + content[start + 12 : start + 17]
    path.write_bytes(content[:start] + header + struct.pack(">I", zlib.crc32(header)) + content[start + 21 :])
    with pytest.raises(UnsupportedDatasetError, match=r"a\.png is not an image.*pixels\) exceeds.* shrink it, or"):
        items(tmp_path, of(("x", "float32", (None, 1, 4, 4))))


def test_images_need_an_input_for_images(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    image.new("L", (4, 4)).save(tmp_path / "a.png")
    with pytest.raises(UnsupportedDatasetError, match=r"Images fit a model with one input.*'x': \(None, 64\)"):
        items(tmp_path, of(("x", "float32", (None, 64))))
    with pytest.raises(ValidationError, match="The option mean is 'grey'"):
        items(tmp_path, of(("x", "float32", (None, 1, 4, 4))), mean="grey")
    for name in ("scale", "std"):
        with pytest.raises(ValidationError, match=f"The option {name} is 0; .*give others"):
            items(tmp_path, of(("x", "float32", (None, 1, 4, 4))), **{name: "0"})
    for name, text in (("mean", "nan"), ("scale", "inf"), ("std", "1e99")):
        with pytest.raises(ValidationError, match=f"The option {name} is '{text}'; give a finite number, or one for"):
            items(tmp_path, of(("x", "float32", (None, 1, 4, 4))), **{name: text})
    with pytest.raises(ValidationError, match=r"The option std has 2 numbers.*1 channels: give one number, or one for"):
        items(tmp_path, of(("x", "float32", (None, 1, 4, 4))), std="1,2")
    (tmp_path / "b.png").write_bytes(b"no image")
    with pytest.raises(UnsupportedDatasetError, match=r"b\.png is not an image"):
        items(tmp_path, of(("x", "float32", (None, 1, 4, 4))))


def test_text_is_cut_into_samples(tmp_path: Path) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel({f"w{i}": i for i in range(10)}, "w0"))
    words.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    vocabulary = tmp_path / "tokenizer.json"
    words.save(str(vocabulary))
    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / "a.txt").write_text("w1 w2 w3 w4 w5")
    (folder / "b.txt").write_text("w6 w7 w8 w9 w1")
    (folder / "c.txt").mkdir()
    inputs = of(
        ("input_ids", "int64", (None, None)), ("attention_mask", "int64", (None, None)), ("beam_idx", "int32", (None,))
    )
    found = items(folder, inputs, tokenizer=str(vocabulary), length="4")
    assert [item["input_ids"].tolist() for item in found] == [[[1, 2, 3, 4]], [[5, 6, 7, 8]]]
    assert found[0]["attention_mask"].tolist() == [[1, 1, 1, 1]]
    assert (found[0]["beam_idx"].dtype, found[0]["beam_idx"].tolist()) == (np.int32, [0])
    single = items(folder / "b.txt", of(("tokens", "int32", (1, None))), tokenizer=str(vocabulary), length="5")
    assert (single[0]["tokens"].dtype, single[0]["tokens"].tolist()) == (np.int32, [[6, 7, 8, 9, 1]])
    with pytest.raises(UnsupportedDatasetError, match="10 tokens, fewer than a sample of 256"):
        items(folder, inputs, tokenizer=str(vocabulary))
    with pytest.raises(UnsupportedDatasetError, match="this one takes input_ids, past"):
        items(
            folder,
            of(("input_ids", "int64", (1, None)), ("past", "float32", (1,))),
            tokenizer=str(vocabulary),
            length="4",
        )
    for text in ("nan", "1e99", "1.7", "0", "-3", ""):
        with pytest.raises(ValidationError, match=f"option length is '{text}'; give a whole number of at least 1, suc"):
            items(folder, inputs, tokenizer=str(vocabulary), length=text)
    with pytest.raises(ValidationError, match="Text needs a tokenizer"):
        items(folder, inputs)
    with pytest.raises(InvalidPathError, match=r"no tokenizer file nowhere\.json"):
        items(folder, inputs, tokenizer="nowhere.json")


def test_folders_of_several_kinds(tmp_path: Path) -> None:
    (tmp_path / "b.png").write_bytes(b"")
    (tmp_path / "labels.TXT").write_text("cat")
    with pytest.raises(UnsupportedDatasetError, match=r"holds images \(b\.png\) and text \(labels\.TXT\); move what"):
        items(tmp_path)
    (tmp_path / "labels.TXT").unlink()
    np.save(tmp_path / "a.npy", ROWS)
    with pytest.raises(UnsupportedDatasetError, match=r"holds images \(b\.png\) and arrays \(a\.npy\); move what"):
        items(tmp_path)
    (tmp_path / "b.png").unlink()
    with pytest.raises(UnsupportedDatasetError, match="holds neither images"):
        items(tmp_path)


def test_folders_in_folders_are_left_out(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    image.new("L", (4, 4), 255).save(tmp_path / "a.png")
    for name in ("b.png", "c.txt"):
        (tmp_path / name).mkdir()
    (item,) = items(tmp_path, of(("x", "float32", (None, 1, 4, 4))))
    assert item["x"].min() == 1


def test_functions_give_datasets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code = ["import nncf", "def rows():", "    yield from [1, 2]", "def whole():", "    return nncf.Dataset([3], str)"]
    code += ["def broken():", "    raise RuntimeError('no such folder')", "def leaving():", "    raise SystemExit(5)"]
    code += ["def short():", "    yield 1", "    raise OSError('disk gone')"]
    code += ["def unfit():", "    return nncf.Dataset([{'a': 1}, {}], lambda item: item['a'])"]
    (tmp_path / "my_calibration_data.py").write_text(
        "\n".join([*code, "number = 4", "import numpy", "flat = numpy.array(4)"])
    )
    assert items("my_calibration_data:rows") == [1, 2]
    assert items("my_calibration_data:whole") == ["3"]
    assert isinstance(read_dataset("my_calibration_data:rows", none), Dataset)
    for source, message in {
        "my_calibration_data:columns": "has no 'columns'",
        "my_calibration_data:number": "gave a int",
        "my_calibration_data:flat": "gave a ndarray without axes, not an iterable of samples",
        "my_calibration_data:broken": "fails with RuntimeError\\('no such folder'\\)",
        "my_calibration_data:leaving": "fails with SystemExit\\(5\\)",
        "my_calibration_data:short": "fails at item 1 with OSError\\('disk gone'\\); correct it",
        "my_calibration_data:unfit": "fails at item 1 with KeyError\\('a'\\)",
        "not_a_module_at_all:rows": "there is no module",
    }.items():
        with pytest.raises((InvalidPathError, UnsupportedDatasetError), match=message):
            items(source)


@pytest.mark.parametrize("name", ["data.npz", "data.npy", "data.txt", "data.csv", "folder"])
def test_what_is_not_there(name: str, tmp_path: Path) -> None:
    with pytest.raises((InvalidPathError, ValidationError)):
        items(tmp_path / name, of())


def test_what_is_not_known(tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text("1,2")
    with pytest.raises(UnsupportedDatasetError, match=r"give an \.npy, \.npz, \.parquet"):
        items(tmp_path / "data.csv")
    with pytest.raises(UnsupportedDatasetError, match="holds neither images"):
        items(tmp_path, of())
    np.save(tmp_path / "data.npy", ROWS)
    with pytest.raises(ValidationError, match="does not take the option length; it takes none"):
        items(tmp_path / "data.npy", none, length="3")
