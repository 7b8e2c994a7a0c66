"""OpenVINO's model converter, called through the one that commands put in its place."""

from __future__ import annotations

import logging

import pytest

pytest.importorskip("nncf_openvino")

from nncf_openvino.runtime import _convert_model


def test_a_conversion_that_fails_leaves_loggers_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    root = logging.getLogger()
    monkeypatch.setattr(root, "level", logging.WARNING)
    with pytest.raises(Exception, match="no such model"):
        _convert_model("no such model.onnx")
    assert root.level == logging.WARNING
