"""Formats and schemes against the definitions that others publish."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from nncf_core.errors import ValidationError
from nncf_core.numerics.formats import FORMATS, SCHEMES, scheme_for
from nncf_core.parameters import CompressWeightsMode


def test_e2m1_is_that_of_ml_dtypes():
    every = np.arange(16, dtype=np.uint8).view(ml_dtypes.float4_e2m1fn).astype(np.float32)
    np.testing.assert_array_equal(np.array(FORMATS["f4e2m1"].values, np.float32), every)
    assert np.signbit(FORMATS["f4e2m1"].values[8])


def test_tables():
    nf4 = FORMATS["nf4"].values
    assert len(nf4) == 16
    assert (nf4[0], nf4[7], nf4[15]) == (-1.0, 0.0, 1.0)
    assert list(nf4) == sorted(nf4)
    cb4 = np.array(SCHEMES["cb4"].codebook, np.float32)
    np.testing.assert_array_equal(cb4.astype(ml_dtypes.float8_e4m3fn).astype(np.float32), cb4)


def test_integers():
    assert (FORMATS["int3"].lo, FORMATS["int3"].hi, FORMATS["int3"].signed) == (-4, 3, True)
    assert (FORMATS["uint4"].lo, FORMATS["uint4"].hi, FORMATS["uint4"].signed) == (0, 15, False)


def test_every_mode_has_a_scheme_but_the_fitted_one():
    for mode in CompressWeightsMode:
        if mode == CompressWeightsMode.ADAPTIVE_CODEBOOK:
            with pytest.raises(ValidationError, match="'adaptive_codebook'"):
                scheme_for(mode)
        else:
            assert scheme_for(mode) in SCHEMES.values()
    assert scheme_for("int8").name == "int8_asym"
    assert scheme_for("e2m1").name == "mxfp4"
    assert scheme_for("cb4_f8e4m3").name == "cb4"


def test_group_sizes():
    default = {name: scheme.default_group_size for name, scheme in SCHEMES.items()}
    assert [name for name, size in default.items() if size == -1] == ["int8_sym", "int8_asym", "cb4", "codebook"]
    assert (default["mxfp4"], default["mxfp8_e4m3"], default["nvfp4"], default["fp8_e4m3"]) == (32, 32, 16, 128)
    assert {s.name: s.fixed_group_size for s in SCHEMES.values() if s.fixed_group_size} == {
        "mxfp4": 32,
        "mxfp8_e4m3": 32,
        "nvfp4": 16,
    }
