"""Perplexity of an ONNX language model on prose that every machine has, printed as one number."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import onnxruntime

from benchmarks.smollm2 import gguf_path, reader, tokenizer

WINDOW = 512


def text() -> str:
    """The topics of Python's interactive help."""
    from pydoc_data import topics

    return "\n".join(topics.topics[name] for name in sorted(topics.topics))


def perplexity(path: Path, windows: int) -> float:
    """exp of the mean negative log-likelihood of each token but the first of ``windows`` windows of 512 tokens.

    onnxruntime would compute products with low-bit weights with 8-bit activations by default; here they stay as
    exact as the weights are, so that the figure is that of the weights.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.add_session_config_entry("session.qdq_matmulnbits_accuracy_level", "0")
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    tokens = tokenizer(reader(gguf_path())).encode(text()).ids
    # windows spread over the whole text
    starts = np.linspace(0, len(tokens) - WINDOW, windows).astype(int)
    total = 0.0
    for start in starts:
        window = np.array(tokens[start : start + WINDOW], np.int64)
        logits = session.run(None, {"tokens": window[None]})[0][0].astype(np.float64)
        logits -= logits.max(axis=1, keepdims=True)
        likelihood = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        total -= float(likelihood[np.arange(WINDOW - 1), window[1:]].sum())
    return float(np.exp(total / (windows * (WINDOW - 1))))


def main() -> None:
    """Print the perplexity."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--windows", type=int, default=24)
    options = parser.parse_args()
    print(perplexity(options.model, options.windows), file=sys.stdout)


if __name__ == "__main__":
    main()
