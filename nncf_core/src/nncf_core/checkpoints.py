"""What a calibration has finished, in a folder, so that an interrupted one can go on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from attrs import define, field

from nncf_core.errors import ValidationError, sentence
from nncf_core.files import replacing, unwritable
from nncf_core.plan import Plan
from nncf_core.transformations import Transformation

_VERSION = 1


@define
class Checkpoints:
    """Finished parts of a calibration.

    :param folder: where they are; made when it does not exist.
    :param framework: name of the backend.
    :param run: a digest of the model and the settings.
    """

    folder: Path
    framework: str
    run: str
    _digest: str = ""
    _count: int = 0
    _index: list[dict[str, Any]] = field(factory=list)

    @property
    def index(self) -> list[dict[str, Any]]:
        """What waited in the spool after the last finished part."""
        return self._index

    def open(self, digest: str) -> list[tuple[Transformation, ...]]:
        """The edits of each finished part.

        :param digest: of the data.
        :raises ValidationError: when they are of another model, other settings or other data, or broken.
        """
        self._digest = digest
        try:
            state: dict[str, Any] = json.loads(self._state.read_text())
            stored = [state[name] for name in ("version", "framework", "run", "data")]
            self._count, self._index = int(state["parts"]), list(state["tensors"])
        except FileNotFoundError:
            return []
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise ValidationError(
                f"{self._state} is not readable: {sentence(error)} Remove {self.folder} to begin anew."
            ) from None
        for mine, its, what in zip(
            (_VERSION, self.framework, self.run, digest),
            stored,
            ("version of this file", "framework", "model or settings", "calibration data"),
            strict=True,
        ):
            if mine != its:
                raise ValidationError(
                    f"The work folder {self.folder} holds a calibration with another {what}. Give another work_dir, or "
                    "remove it to begin anew."
                )
        return [self._plan(number) for number in range(self._count)]

    def write(self, edits: Sequence[Transformation], index: list[dict[str, Any]]) -> None:
        """Write down that one more part is finished.

        :param index: what waits in the spool for later parts.
        :raises InvalidPathError: when a file cannot be written.
        """
        Plan(self.framework, (), (("", tuple(edits)),)).save(self._part(self._count))
        self._count, self._index = self._count + 1, index
        state = {
            "version": _VERSION,
            "framework": self.framework,
            "run": self.run,
            "data": self._digest,
            "parts": self._count,
            "tensors": index,
        }
        try:
            with replacing(self._state) as temporary:
                temporary.write_text(json.dumps(state, indent=1))
        except OSError as error:
            raise unwritable(self._state, error) from None

    @property
    def _state(self) -> Path:
        return self.folder / "state.json"

    def _part(self, number: int) -> Path:
        return self.folder / f"part-{number}"

    def _plan(self, number: int) -> tuple[Transformation, ...]:
        return Plan.load(self._part(number)).steps[0][1]
