"""PP-OCRv4's text detector, from the package ``rapidocr-onnxruntime``, on pages with lines of text here and there."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from benchmarks.networks import Data, Feed, Run, package_folder, prose

TITLE = "Text detection (PP-OCRv4, 4.7 MB)"
METRIC = "F1"
TEXT = (
    "Lines of text that are found in 400 noisy pages of 320 by 480 pixels, with at least half of the common area; "
    "calibrated on 100 others. The standard error of what is lost is 0.003 where that is little, 0.006 where it is "
    "about 0.04."
)

CALIBRATION, TEST = 100, 400
HEIGHT, WIDTH = 320, 480
INPUT = "x"
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_THRESHOLD, _SURE, _UNCLIP = 0.3, 0.5, 1.6


def prepare(folder: Path) -> None:
    """Write the network and its data."""
    import onnx

    if (folder / "detection.npz").is_file():
        with np.load(folder / "detection.npz") as data:
            if len(data["boxes"]) == CALIBRATION + TEST:
                return
    models = package_folder("rapidocr_onnxruntime", "rapidocr-onnxruntime") / "models"
    original = onnx.load(models / "ch_PP-OCRv4_det_infer.onnx")
    onnx.save(onnx.version_converter.convert_version(original, 13), folder / "detection.onnx")
    pages, boxes = zip(*(_page(seed) for seed in range(CALIBRATION + TEST)), strict=True)
    most = max(len(found) for found in boxes)
    padded = np.full((len(boxes), most, 4), -1, np.int32)
    for row, found in zip(padded, boxes, strict=True):
        row[: len(found)] = found
    np.savez(folder / "detection.npz", pages=np.stack(pages), boxes=padded)


def feeds(data: Data) -> tuple[list[Feed], Feed]:
    """One page each."""
    items = [{INPUT: _network_input(page)} for page in data["pages"][:CALIBRATION]]
    return items, {INPUT: _network_input(data["pages"][CALIBRATION])}


def score(run: Run, data: Data) -> float:
    """F1 of the boxes of all pages."""
    hits = found = wanted = 0
    for page, boxes in zip(data["pages"][CALIBRATION:], data["boxes"][CALIBRATION:], strict=True):
        truth = [tuple(box) for box in boxes if box[0] >= 0]
        guesses = _boxes(run({INPUT: _network_input(page)})[0][0, 0])
        wanted, found = wanted + len(truth), found + len(guesses)
        for box in truth:
            best = max(guesses, key=lambda guess: _common(box, guess), default=None)
            if best is not None and _common(box, best) >= 0.5:
                hits += 1
                guesses.remove(best)
    return 2 * hits / max(found + wanted, 1)


def _network_input(page: np.ndarray) -> np.ndarray:
    scaled = page.astype(np.float32) / 255
    return np.stack([(scaled - m) / d for m, d in zip(_MEAN, _DEVIATION, strict=True)])[None].astype(np.float32)


def _page(seed: int) -> tuple[np.ndarray, list[tuple[int, int, int, int]]]:
    """A page, [height, width], uint8, and where its lines are: left, top, right, bottom."""
    from PIL import Image, ImageDraw, ImageFont

    random = np.random.default_rng(seed)
    phrases = re.findall(r"[A-Za-z]{3,}[a-z ,.]{4,18}[a-z]", prose())
    shade = (
        np.linspace(*random.uniform(120, 255, 2), WIDTH)[None]
        + np.linspace(*random.uniform(-30, 30, 2), HEIGHT)[:, None]
    )
    image = Image.fromarray(np.clip(shade, 0, 255).astype(np.uint8))
    draw, boxes, top = ImageDraw.Draw(image), [], int(random.integers(5, 30))
    while top < HEIGHT - 40:
        size = int(random.integers(12, 30))
        font = ImageFont.load_default(size)
        text = phrases[int(random.integers(len(phrases)))]
        left = int(random.integers(5, 120))
        box = tuple(int(edge) for edge in draw.textbbox((left, top), text, font=font))
        if box[2] < WIDTH - 3 and box[3] < HEIGHT - 3:
            draw.text((left, top), text, font=font, fill=int(random.integers(0, 110)))
            boxes.append(box)
        top = box[3] + int(random.integers(8, 40))
    pixels = np.asarray(image, np.float32)
    noisy = pixels + random.normal(0, random.uniform(5, 45), pixels.shape)
    return np.clip(noisy, 0, 255).astype(np.uint8), boxes


def _boxes(probability: np.ndarray) -> list[tuple[float, float, float, float]]:
    """Boxes around regions, grown as the network was trained to have them shrunk (https://arxiv.org/abs/1911.08947)."""
    from scipy import ndimage

    labels, _ = ndimage.label(probability > _THRESHOLD)
    result = []
    for index, (rows, columns) in enumerate(ndimage.find_objects(labels), 1):
        if probability[rows, columns][labels[rows, columns] == index].mean() < _SURE:
            continue
        height, width = rows.stop - rows.start, columns.stop - columns.start
        if min(height, width) < 3:
            continue
        grown = height * width * _UNCLIP / (2 * (height + width))
        result.append((columns.start - grown, rows.start - grown, columns.stop + grown, rows.stop + grown))
    return result


def _common(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    """Common area by that of both together."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    both = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - width * height
    return width * height / both
