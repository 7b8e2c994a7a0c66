"""Trains the small transformer of the demo on scikit-learn's handwritten digits, and exports it to ONNX.

Each 8×8 image is a sequence of 64 tokens, the grey levels 0 to 16; the model reads them as a language model reads
words: an embedding, positions, three encoder layers, and a head on the mean. Needs, besides the project:

    pip install torch onnx onnxscript scikit-learn

The seed is fixed, so the same versions give the same file.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import onnx
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn

LEVELS, PIXELS, CLASSES = 17, 64, 10
WIDTH, HEADS, LAYERS, HIDDEN = 128, 4, 3, 256
SEED = 0


class Layer(nn.Module):
    """A pre-norm encoder layer."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.query, self.key = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.value, self.out = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.up, self.down = nn.Linear(WIDTH, HIDDEN), nn.Linear(HIDDEN, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        """[batch, pixels, width] to the same."""
        h = self.norm1(x)
        q, k, v = (p(h).unflatten(-1, (HEADS, -1)).transpose(1, 2) for p in (self.query, self.key, self.value))
        weights = torch.softmax(q @ k.transpose(2, 3) * (WIDTH // HEADS) ** -0.5, dim=-1)
        x = x + self.out((weights @ v).transpose(1, 2).flatten(2))
        return x + self.down(nn.functional.gelu(self.up(self.norm2(x))))


class DigitsTransformer(nn.Module):
    """Tokens [batch, 64] to class scores [batch, 10]."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Embedding(LEVELS, WIDTH)
        self.positions = nn.Parameter(torch.randn(PIXELS, WIDTH) * 0.1)
        self.layers = nn.Sequential(*(Layer() for _ in range(LAYERS)))
        self.norm = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, CLASSES)

    def forward(self, tokens: Tensor) -> Tensor:
        """Class scores."""
        x = self.layers(self.tokens(tokens) + self.positions)
        return self.head(self.norm(x).mean(dim=1))


def split() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Training and held-out tokens and labels; the demo makes the same split."""
    digits = load_digits()
    tokens = digits.data.astype(np.int64)
    x, x_test, y, y_test = train_test_split(
        tokens, digits.target, test_size=0.3, random_state=0, stratify=digits.target
    )
    return x, x_test, y, y_test


def train(epochs: int) -> tuple[DigitsTransformer, float]:
    """A trained model and its held-out accuracy."""
    torch.manual_seed(SEED)
    x, x_test, y, y_test = (torch.from_numpy(array) for array in split())
    model = DigitsTransformer()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.05)
    batches = -(-len(x) // 64)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1.5e-3, total_steps=epochs * batches)
    for epoch in range(epochs):
        model.train()
        for chosen in torch.randperm(len(x)).split(64):
            # grey levels a little lighter or darker, against learning the images by heart
            noise = torch.randint(-1, 2, x[chosen].shape)
            noisy = (x[chosen] + noise * (x[chosen] > 0)).clamp(0, LEVELS - 1)
            loss = nn.functional.cross_entropy(model(noisy), y[chosen], label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        print(f"epoch {epoch + 1}/{epochs}: loss {loss.item():.4f}", flush=True)
    model.eval()
    with torch.no_grad():
        accuracy = (model(x_test).argmax(1) == y_test).float().mean().item()
    return model, accuracy


def strip_notes(path: Path) -> None:
    """Remove what the exporter notes beside the graph: source lines, and the paths of the machine that made it."""
    model = onnx.load(path)
    graph = model.graph
    for part in (model, graph, *graph.node, *graph.initializer, *graph.value_info, *graph.input, *graph.output):
        part.ClearField("doc_string")
        part.ClearField("metadata_props")
    model.ClearField("producer_version")
    path.write_bytes(model.SerializeToString(deterministic=True))


def main() -> None:
    """Train and export."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path(__file__).with_name("digits_transformer.onnx"))
    parser.add_argument("--epochs", type=int, default=90)
    options = parser.parse_args()
    model, accuracy = train(options.epochs)
    program = torch.onnx.export(
        model,
        (torch.zeros(2, PIXELS, dtype=torch.int64),),
        dynamo=True,
        opset_version=21,
        input_names=["tokens"],
        output_names=["scores"],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
    )
    program.save(options.output, external_data=False)
    strip_notes(options.output)
    parameters = sum(p.numel() for p in model.parameters())
    facts = {"data": "scikit-learn digits, 30 % held out", "accuracy": round(accuracy, 4), "parameters": parameters}
    options.output.with_suffix(".json").write_text(json.dumps(facts, indent=2) + "\n")
    print(f"{options.output}: held-out accuracy {accuracy:.4f}, {parameters} parameters")


if __name__ == "__main__":
    main()
