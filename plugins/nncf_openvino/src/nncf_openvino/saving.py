"""Writing models, aside first and then renamed."""

from __future__ import annotations

import tempfile
from pathlib import Path

import openvino as ov

from nncf_core.errors import InvalidPathError, ValidationError
from nncf_core.files import replacing
from nncf_openvino.opening import reason_of


def save(model: ov.Model, path: Path) -> None:
    """Write an .xml file and its .bin file; constants of equal bytes are written once.

    :raises ValidationError: when the path does not end in ``.xml``.
    :raises InvalidPathError: when the folder is missing or not writable, or the disk is full.
    """
    if path.suffix.lower() != ".xml":
        raise ValidationError(f"Cannot write {path}: the name of an OpenVINO model ends in .xml.")
    weights = path.with_suffix(".bin")
    # the weights are renamed last but one and the model right after it: no reading of the old pair comes between
    with replacing(path) as temporary, replacing(weights) as temporary_weights:
        try:
            with tempfile.TemporaryDirectory(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent) as folder:
                xml, binary = Path(folder) / "model.xml", Path(folder) / "model.bin"
                ov.serialize(model, xml, binary)
                for made, target in ((xml, temporary), (binary, temporary_weights)):
                    # some file systems write a file to the disk at once when it takes the place of another
                    target.unlink()
                    made.rename(target)
        except (OSError, RuntimeError) as error:
            raise InvalidPathError(f"Cannot write {path}: {reason_of(error)}.") from None
