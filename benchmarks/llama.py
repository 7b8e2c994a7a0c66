"""SmolLM2-135M as a plain PyTorch module, as an OpenVINO IR, and as the file of weights that both are made from."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import nn

CACHE = Path(".cache/benchmarks")
HEADS, KV_HEADS, WIDTH, LAYERS, HIDDEN, VOCABULARY = 9, 3, 576, 30, 1536, 49152
EPSILON, THETA = 1e-5, 100000.0


class Attention(nn.Module):
    """Causal grouped-query attention with rotary positions on neighbouring pairs."""

    def __init__(self) -> None:
        super().__init__()
        size = WIDTH // HEADS
        self.q, self.output = nn.Linear(WIDTH, WIDTH, bias=False), nn.Linear(WIDTH, WIDTH, bias=False)
        self.k, self.v = (nn.Linear(WIDTH, KV_HEADS * size, bias=False) for _ in range(2))

    def forward(self, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        """[batch, length, width] to the same."""
        batch, length, _ = x.shape

        def split(y: torch.Tensor, heads: int) -> torch.Tensor:
            return y.view(batch, length, heads, -1).transpose(1, 2)

        def rotate(y: torch.Tensor) -> torch.Tensor:
            even, odd = y[..., 0::2], y[..., 1::2]
            return torch.stack((even * cos - odd * sin, even * sin + odd * cos), -1).flatten(-2)

        query, key = rotate(split(self.q(x), HEADS)), rotate(split(self.k(x), KV_HEADS))
        key, value = (y.repeat_interleave(HEADS // KV_HEADS, 1) for y in (key, split(self.v(x), KV_HEADS)))
        mixed = nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        return self.output(mixed.transpose(1, 2).reshape(batch, length, WIDTH))


class Layer(nn.Module):
    """Attention and SwiGLU, each after a norm and added to what came in."""

    def __init__(self) -> None:
        super().__init__()
        self.attn_norm, self.ffn_norm = nn.RMSNorm(WIDTH, EPSILON), nn.RMSNorm(WIDTH, EPSILON)
        self.attn = Attention()
        self.gate, self.up = nn.Linear(WIDTH, HIDDEN, bias=False), nn.Linear(WIDTH, HIDDEN, bias=False)
        self.down = nn.Linear(HIDDEN, WIDTH, bias=False)

    def forward(self, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        """[batch, length, width] to the same."""
        x = x + self.attn(self.attn_norm(x), cos, sin)
        y = self.ffn_norm(x)
        return x + self.down(nn.functional.silu(self.gate(y)) * self.up(y))


class Llama(nn.Module):
    """Tokens [batch, length] to logits [batch, length, vocabulary]; the head is the table of the embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, WIDTH)
        self.layers = nn.ModuleList(Layer() for _ in range(LAYERS))
        self.norm = nn.RMSNorm(WIDTH, EPSILON)
        self.head = nn.Linear(WIDTH, VOCABULARY, bias=False)
        self.head.weight = self.embedding.weight
        size = WIDTH // HEADS
        angle = torch.arange(2048)[:, None] * THETA ** (-torch.arange(0, size, 2) / size)
        self.register_buffer("cos", angle.cos(), persistent=False)
        self.register_buffer("sin", angle.sin(), persistent=False)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """[batch, length] to [batch, length, vocabulary]."""
        x = self.embedding(tokens)
        cos, sin = self.cos[: tokens.shape[1]], self.sin[: tokens.shape[1]]
        for layer in self.layers:
            x = layer(x, cos, sin)
        logits: torch.Tensor = self.head(self.norm(x))
        return logits


def load(path: Path) -> Llama:
    """The model with the weights of a file; they are mapped into memory."""
    with torch.device("meta"):
        model = Llama()
    model.load_state_dict(torch.load(path, mmap=True, weights_only=True), strict=False, assign=True)
    model.head.weight = model.embedding.weight
    size = WIDTH // HEADS
    angle = torch.arange(2048)[:, None] * THETA ** (-torch.arange(0, size, 2) / size)
    model.cos, model.sin = angle.cos(), angle.sin()
    return model.eval()


def weights(folder: Path = CACHE) -> Path:
    """The file of weights, made when it is not there yet."""
    path = folder / "smollm2-135m.pt"
    if path.exists():
        return path
    from gguf.quants import dequantize

    from benchmarks.smollm2 import gguf_path, reader

    names = {
        "token_embd": "embedding", "output_norm": "norm", "attn_norm": "attn_norm", "ffn_norm": "ffn_norm",
        "attn_q": "attn.q", "attn_k": "attn.k", "attn_v": "attn.v", "attn_output": "attn.output",
        "ffn_gate": "gate", "ffn_up": "up", "ffn_down": "down",
    }  # fmt: skip
    state = {}
    for tensor in reader(gguf_path()).tensors:
        *before, name, _ = tensor.name.split(".")
        target = f"layers.{before[1]}.{names[name]}" if before else names[name]
        state[f"{target}.weight"] = torch.from_numpy(dequantize(tensor.data, tensor.tensor_type).copy())
    state["head.weight"] = state["embedding.weight"]
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(state, path.with_suffix(".tmp"))
    path.with_suffix(".tmp").rename(path)
    return path


def openvino_ir(folder: Path = CACHE) -> Path:
    """The OpenVINO IR, made when it is not there yet."""
    path = folder / "smollm2-135m.xml"
    if not path.exists():
        import openvino

        model = openvino.convert_model(load(weights(folder)), example_input=torch.arange(8)[None])
        openvino.save_model(model, path, compress_to_fp16=False)
    return path


def main() -> None:
    """Make the files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=CACHE, help="where to put them")
    folder = parser.parse_args().folder
    print(weights(folder), openvino_ir(folder))


if __name__ == "__main__":
    main()
