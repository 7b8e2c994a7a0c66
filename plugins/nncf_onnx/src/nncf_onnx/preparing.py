"""What is done to a working model before quantizers are inserted: fewer operators between layers, the same results."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import onnx_ir as ir
from onnx_ir.passes.common import ShapeInferencePass, shape_inference

from nncf_core.log import nncf_logger
from nncf_onnx.constant_folding import fold_constants
from nncf_onnx.hard_swish import fuse_hard_swish
from nncf_onnx.naming import named_nodes
from nncf_onnx.options import prepare_options
from nncf_onnx.rewriting import Rewriter
from nncf_onnx.scale_folding import fold_scales


def prepare(model: ir.Model, options: Mapping[str, Any]) -> ir.Model:
    """Change a model in place, see :meth:`nncf_core.contracts.PreparingInserter.prepare`."""
    steps = prepare_options(options)
    # names that are made up depend on the place of a node, which is to be known by the same name afterwards
    for name, node in named_nodes(model).items():
        node.name = name
    rewriter = Rewriter(model)
    constants = fold_constants(model, rewriter) if steps.fold_constants else 0
    if steps.fold_batch_norm or steps.fold_scales:
        # whether an operand makes a tensor larger is to be known
        _infer_shapes(model)
    swish = fuse_hard_swish(model, rewriter) if steps.fuse_hard_swish else 0
    scales = fold_scales(model, rewriter, steps.fold_scales, steps.fold_batch_norm)
    done = {"nodes of constants computed": constants, "hard swishes fused": swish, "nodes folded into layers": scales}
    said = [f"{count} {what}" for what, count in done.items() if count]
    if said:
        nncf_logger.info("Prepared for quantization: %s.", ", ".join(said))
    return model


def _infer_shapes(model: ir.Model) -> None:
    """Let a model state the shapes that can be inferred; of one that is not valid, none are.

    onnx_ir logs a traceback then, where one line will do.
    """

    def keep(record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if error is not None:
            nncf_logger.debug("Shapes were not inferred: %s", error)
        return error is None

    logger = logging.getLogger(shape_inference.__name__)
    logger.addFilter(keep)
    try:
        ShapeInferencePass(check_type=False, data_prop=False)(model)
    finally:
        logger.removeFilter(keep)
