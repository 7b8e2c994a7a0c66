"""Datasets for the command line: files of arrays, tables, images and text, or a function of the user's."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from attrs import frozen

from nncf_core.dataset import Dataset
from nncf_core.errors import (
    InstallationError,
    InvalidPathError,
    NNCFError,
    UnsupportedDatasetError,
    ValidationError,
    sentence,
)
from nncf_core.user_functions import user_object

Data: TypeAlias = Dataset[Any, Any]


@frozen
class ModelInput:
    """An input of the model that a dataset is for.

    :param name: name of its tensor.
    :param dtype: element type, ``None`` when unknown.
    :param shape: dimensions, ``None`` in place of those that are not known.
    """

    name: str
    dtype: str | None
    shape: tuple[int | None, ...] | None


Inputs: TypeAlias = Callable[[], Sequence[ModelInput]]
"""Looks at the model's inputs; only images and text need that."""


def read_dataset(source: str, inputs: Inputs, options: Mapping[str, str] | None = None) -> Data:
    """A dataset from what a user names.

    - ``data.npz``: an array for each input, samples along the first axis; ``data.npy``: of the only input.
    - ``data.parquet``: a column for each input, a sample in each row (needs pyarrow).
    - a folder of images (needs Pillow): in alphabetical order, resized to the model's input. Option ``scale`` (default
      255) divides the pixels, then ``mean`` and ``std`` (numbers for each channel) are taken away and divided by.
    - ``text.txt``, or a folder of such files: cut into samples of ``length`` tokens (default 256), by the tokenizer of
      the file that option ``tokenizer`` names (``tokenizer.json``; needs tokenizers).
    - ``module:function``: what the function gives, an iterable or an :class:`nncf.Dataset`; the module is looked for in
      the current folder, too.

    :param inputs: looks at the model's inputs.
    :param options: see above.
    :raises InvalidPathError: when there is nothing of that name.
    :raises UnsupportedDatasetError: when it cannot be read, or does not fit the model.
    :raises InstallationError: when a package that it needs is not installed.
    :raises ValidationError: for an option that is not known, or not a number.
    """
    known = dict(options or {})
    path = Path(source)
    reader = _reader(path)
    if reader is None:
        if ":" in source and not path.exists():
            _check_options(known, ())
            return _from_function(source)
        if not path.exists():
            raise InvalidPathError(f"There is no dataset {source}; correct its name, or give module:function.")
        raise UnsupportedDatasetError(
            f"{source} is no dataset that is known: give an .npy, .npz, .parquet or .txt file, a folder of images or "
            "of .txt files, or module:function."
        )
    read, names = reader
    _check_options(known, names)
    return read(path, inputs, known)


def _reader(path: Path) -> tuple[Callable[[Path, Inputs, dict[str, str]], Data], Sequence[str]] | None:
    if path.is_dir():
        return (_texts, _TEXT) if _of_one_kind(path) == "text" else (_images, _IMAGE)
    return {
        ".npz": (_archive, ()),
        ".npy": (_array, ()),
        ".parquet": (_table, ()),
        ".txt": (_texts, _TEXT),
    }.get(path.suffix.lower())


def _of_one_kind(folder: Path) -> str | None:
    """What files of data a folder holds; ``None``: none.

    :raises UnsupportedDatasetError: when they are of several kinds.
    """
    found = {kind: files for kind, suffixes in _KINDS.items() if (files := _files(folder, suffixes))}
    if len(found) > 1:
        kinds = " and ".join(f"{kind} ({files[0].name})" for kind, files in found.items())
        raise UnsupportedDatasetError(
            f"The folder {folder} holds {kinds}; move what is no part of the dataset to another folder."
        )
    return next(iter(found), None)


def _files(folder: Path, suffixes: Sequence[str]) -> list[Path]:
    """Those of a kind, in alphabetical order."""
    return sorted(each for each in folder.iterdir() if each.suffix.lower() in suffixes and not each.is_dir())


_TEXT = ("tokenizer", "length")
_IMAGE = ("scale", "mean", "std")
_IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff")
_KINDS: Mapping[str, Sequence[str]] = {"images": _IMAGES, "text": (".txt",), "arrays": (".npz", ".npy", ".parquet")}


def _check_options(given: Mapping[str, str], known: Sequence[str]) -> None:
    unknown = [name for name in given if name not in known]
    if unknown:
        takes = f"it takes {', '.join(known)}" if known else "it takes none"
        raise ValidationError(f"The dataset does not take the option {', '.join(unknown)}; {takes}.")


def _archive(path: Path, inputs: Inputs, options: Mapping[str, str]) -> Data:
    loaded = _loaded(path)
    if isinstance(loaded, np.ndarray):
        raise UnsupportedDatasetError(f"{path} holds one array without a name; numpy.savez(path, name=array) names it.")
    return _samples(path, loaded)


def _array(path: Path, inputs: Inputs, options: Mapping[str, str]) -> Data:
    array = _loaded(path)
    if not isinstance(array, np.ndarray) or array.ndim == 0:
        raise UnsupportedDatasetError(
            f"{path} holds no array with samples along its first axis: write it by numpy.save(path, array)."
        )
    return Dataset([array[i : i + 1] for i in range(len(array))])


def _loaded(path: Path) -> np.ndarray | dict[str, np.ndarray]:
    try:
        with path.open("rb") as opened:
            file = np.load(opened, allow_pickle=False)
            return file if isinstance(file, np.ndarray) else {name: file[name] for name in file.files}
    except FileNotFoundError:
        raise InvalidPathError(f"There is no dataset file {path}; correct its name.") from None
    except MemoryError:
        raise
    except Exception as error:  # of zip, zlib and the parser of headers, without a common base
        writer = "savez" if path.suffix.lower() == ".npz" else "save"
        # numpy's advice is to run code that the file may hold
        why = "it holds objects, or is none." if "pickle" in str(error) else sentence(error)
        raise UnsupportedDatasetError(
            f"{path} is not an {path.suffix.lower()} file of plain arrays: {why} Write it by numpy.{writer}."
        ) from None


def _samples(path: Path, arrays: Mapping[str, np.ndarray]) -> Data:
    if not arrays:
        raise UnsupportedDatasetError(f"{path} holds no arrays; write it by numpy.savez(path, name=array).")
    single = [name for name, array in arrays.items() if array.ndim == 0]
    if single:
        raise UnsupportedDatasetError(
            f"{path} holds arrays without axes, and so without an axis of samples: {', '.join(single)}. Each needs one "
            "entry for each sample along its first axis."
        )
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) != 1:
        raise UnsupportedDatasetError(
            f"The arrays of {path} have different numbers of samples: {lengths}; each needs "
            "one entry for each sample along its first axis."
        )
    count = next(iter(lengths.values()))
    return Dataset([{name: array[i : i + 1] for name, array in arrays.items()} for i in range(count)])


def _table(path: Path, inputs: Inputs, options: Mapping[str, str]) -> Data:
    parquet = _module("pyarrow.parquet", "pyarrow", "Parquet files")
    if not path.exists():
        raise InvalidPathError(f"There is no dataset file {path}; correct its name.")
    try:
        rows = parquet.read_table(path).to_pylist()
        items = [{name: np.asarray([cell]) for name, cell in row.items()} for row in rows]
    except (OSError, ValueError, TypeError) as error:
        raise UnsupportedDatasetError(
            f"{path} is not a Parquet file whose rows are samples: {sentence(error)} Write a column for each input."
        ) from None
    types = {port.name: port.dtype for port in inputs()}
    for index, item in enumerate(items):
        for name, array in item.items():
            item[name] = _cast(array, types.get(name), f"Row {index} of the column {name!r} of {path}")
    return Dataset(items)


def _cast(array: np.ndarray, name: str | None, place: str) -> np.ndarray:
    """An array as an input takes it, whose values stay what they are but for the rounding of floating-point numbers.

    :param name: of the input's type; ``None``: unknown.
    :param place: what holds the array, for errors.
    :raises UnsupportedDatasetError: for a value that would not stay what it is.
    """
    try:
        dtype = np.dtype(name or array.dtype)
    except TypeError:  # numpy lacks it: the runtime says what it takes
        return array
    if array.dtype == dtype:
        return array
    decimal = array.dtype.kind == "O" and all(isinstance(each, Decimal) for each in array.flat)
    values, wrong = array.astype(np.float64) if decimal else array, array
    if values.dtype.kind in "biuf":
        with np.errstate(over="ignore", invalid="ignore"):
            cast = values.astype(dtype)
        kept = cast == values if dtype.kind in "biu" else np.isfinite(cast) | ~np.isfinite(values)
        if kept.all():
            return cast
        wrong = array[~kept]
    raise UnsupportedDatasetError(
        f"{place} holds {wrong.ravel().tolist()[0]!r}, which would not stay what it is as {dtype}, the type of the "
        "input. Write a column of numbers that fit."
    )


def _images(path: Path, inputs: Inputs, options: Mapping[str, str]) -> Data:
    image = _module("PIL.Image", "Pillow", "images")
    files = _files(path, _IMAGES)
    if not files:
        raise UnsupportedDatasetError(
            f"The folder {path} holds neither images ({', '.join(_IMAGES)}) nor .txt files; give another."
        )
    ports = inputs()
    place = _image_place(ports[0].shape) if len(ports) == 1 else None
    if place is None:
        shapes = {port.name: port.shape for port in ports}
        raise UnsupportedDatasetError(
            f"Images fit a model with one input of four dimensions, of which height, width and 1 or 3 channels are "
            f"known; this one has {shapes}. Give arrays (.npz), or module:function."
        )
    height, width, channels, first = place
    scale, mean, std = (
        _of_channels(options, key, default, channels) for key, default in zip(_IMAGE, (255.0, 0.0, 1.0), strict=True)
    )
    name, dtype = ports[0].name, ports[0].dtype or "float32"
    if not np.can_cast(np.uint8, dtype):
        raise UnsupportedDatasetError(
            f"Pixels are numbers from 0 to 255, which {dtype} does not hold, the type of the model's input {name!r}. "
            "Give arrays (.npz), or module:function."
        )

    def item(file: Path) -> dict[str, np.ndarray]:
        try:
            with image.open(file) as opened:
                picture = _of_eight_bits(opened, file, image) or opened.convert("L" if channels == 1 else "RGB")
                pixels = np.asarray(picture.resize((width, height)), np.float32).reshape(height, width, -1)
        except (NNCFError, MemoryError):
            raise
        except Exception as error:  # those of its formats have no common base
            raise UnsupportedDatasetError(
                f"{file} is not an image that Pillow reads: {sentence(error)} Repair or shrink it, or leave it out."
            ) from None
        # floating-point numbers, which are not clipped, overshoot next to edges
        pixels = np.broadcast_to(pixels.clip(0, 255), (height, width, channels))
        values = (pixels / scale - mean) / std if np.dtype(dtype).kind == "f" else np.rint(pixels)
        array = values.transpose(2, 0, 1) if first else values
        return {name: array[None].astype(dtype)}

    return Dataset(files, item)


def _of_eight_bits(picture: Any, file: Path, image: Any) -> Any:
    """An image of one channel of 16 bits with 255 in place of 65535, but not rounded; ``None`` for one of 8 bits.

    Pillow converts others by clipping their pixels at 255.

    :param image: the module.
    :raises UnsupportedDatasetError: for pixels whose range is not known.
    """
    # before 10.3, Pillow opens PNG files of 16 bits as 32-bit integers
    if picture.mode.startswith("I;16") or (picture.mode == "I" and picture.format == "PNG"):
        return image.fromarray(np.asarray(picture, np.float32) / 257)
    if picture.mode in ("I", "F"):
        kind = "32-bit integers" if picture.mode == "I" else "floating-point numbers"
        raise UnsupportedDatasetError(
            f"The pixels of {file} are {kind} (Pillow's mode {picture.mode}), and what stands for white is not known: "
            "convert it to 8 or 16 bits, or give arrays (.npz)."
        )
    return None


def _of_channels(options: Mapping[str, str], name: str, default: float, channels: int) -> np.ndarray:
    """A number, or one for each channel; not zero, where pixels are divided by it."""
    values = _numbers(options, name, default)
    if values.size not in (1, channels):
        raise ValidationError(
            f"The option {name} has {values.size} numbers; the model's images have {channels} channels: give one "
            "number, or one for each."
        )
    if name != "mean" and not np.all(values):
        raise ValidationError(f"The option {name} is {options[name]}; pixels cannot be divided by it: give others.")
    return values


def _image_place(shape: tuple[int | None, ...] | None) -> tuple[int, int, int, bool] | None:
    """Height, width, channels, and whether channels come first."""
    if shape is None or len(shape) != 4:
        return None
    _, second, third, fourth = shape
    if second in (1, 3) and third and fourth:
        return third, fourth, second, True
    if fourth in (1, 3) and second and third:
        return second, third, fourth, False
    return None


def _texts(path: Path, inputs: Inputs, options: Mapping[str, str]) -> Data:
    if "tokenizer" not in options:
        raise ValidationError("Text needs a tokenizer: give the option tokenizer, the path of a tokenizer.json.")
    tokenizers = _module("tokenizers", "tokenizers", "text")
    vocabulary = Path(options["tokenizer"])
    if not vocabulary.is_file():
        raise InvalidPathError(f"There is no tokenizer file {vocabulary}; correct the option tokenizer.")
    try:
        tokenizer = tokenizers.Tokenizer.from_file(str(vocabulary))
    except Exception as error:  # the library raises plain exceptions
        raise UnsupportedDatasetError(
            f"{vocabulary} is not a tokenizer.json: {sentence(error)} "
            f"Give the file that the model's tokenizer is saved in."
        ) from None
    length = _count(options, "length", 256)
    files = _files(path, _KINDS["text"]) if path.is_dir() else [path]
    tokens: list[int] = []
    for file in files:
        try:
            tokens += tokenizer.encode(file.read_text(encoding="utf-8"), add_special_tokens=False).ids
        except FileNotFoundError:
            raise InvalidPathError(f"There is no dataset file {file}; correct its name.") from None
        except UnicodeDecodeError as error:
            raise UnsupportedDatasetError(
                f"{file} is not text in UTF-8: {sentence(error)} Convert it, or leave it out."
            ) from None
    if len(tokens) < length:
        raise UnsupportedDatasetError(
            f"{path} holds {len(tokens)} tokens, fewer than a sample of {length}: give more text, or the option length."
        )
    ports = inputs()
    rows = [np.asarray([tokens[i : i + length]]) for i in range(0, len(tokens) - length + 1, length)]
    return Dataset([_language_item(ports, row) for row in rows])


_BESIDES: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    "attention_mask": np.ones_like,
    "position_ids": lambda tokens: np.arange(tokens.shape[1])[None],
    "token_type_ids": np.zeros_like,
    "beam_idx": lambda tokens: np.zeros(1, np.int64),
}
"""What language models take besides tokens, by the names that exporters give."""


def _language_item(ports: Sequence[ModelInput], tokens: np.ndarray) -> dict[str, np.ndarray]:
    rest = [port for port in ports if port.name not in _BESIDES]
    if len(rest) != 1:
        names = ", ".join(port.name for port in ports)
        raise UnsupportedDatasetError(
            f"Text fits a model that takes tokens and of {', '.join(_BESIDES)} what it needs; this one takes {names}. "
            "Give arrays (.npz), or module:function."
        )
    made = {port.name: tokens if port is rest[0] else _BESIDES[port.name](tokens) for port in ports}
    return {port.name: made[port.name].astype(port.dtype or "int64") for port in ports}


def _from_function(source: str) -> Data:
    function = user_object(source, "The dataset")
    try:
        made = function() if callable(function) else function
    except (Exception, SystemExit) as error:
        raise UnsupportedDatasetError(
            f"The dataset {source}: the function fails with {error!r}; correct it. It is called without arguments."
        ) from error
    if isinstance(made, Dataset):
        return Dataset(_Guarded(source, made))
    if not isinstance(made, Iterable) or getattr(made, "shape", None) == ():
        what = type(made).__name__ if not isinstance(made, Iterable) else f"{type(made).__name__} without axes"
        raise UnsupportedDatasetError(
            f"The dataset {source} gave a {what}, not an iterable of samples; let it return or yield them."
        )
    return Dataset(_Guarded(source, Dataset(made)))


class _Guarded:
    """The inputs that a user's dataset gives; where its code fails, the item is named."""

    def __init__(self, source: str, dataset: Data) -> None:
        self._source, self._dataset = source, dataset
        self.batch_size = dataset.get_batch_size()

    def __iter__(self) -> Iterator[Any]:
        count = 0
        try:
            for item in self._dataset.get_inference_data():
                yield item
                count += 1
        except (Exception, SystemExit) as error:
            if isinstance(error, NNCFError):
                raise
            raise UnsupportedDatasetError(
                f"The dataset {self._source} fails at item {count} with {error!r}; correct it."
            ) from error

    def __len__(self) -> int:
        length = self._dataset.get_length()
        if length is None:
            raise TypeError("the source has no length")
        return length


def _numbers(options: Mapping[str, str], name: str, default: float) -> np.ndarray:
    """One number, or one for each channel."""
    text = options.get(name)
    if text is None:
        return np.asarray(default, np.float32)
    try:
        with np.errstate(over="ignore"):
            values = np.asarray([float(part) for part in text.split(",")]).astype(np.float32)
    except ValueError:
        values = np.asarray([np.nan])
    if not np.isfinite(values).all():
        raise ValidationError(
            f"The option {name} is {text!r}; give a finite number, or one for each channel: 0.5,0.5,0.5."
        )
    return values[0] if values.size == 1 else values


def _count(options: Mapping[str, str], name: str, default: int) -> int:
    """A positive whole number."""
    text = options.get(name, str(default))
    try:
        count = int(text)
    except ValueError:
        count = 0
    if count < 1:
        raise ValidationError(f"The option {name} is {text!r}; give a whole number of at least 1, such as {default}.")
    return count


def _module(name: str, distribution: str, what: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise InstallationError(f"Reading {what} needs {distribution}: pip install {distribution}") from None
