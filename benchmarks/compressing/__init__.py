"""Methods of weight compression that use data, and the networks that they are measured on.

Everything here but ``prepare`` of a subject needs numpy, OpenVINO and an ``nncf`` alone, so that each of two
environments can run it: ``python -m benchmarks.compressing`` compresses, ``python -m benchmarks.compressing.scoring``
measures.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

MAIN = "weight_compression"


class Method(NamedTuple):
    """A way to compress.

    :param title: how tables call it.
    :param arguments: of ``nncf.compress_weights``, besides those of the subject.
    :param data: whether it is given calibration data.
    :param sections: algorithms of this project, in their order, where it is one that the reference does not have;
        the arguments then go to the section of ``weight_compression``.
    """

    title: str
    arguments: Mapping[str, Any] = {}
    data: bool = True
    sections: tuple[str, ...] = ()


MAX = (MAIN, "error_propagation", "gptq", "refinement")

METHODS = {
    "rtn": Method("data-free", data=False),
    "awq": Method("AWQ", {"awq": True}),
    "scale_estimation": Method("scale estimation", {"scale_estimation": True}),
    "awq_scale_estimation": Method("AWQ, scale estimation", {"awq": True, "scale_estimation": True}),
    "gptq": Method("GPTQ", {"gptq": True}),
    "awq_scale_estimation_gptq": Method("AWQ, GPTQ with scale estimation",
                                        {"awq": True, "scale_estimation": True, "gptq": True}),
    "lora_correction": Method("LoRA correction", {"lora_correction": True}),
    "nf4": Method("NF4, data-free", {"mode": "nf4"}, data=False),
    "nf4_scale_estimation": Method("NF4, scale estimation", {"mode": "nf4", "scale_estimation": True}),
    "mixed_free": Method("60 % INT4_SYM, data-free", {"mode": "int4_sym", "ratio": 0.6}, data=False),
    "mixed": Method("60 % INT4_SYM, by activations' largest variance", {"mode": "int4_sym", "ratio": 0.6}),
    "mixed_hessian": Method("60 % INT4_SYM, by the trace of the Hessian",
                            {"mode": "int4_sym", "ratio": 0.6, "sensitivity_metric": "hessian_input_activation"}),
    "int8_asym": Method("INT8_ASYM, data-free", {"mode": "int8_asym"}, data=False),
    "scale_search": Method("scale search", sections=(MAIN, "scale_search")),
    "scale_search_free": Method("scale search, data-free", data=False, sections=(MAIN, "scale_search")),
    "error_propagation_gptq": Method("error propagation, GPTQ", sections=MAX[:-1]),
    "max": Method("quality max: " + ", ".join(MAX[1:]), sections=MAX),
}  # fmt: skip
