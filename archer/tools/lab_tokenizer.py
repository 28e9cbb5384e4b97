r"""The lab's tokenizer: bytes, with a merge chain for each fixed word of the lab's texts.

Digits, operators and letters are single tokens; only words such as ``\boxed`` and `` return`` are one token each. The
layout (NFC, Qwen2's split pattern, byte-level BPE) is exactly Qwen2's: transformers, vLLM and their relatives replace
any tokenizer in a ``qwen2`` folder by a ``Qwen2Tokenizer`` with its vocabulary and merges, which then is the same one.
"""

from __future__ import annotations

from transformers import Qwen2Tokenizer
from transformers.convert_slow_tokenizer import bytes_to_unicode

WORDS = (
    "\\boxed", "carry", "columns", "guess", "glance", "search", "try", "table", "line", "drop", "square",
    "max", "min", "mod", "div", "gap", "abs", "```", "python", "def", " return", "   ", " f", ")=", "//", " yes", " no",
)  # fmt: skip
PAD, END, USER, ASSISTANT, SYSTEM = "<|endoftext|>", "<|im_end|>", "<|user|>", "<|assistant|>", "<|system|>"
CHAT_TEMPLATE = (
    "{% for m in messages %}{{ '<|' + m['role'] + '|>' + m['content'] }}"
    "{% if m['role'] == 'assistant' %}{{ '<|im_end|>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def build_tokenizer() -> Qwen2Tokenizer:
    """Return the lab's tokenizer: 256 bytes, the merged words, five special tokens."""
    byte = bytes_to_unicode()
    vocab = {symbol: index for index, symbol in enumerate(byte.values())}
    merges: list[tuple[str, str]] = []
    for word in WORDS:
        symbols = [byte[b] for b in word.encode()]
        left = symbols[0]
        for right in symbols[1:]:
            if (left, right) not in merges:
                merges.append((left, right))
                vocab[left + right] = len(vocab)
            left += right
    specials = [END, USER, ASSISTANT, SYSTEM]
    tokenizer = Qwen2Tokenizer(
        vocab=vocab, merges=merges, eos_token=END, pad_token=PAD, unk_token=PAD,
        additional_special_tokens=specials[1:], clean_up_tokenization_spaces=False,
    )  # fmt: skip
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer
