"""Spotify's Basic Pitch, from the package ``basic-pitch``: which notes sound, in chords of synthesised tones."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.networks import Data, Feed, Run, package_folder

TITLE = "Notes in audio (Basic Pitch, 0.2 MB)"
METRIC = "F1"
TEXT = "Notes that sound in the frames of 60 clips of 2 seconds of synthesised chords; calibrated on 100 others."

CALIBRATION, TEST = 100, 60
INPUT = "serving_default_input_2:0"
RATE, SAMPLES, FRAMES, KEYS, LOWEST = 22050, 43844, 172, 88, 21
_NOTES, _THRESHOLD = 1, 0.3  # which output, and from where on a note sounds


def prepare(folder: Path) -> None:
    """Write the network and its data."""
    if (folder / "pitch.npz").is_file():
        return
    source = package_folder("basic_pitch", "basic-pitch") / "saved_models" / "icassp_2022" / "nmp.onnx"
    (folder / "pitch.onnx").write_bytes(source.read_bytes())
    clips, notes = zip(*(_clip(seed) for seed in range(CALIBRATION + TEST)), strict=True)
    np.savez(folder / "pitch.npz", clips=np.stack(clips), notes=np.stack(notes))


def feeds(data: Data) -> tuple[list[Feed], Feed]:
    """One clip each."""
    items = [{INPUT: clip[None, :, None]} for clip in data["clips"][:CALIBRATION]]
    return items, items[0]


def score(run: Run, data: Data) -> float:
    """F1 of the notes of all frames."""
    hits = found = wanted = 0
    for clip, notes in zip(data["clips"][CALIBRATION:], data["notes"][CALIBRATION:], strict=True):
        heard = run({INPUT: clip[None, :, None]})[_NOTES][0] > _THRESHOLD
        hits, found, wanted = hits + int((heard & notes).sum()), found + int(heard.sum()), wanted + int(notes.sum())
    return 2 * hits / max(found + wanted, 1)


def _clip(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Two seconds of sound, float32, and which notes sound, [frames, keys]."""
    random = np.random.default_rng(seed)
    sound, notes = np.zeros(SAMPLES), np.zeros((FRAMES, KEYS), bool)
    for _ in range(int(random.integers(3, 8))):
        key, start = int(random.integers(40, 85)), float(random.uniform(0, 1.4))
        length = float(random.uniform(0.3, 0.9))
        first, last = int(start * RATE), min(int((start + length) * RATE), SAMPLES)
        time = np.arange(last - first) / RATE
        pitch = 440 * 2 ** ((key - 69) / 12)
        tone = sum(random.uniform(0.3, 1) / n**1.2 * np.sin(2 * np.pi * pitch * n * time) for n in range(1, 8))
        fading = np.exp(-time * random.uniform(0.5, 3)) * np.minimum(time / 0.01, 1) * np.minimum(time[::-1] / 0.02, 1)
        sound[first:last] += random.uniform(0.2, 1) * tone * fading
        notes[int(first / SAMPLES * FRAMES) : int(last / SAMPLES * FRAMES), key - LOWEST] = True
    sound = sound / max(np.abs(sound).max(), 1e-9) * 0.8
    return (sound + random.normal(0, random.uniform(0.002, 0.03), SAMPLES)).astype(np.float32), notes
