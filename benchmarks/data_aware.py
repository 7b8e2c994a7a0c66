"""Weight compression that uses data: this project and nncf 3.4.0 by the same methods, side by side in one run.

Each is a whole process: start, import, read an OpenVINO IR, calibrate, compress, save. The score of both results is
measured by the same program. The results go to docs/benchmarks_data_aware.md; the reference's figures also to a file
in the cache, from which ``--ours-only`` takes them. Needs what benchmarks.backends needs. A method that one of the two
does not have is left out with what it says.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from statistics import fmean, median, pvariance
from typing import Any

from attrs import asdict, field, frozen

from benchmarks.compressing import METHODS
from benchmarks.compressing.subjects import SUBJECTS, Subject
from benchmarks.measuring import Failed, Measured, machine, measure, spread
from benchmarks.smollm2 import CACHE
from benchmarks.weight_compression import output_of, reference_python

OURS, REFERENCE = "this project", "nncf 3.4.0"


@frozen
class Figures:
    """What was measured of one method.

    :param runs: of the process that compresses.
    :param size: bytes of the weights' file.
    :param parts: of the compressed model's score, by line, paragraph or window of text.
    :param distances: of its outputs from those of the float model, where that is measured.
    :param failure: why there are none of these; the last line of an error.
    :param date: of the measurement.
    :param note: what else is to know, for instance that the machine was busy.
    """

    runs: list[Measured] = field(factory=list)
    size: int = 0
    parts: list[float] = field(factory=list)
    distances: list[float] = field(factory=list)
    failure: str = ""
    date: str = ""
    note: str = ""

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Figures:
        """From plain data, as :func:`attrs.asdict` gives it."""
        return cls(**{**data, "runs": [Measured(**run) for run in data.get("runs", [])]})


@frozen
class Setting:
    """What a run measures with.

    :param folder: of models and data.
    :param pythons: interpreters by who they belong to.
    """

    folder: Path
    pythons: Mapping[str, str]
    samples: int
    windows: int
    runs: int
    note: str

    @property
    def saved(self) -> Path:
        """The file of the reference's figures."""
        return self.folder / "reference_data_aware.json"


def score(subject: str, path: Path, setting: Setting) -> dict[str, list[float]]:
    """Parts and distances, measured in a process of its own, in this environment whoever compressed."""
    print(f"score of {path.name}", file=sys.stderr, flush=True)
    command = [sys.executable, "-m", "benchmarks.compressing.scoring", subject, str(path)]
    found = output_of(*command, "--folder", str(setting.folder), "--windows", str(setting.windows))
    return dict(json.loads(found))


def measured(subject: str, method: str, model: Path, setting: Setting) -> dict[str, Figures]:
    """Figures of a method by who they are of; all take turns. Where one fails, its figures say so."""
    runs: dict[str, list[Measured]] = {name: [] for name in setting.pythons}
    failures: dict[str, str] = {}
    outputs = {name: _output(name, setting) for name in setting.pythons}
    for index in range(setting.runs):
        for name, python in setting.pythons.items():
            if name in failures or (METHODS[method].sections and name == REFERENCE):
                continue
            print(f"{subject}, {method}, run {index + 1}/{setting.runs}: {name}", file=sys.stderr, flush=True)
            command = ["-m", "benchmarks.compressing", subject, method, str(model), str(outputs[name])]
            command += ["--folder", str(setting.folder), "--samples", str(setting.samples)]
            try:
                # another environment has its own packages, and not those that PYTHONPATH adds to this one
                runs[name].append(measure([python, *(["-E"] if name == REFERENCE else []), *command]))
            except Failed as failure:
                failures[name] = str(failure).strip().rpartition("\n")[2].strip()
                print(failures[name], file=sys.stderr, flush=True)
    date = str(datetime.datetime.now(tz=datetime.UTC).date())
    found = {}
    for name, done in runs.items():
        if name in failures:
            found[name] = Figures(failure=failures[name], date=date, note=setting.note)
        elif done:
            size = outputs[name].with_suffix(".bin").stat().st_size
            scored = score(subject, outputs[name], setting)
            found[name] = Figures(done, size, **scored, date=date, note=setting.note)
    for path in outputs.values():
        path.unlink(missing_ok=True)
        path.with_suffix(".bin").unlink(missing_ok=True)
    return found


def _output(name: str, setting: Setting) -> Path:
    folder = setting.folder / "data_aware"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / ("reference.xml" if name == REFERENCE else "ours.xml")


def restored(subject: str, setting: Setting) -> dict[str, Figures]:
    """The reference's figures of an earlier run, by method.

    :raises SystemExit: when there are none, or they were measured with other settings.
    """
    found = json.loads(setting.saved.read_text()).get(subject) if setting.saved.is_file() else None
    if found is None:
        sys.exit(f"{setting.saved} has no figures of {subject}: run without --ours-only once.")
    for name in ("samples", "windows"):
        if found[name] != getattr(setting, name):
            sys.exit(f"{setting.saved} was measured with --{name} {found[name]}: give the same, or not --ours-only.")
    return {method: Figures.of(data) for method, data in found["figures"].items()}


def save(subject: str, figures: Mapping[str, Figures], setting: Setting) -> None:
    """Keep the reference's figures; those of other methods that were measured with the same settings remain."""
    saved = json.loads(setting.saved.read_text()) if setting.saved.is_file() else {}
    head = {"samples": setting.samples, "windows": setting.windows, "machine": machine()}
    before = saved.get(subject, {})
    kept = before.get("figures", {}) if all(before.get(name) == value for name, value in head.items()) else {}
    saved[subject] = {**head, "figures": {**kept, **{name: asdict(each) for name, each in figures.items()}}}
    temporary = setting.saved.with_suffix(".tmp")
    temporary.write_text(json.dumps(saved, indent=1))
    temporary.rename(setting.saved)


def shown(values: Sequence[float], digits: int = 2) -> str:
    """A figure of one run, or median, minimum and maximum of several."""
    return spread(values, digits) if len(values) > 1 else f"{values[0]:.{digits}f}"


def row(title: str, figures: Figures, base: float, subject: Subject) -> str:
    """A row of the table of figures."""
    if figures.failure:
        return f"| {title} | not measured: {_escaped(figures.failure)} | | | | | | |{' |' if subject.distances else ''}"
    wall, inner, cpu = (shown([getattr(run, name) for run in figures.runs]) for name in ("wall", "inner", "cpu"))
    peak = max(run.peak for run in figures.runs) / 1e6
    mark = f" ({figures.note})" if figures.note else ""
    return (
        f"| {title}{mark} | {wall} | {inner} | {cpu} | {peak:.0f} | {figures.size / 1e6:.1f} "
        f"| {subject.score(figures.parts):.4f} | {loss(figures, base, subject):+.4f} |"
        + (f" {fmean(figures.distances):.5f} |" if subject.distances else "")
    )


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")


def loss(figures: Figures, base: float, subject: Subject) -> float:
    """What compression takes from the score of the float model: the less, the better."""
    found = subject.score(figures.parts)
    return base - found if subject.higher else found - base


def difference(ours: Sequence[float], reference: Sequence[float], score: Callable[[Sequence[float]], float]) -> str:
    """The difference of two scores and its standard error, by leaving out each of the same parts in turn.

    Efron, The Jackknife, the Bootstrap and Other Resampling Plans (1982), section 3.2.
    """
    parts = range(len(ours))
    without = [score([*ours[:i], *ours[i + 1 :]]) - score([*reference[:i], *reference[i + 1 :]]) for i in parts]
    error = ((len(parts) - 1) * pvariance(without)) ** 0.5
    digits = 3 if error > 0.002 else 5
    return f"{score(ours) - score(reference):+.{digits}f} ± {error:.{digits}f}"


def ratios(method: str, figures: Mapping[str, Figures], base: float, subject: Subject, *, paired: bool) -> str:
    """A row of the table of ratios; run by run where both were measured in turn, of medians otherwise."""
    ours, reference = figures[OURS], figures[REFERENCE]

    def times(of: Callable[[Measured], float]) -> str:
        if paired:
            return shown([of(b) / of(a) for a, b in zip(ours.runs, reference.runs, strict=True)], 1)
        return f"{median(map(of, reference.runs)) / median(map(of, ours.runs)):.1f}"

    whole, inner, cpu = times(lambda run: run.wall), times(lambda run: run.inner), times(lambda run: run.cpu)
    peak = max(run.peak for run in ours.runs) / max(run.peak for run in reference.runs)
    mine, theirs = (loss(each, base, subject) for each in (ours, reference))
    share = f"{mine / theirs:.2f}" if theirs > 0 else ""
    sides = (reference, ours) if subject.higher else (ours, reference)
    apart = difference(*(each.parts for each in sides), subject.score)
    row = f"| {METHODS[method].title} | {whole} | {inner} | {cpu} | {peak:.2f} | {share} | {apart} |"
    if subject.distances is None:
        return row
    share = f"{fmean(ours.distances) / fmean(reference.distances):.2f}"
    return f"{row} {share} | {difference(ours.distances, reference.distances, fmean)} |"


def section(name: str, methods: list[str], setting: Setting, *, ours_only: bool) -> list[str]:
    """Measure a network; its part of the page."""
    subject = SUBJECTS[name]
    model = subject.prepare(setting.folder)
    earlier = restored(name, setting) if ours_only else {}
    base = subject.score(score(name, model, setting)["parts"])
    found: dict[str, dict[str, Figures]] = {}
    for method in methods:
        found[method] = measured(name, method, model, setting)
        if ours_only and method in earlier:
            found[method][REFERENCE] = earlier[method]
        elif REFERENCE in found[method]:
            save(name, {method: found[method][REFERENCE]}, setting)
    lost = "lost" if subject.higher else "excess over float"
    size = model.with_suffix(".bin").stat().st_size / 1e6
    lines = [
        "", f"## {subject.title}", "", subject.text, "",
        f"| | whole process, s | without imports, s | CPU, s | peak, MB | file, MB | {subject.metric} | {lost} |"
        + (" distance |" if subject.distances else ""),
        "| --- | --- | --- | --- | --- | --- | --- | --- |" + (" --- |" if subject.distances else ""),
        f"| float32 | | | | | {size:.1f} | {base:.4f} | |" + (" 0 |" if subject.distances else ""),
    ]  # fmt: skip
    for method, figures in found.items():
        for who in (REFERENCE, OURS):
            if who in figures:
                mark = f", {figures[who].date}" if who == REFERENCE and ours_only else ""
                lines.append(row(f"{METHODS[method].title}: {who}{mark}", figures[who], base, subject))
    both = {
        method: figures
        for method, figures in found.items()
        if len(figures) == 2 and not any(each.failure for each in figures.values())
    }
    if both:
        lines += [
            "", "Times faster than the reference, this project's memory and loss as parts of the reference's, and by",
            f"how much the loss is greater, with its standard error ({subject.units} left out in turn):", "",
            f"| | whole process | without imports | CPU | peak | {lost} | difference |"
            + (" distance | difference |" if subject.distances else ""),
            "| --- | --- | --- | --- | --- | --- | --- |" + (" --- | --- |" if subject.distances else ""),
            *(ratios(method, figures, base, subject, paired=not ours_only) for method, figures in both.items()),
        ]  # fmt: skip
    return lines


def main() -> None:
    """Measure, and write docs/benchmarks_data_aware.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--subjects", nargs="+", choices=SUBJECTS, default=list(SUBJECTS), help="networks")
    parser.add_argument("--methods", nargs="+", choices=METHODS, help="by default those that each network names")
    parser.add_argument("--samples", type=int, default=32, help="to calibrate with, of 256 tokens for text")
    parser.add_argument("--windows", type=int, default=24, help="windows of 512 tokens that perplexity is measured on")
    parser.add_argument("--runs", type=int, default=1, help="of each process that compresses, in turn")
    parser.add_argument("--ours-only", action="store_true", help="take the reference's figures from an earlier run")
    parser.add_argument("--note", default="", help="to put beside the figures, for instance: under load")
    parser.add_argument("--cache", type=Path, default=CACHE, help="folder of models and earlier figures")
    parser.add_argument("--reference-python", default=os.environ.get("NNCF_REFERENCE_PYTHON"))
    parser.add_argument("--output", type=Path, default=Path("docs/benchmarks_data_aware.md"))
    options = parser.parse_args()
    pythons = {OURS: sys.executable}
    if not options.ours_only:
        # the reference first, so that its pages of the model's file are there for both
        pythons = {REFERENCE: reference_python(options.reference_python, options.cache), **pythons}
    setting = Setting(options.cache, pythons, options.samples, options.windows, options.runs, options.note)
    versions = ", ".join(f"{name} {version(name)}" for name in ("nncf-core", "openvino", "numpy"))
    date = datetime.datetime.now(tz=datetime.UTC).date()
    earlier = " The reference's figures are of an earlier run, of the date beside them." if options.ours_only else ""
    lines = [
        "# Benchmarks of weight compression that uses data", "",
        f"Written by `python -m benchmarks.data_aware`. {options.samples} samples calibrate; text is measured on",
        f"{options.windows} windows of 512 tokens. Runs of each process: {options.runs}, in turn; of several medians,",
        "with minimum and maximum in brackets. Both projects compress the same OpenVINO IR, called with the",
        "same arguments; scores are computed by OpenVINO in float32, without dynamic quantization of activations.",
        f"Compare ratios rather than seconds.{earlier}", "",
        f"{date}. {machine()}. {versions}.",
    ]  # fmt: skip
    for name in options.subjects:
        methods = options.methods or list(SUBJECTS[name].methods)
        lines += section(name, methods, setting, ours_only=options.ours_only)
        # what has been measured is not lost when something later fails
        options.output.write_text("\n".join([*lines, ""]))
    print("\n".join(lines))


if __name__ == "__main__":
    main()
