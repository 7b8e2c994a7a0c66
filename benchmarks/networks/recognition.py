"""PP-OCRv4's text recogniser, from the package ``rapidocr-onnxruntime``, on lines of prose rendered with noise."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from benchmarks.networks import Data, Feed, Run, package_folder, prose

TITLE = "Text recognition (PP-OCRv4, 10.9 MB)"
METRIC = "accuracy"
TEXT = "Share of 1200 noisy lines of text that are read without an error, calibrated on 300 others."

CALIBRATION, TEST = 300, 1200
_VALIDATED = 400  # lines that accuracy control looks at
INPUT = "x"


def prepare(folder: Path) -> None:
    """Write the network and its data."""
    import onnx

    if (folder / "recognition.npz").is_file():
        with np.load(folder / "recognition.npz") as file:
            if len(file["texts"]) == CALIBRATION + TEST:
                return
    models = package_folder("rapidocr_onnxruntime", "rapidocr-onnxruntime") / "models"
    original = onnx.load(models / "ch_PP-OCRv4_rec_infer.onnx")
    characters = next(p.value for p in original.metadata_props if p.key == "character").splitlines()
    onnx.save(onnx.version_converter.convert_version(original, 13), folder / "recognition.onnx")
    texts = _lines()
    images = np.stack([_rendered(text, seed) for seed, text in enumerate(texts)])
    np.savez(folder / "recognition.npz", images=images, texts=texts, characters=["", *characters, " "])


def feeds(data: Data) -> tuple[list[Feed], Feed]:
    """One line each."""
    items = [{INPUT: _network_input(image[None])} for image in data["images"][:CALIBRATION]]
    return items, {INPUT: _network_input(data["images"][CALIBRATION : CALIBRATION + 1])}


def score(run: Run, data: Data) -> float:
    """Share of lines without an error."""
    return float(scores(run, data).mean())


def scores(run: Run, data: Data) -> np.ndarray:
    """1 for each line without an error, 0 for others."""
    images, truth, read = data["images"][CALIBRATION:], data["texts"][CALIBRATION:], []
    for start in range(0, len(images), 16):
        read += _decoded(run({INPUT: _network_input(images[start : start + 16])})[0], data["characters"])
    return np.array([float(a == b.strip()) for a, b in zip(read, truth, strict=True)])


def _network_input(images: np.ndarray) -> np.ndarray:
    scaled = images.astype(np.float32) / np.float32(127.5) - np.float32(1)
    return np.repeat(scaled[:, None], 3, axis=1)


def _lines() -> list[str]:
    """Lines that differ; the first 700 are those of earlier measurements."""
    found = re.findall(r"[A-Za-z]{3,}[a-z ,.]{4,18}[a-z]", prose())
    first = np.random.default_rng(0).choice(len(found), 700, replace=False)
    others = np.setdiff1d(np.arange(len(found)), first)
    rest = np.random.default_rng(1).choice(others, CALIBRATION + TEST - len(first), replace=False)
    return [found[index] for index in (*first, *rest)]


def _rendered(text: str, seed: int) -> np.ndarray:
    """An image of a line, [48, 320], uint8."""
    from PIL import Image, ImageDraw, ImageFont

    random = np.random.default_rng(seed)
    size = int(random.integers(20, 34))
    font = ImageFont.load_default(size)
    image = Image.new("L", (int(font.getlength(text)) + 20, size + 16), int(random.integers(180, 255)))
    ImageDraw.Draw(image).text((10, 6), text, font=font, fill=int(random.integers(0, 90)))
    pixels = np.asarray(image, np.float32)
    pixels = np.clip(pixels + random.normal(0, random.uniform(5, 38), pixels.shape), 0, 255)
    return np.asarray(Image.fromarray(pixels.astype(np.uint8)).resize((320, 48)))


def _decoded(scores: np.ndarray, characters: np.ndarray) -> list[str]:
    """Text by best path: repetitions and blanks are left out."""
    result = []
    for row in scores.argmax(-1):
        kept = [now for before, now in zip([0, *row], row, strict=False) if now not in (before, 0)]
        result.append("".join(characters[index] for index in kept).strip())
    return result


def items(data: Data) -> list[tuple[Feed, str]]:
    """Inputs and texts to validate on."""
    chosen = slice(CALIBRATION, CALIBRATION + _VALIDATED)
    pairs = zip(data["images"][chosen], data["texts"][chosen], strict=True)
    return [({INPUT: _network_input(image[None])}, str(text)) for image, text in pairs]


def hit(run: Run, item: tuple[Feed, str], data: Data) -> bool:
    """Whether a line is read without an error."""
    return _decoded(run(item[0])[0], data["characters"])[0] == item[1].strip()
