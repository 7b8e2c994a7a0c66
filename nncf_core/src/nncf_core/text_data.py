"""Text that a language model writes itself, to calibrate it with where there is no other (Liu et al. 2023, LLM-QAT,
https://arxiv.org/abs/2305.17888, section 3.1)."""

from __future__ import annotations

from typing import Any

from nncf_core.errors import UnsupportedModelError, ValidationError
from nncf_core.progress import script_progress

_VOCABULARY = 12_000  # of a model that does not say


def generate_text_data(
    model: Any,
    tokenizer: Any,
    seq_len: int = 32,
    dataset_size: int = 128,
    unique_tokens_lower_limit: int = 5,
) -> list[str]:
    """Texts that a model writes, each from another first token.

    The first ``seq_len // 2`` tokens are the most probable ones; what is drawn at random after them is the text. It is
    drawn with PyTorch's own generator: ``torch.manual_seed`` makes it the same again.

    :param model: a causal language model of the transformers library (it has ``generate``).
    :param tokenizer: its tokenizer.
    :param seq_len: number of tokens of a text.
    :param dataset_size: number of texts.
    :param unique_tokens_lower_limit: texts with fewer different tokens are not taken.
    :raises UnsupportedModelError: when the model cannot generate text.
    :raises ValidationError: when a number is not positive, or the whole vocabulary starts too few texts.
    """
    if not callable(getattr(model, "generate", None)):
        raise UnsupportedModelError(
            f"A {type(model).__name__} writes no text: give a model of the transformers library with generate(), such "
            "as AutoModelForCausalLM."
        )
    for name, value in (("seq_len", seq_len), ("dataset_size", dataset_size)):
        if not isinstance(value, int) or value < 1:
            raise ValidationError(f"{name} is {value!r}; it must be an integer of at least 1.")
    words = _vocabulary(model)
    step = max(1, words // dataset_size)
    texts: list[str] = []
    started: set[int] = set()
    first = 0
    for _ in script_progress().track(range(dataset_size), "Generating text data", dataset_size):
        while True:
            # beyond the end, those that were passed over have their turn
            first = next((i % words for i in range(first, first + words) if i % words not in started), -1)
            if first < 0:
                raise ValidationError(
                    f"The model wrote {len(texts)} of {dataset_size} texts with at least {unique_tokens_lower_limit} "
                    "different tokens, from all tokens of its vocabulary. Ask for fewer, or lower "
                    "unique_tokens_lower_limit."
                )
            started.add(first)
            tokens = _written(model, tokenizer, first, seq_len)
            if len(set(tokens)) >= unique_tokens_lower_limit:
                break
            first += 1
        texts.append(str(tokenizer.decode(tokens, skip_special_tokens=True)))
        first += step
    return texts


def _written(model: Any, tokenizer: Any, first: int, length: int) -> list[int]:
    # the tokenizer makes tensors of the model's own library
    start = tokenizer.pad({"input_ids": [[first]]}, return_tensors="pt")["input_ids"].to(model.device)
    likely = model.generate(start, do_sample=False, max_length=max(length // 2, 2))
    behind = len(likely[0])
    drawn = model.generate(likely, do_sample=True, max_length=behind + length, min_new_tokens=1)
    return [int(token) for token in drawn[0][behind:]]


def _vocabulary(model: Any) -> int:
    for name in ("padded_vocab_size", "vocab_size"):
        size = getattr(model.config, name, None)
        if size is not None:
            return int(size)
    return _VOCABULARY
