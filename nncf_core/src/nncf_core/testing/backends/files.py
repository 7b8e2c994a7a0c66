"""Model files: round trips, determinism, and what happens when something goes wrong."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import SkipTest, mock

from nncf_core.contracts import StreamingBuilder
from nncf_core.errors import InvalidPathError, NNCFError
from nncf_core.numerics.formats import SCHEMES
from nncf_core.numerics.kernels import decompress
from nncf_core.testing.backends.base import BackendSuite, compressed, layout_of
from nncf_core.testing.cases import ModelCase
from nncf_core.testing.suite import expect
from nncf_core.transformations import CompressConstant


class _DeliberateError(Exception):
    """Stands for anything that goes wrong."""


class FileTests(BackendSuite):
    """``save`` and ``open`` with a path."""

    def test_files_round_trip(self, case: ModelCase, tmp_path: Path) -> None:
        """A saved model computes the same when it is opened, as float and compressed."""
        path = self._path(tmp_path)
        self.backend.builder.save(self.opened(case), path)
        expect(path.is_file(), f"GraphBuilder.save wrote no file {path.name}")
        opened = self.backend.builder.open(path, self.options)
        self.same_outputs(self.outputs(opened, case), self.expected(case, {}), "after save and open")
        model, weights = self._int8(case)
        self.backend.builder.save(model, path)
        opened = self.backend.builder.open(path, self.options)
        self.same_outputs(
            self.outputs(opened, case),
            self.expected(case, weights),
            "after CompressConstant (int8_asym), save and open",
        )
        graph = self.backend.builder.build(opened)
        for name in weights:
            expect(
                name in graph.constants and graph.constants[name].compressed is not None,
                f"after save and open the constant {name!r} is not recognised as compressed",
            )

    def test_exported_models_can_be_saved(self, case: ModelCase, tmp_path: Path) -> None:
        """``save`` takes what ``export`` gives, also of a model that came from a file."""
        path = self._path(tmp_path)
        source = case.model()
        builder = self.backend.builder
        builder.save(builder.export(builder.open(source, self.options_for(case)), source), path)
        exported = builder.export(builder.open(path, self.options), path)
        expect(builder.accepts(exported), f"export of a model from a file gave {type(exported).__name__}")
        builder.save(exported, path.with_name(f"again{path.suffix}"))
        again = builder.open(path.with_name(f"again{path.suffix}"), self.options)
        self.same_outputs(self.outputs(again, case), self.expected(case, {}), "after export, save and open, twice")

    def test_a_file_can_replace_its_source(self, case: ModelCase, tmp_path: Path) -> None:
        """A model whose constants are mapped from a file may be saved over that file."""
        path = self._path(tmp_path)
        self.backend.builder.save(self.opened(case), path)
        model = self.backend.builder.open(path, self.options)
        self.backend.builder.save(model, path)
        opened = self.backend.builder.open(path, self.options)
        self.same_outputs(self.outputs(opened, case), self.expected(case, {}), "after saving over the opened file")

    def test_the_same_model_gives_the_same_bytes(self, case: ModelCase, tmp_path: Path) -> None:
        """Files depend on nothing but the model."""
        first, second = self._path(tmp_path), self._path(tmp_path).with_name(f"second{self._path(tmp_path).suffix}")
        for path in (first, second):
            self.backend.builder.save(self._int8(case)[0], path)
        expect(first.read_bytes() == second.read_bytes(), "saving one model twice gave two different files")

    def test_saving_is_atomic(self, case: ModelCase, tmp_path: Path) -> None:
        """When the last step of saving fails, the old file is whole and nothing else is left behind."""
        path = self._path(tmp_path)
        self.backend.builder.save(self.opened(case), path)
        before = _contents(tmp_path)
        model = self._int8(case)[0]
        with _renaming_fails():
            try:
                self.backend.builder.save(model, path)
            except OSError:
                pass
            except NNCFError:
                pass
            else:
                expect(
                    not case.weights,
                    "GraphBuilder.save wrote into the old file, or swallowed an error: write to a temporary name in "
                    "the same folder, then os.replace (nncf_core.files.replacing does both)",
                )
        expect(
            _contents(tmp_path) == before,
            f"a failed save changed the folder: there were {sorted(before)}, there are {sorted(_contents(tmp_path))}, "
            "or the old file was changed (use nncf_core.files.replacing)",
        )

    def test_streaming_gives_the_same_model(self, case: ModelCase, tmp_path: Path) -> None:
        """A model that is written while it is compressed is the one that is written at the end."""
        builder, path = self._streaming(), self._path(tmp_path)
        model = self.opened(case)
        edits, weights = self._int8_edits(model, case)
        with builder.streaming(model, path):
            model = self.apply(model, edits)
            expect(not path.exists(), "within streaming the file must not be in its place yet")
            builder.save(model, path)
        opened = builder.open(path, self.options)
        self.same_outputs(self.outputs(opened, case), self.expected(case, weights), "after streaming")

    def test_streaming_that_fails_changes_nothing(self, case: ModelCase, tmp_path: Path) -> None:
        """An error while a model is written leaves the old file and nothing else."""
        builder, path = self._streaming(), self._path(tmp_path)
        builder.save(self.opened(case), path)
        before, model = _contents(tmp_path), builder.open(path, self.options)
        edits, _ = self._int8_edits(model, case)
        try:
            with builder.streaming(model, path):
                self.apply(model, edits)
                raise _DeliberateError
        except _DeliberateError:
            pass
        expect(_contents(tmp_path) == before, "an error within streaming changed the folder of the file")

    def test_missing_and_broken_files_are_errors(self, case: ModelCase, tmp_path: Path) -> None:
        """No file, a folder that does not exist, cut-off files and nonsense give the framework's errors."""
        path = self._path(tmp_path)
        _raises(InvalidPathError, "open of a missing file", lambda: self.backend.builder.open(path, self.options))
        model = self.opened(case)
        nowhere = tmp_path / "no such folder" / path.name
        _raises(InvalidPathError, "save into a missing folder", lambda: self.backend.builder.save(model, nowhere))
        self.backend.builder.save(model, path)
        whole = path.read_bytes()
        for label, content in {
            "an empty file": b"",
            "a text file": b"This is no model.\n" * 40,
            "the first half of a file": whole[: len(whole) // 2],
            "a file without its last bytes": whole[:-16],
        }.items():
            path.write_bytes(content)
            _raises(NNCFError, f"open and build of {label}", lambda: self._use(path, case))

    def _use(self, path: Path, case: ModelCase) -> None:
        model = self.backend.builder.open(path, self.options)
        graph = self.backend.builder.build(model)
        expect(any(name in graph.constants for name in case.weights) or not case.weights, "weights are lost")

    def _path(self, folder: Path) -> Path:
        if not self.backend.builder.suffixes:
            raise SkipTest("the backend states no file suffixes")
        return folder / f"model{self.backend.builder.suffixes[0]}"

    def _streaming(self) -> Any:
        if not isinstance(self.backend.builder, StreamingBuilder):
            raise SkipTest("the graph builder does not write while a model is edited")
        return self.backend.builder

    def _int8(self, case: ModelCase) -> tuple[Any, dict[str, Any]]:
        model = self.opened(case)
        edits, weights = self._int8_edits(model, case)
        return self.apply(model, edits), weights

    def _int8_edits(self, model: Any, case: ModelCase) -> tuple[list[CompressConstant], dict[str, Any]]:
        graph = self.backend.builder.build(model)
        tensors = {
            name: compressed(array, SCHEMES["int8_asym"], layout_of(graph, name), -1)
            for name, array in case.weights.items()
        }
        edits = [CompressConstant(name, tensor) for name, tensor in tensors.items()]
        return edits, {name: decompress(tensor) for name, tensor in tensors.items()}


def _raises(kind: type[Exception], what: str, action: Any) -> None:
    try:
        action()
    except kind:
        return
    except Exception as error:
        expect(False, f"{what} must raise {kind.__name__}, not {error!r}")
    expect(False, f"{what} must raise {kind.__name__}; it raised nothing")


def _contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@contextmanager
def _renaming_fails() -> Iterator[None]:
    error = OSError(28, "No space left on device")
    names = ("replace", "rename", "renames", "link")
    with mock.patch.multiple(os, **{name: mock.Mock(side_effect=error) for name in names}):
        yield
