"""Turns problems into token ids, by the model's own chat template."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from transformers import PreTrainedTokenizerBase

from archer.errors import ModelError
from archer.types import Json, Problem

Tokenizer = PreTrainedTokenizerBase
REMEMBERED = 16384  # prompts whose token ids are kept


class PromptEncoder(Protocol):
    """Encodes problems for an engine."""

    def encode(self, problem: Problem) -> tuple[int, ...]:
        """Return the prompt's token ids."""
        ...


@dataclass(frozen=True)
class PromptRenderer:
    """Renders problems through the chat template, each prompt tokenized once."""

    tokenizer: PreTrainedTokenizerBase
    switches: Mapping[str, Json] = field(default_factory=dict)
    """Arguments of the chat template, such as ``enable_thinking: false`` for Qwen3."""
    _encoded: dict[tuple[str, str], tuple[int, ...]] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Raise ModelError for a tokenizer without a chat template: a guessed one would train on the wrong prompts."""
        if not self.tokenizer.chat_template:
            raise ModelError(
                f"{self.tokenizer.name_or_path}: the tokenizer has no chat template; add chat_template.jinja to the "
                "model folder (a base model's prompt format is yours to decide)"
            )

    def render(self, problem: Problem) -> str:
        """Return the prompt as the model sees it, ready for the response."""
        text = self.tokenizer.apply_chat_template(
            messages(problem), add_generation_prompt=True, tokenize=False, **self.switches
        )
        return str(text)

    def encode(self, problem: Problem) -> tuple[int, ...]:
        """Return the prompt's token ids; the template writes its own special tokens, so none are added."""
        key = problem.system, problem.prompt
        if key not in self._encoded:
            if len(self._encoded) >= REMEMBERED:
                self._encoded.clear()
            self._encoded[key] = tuple(self.tokenizer.encode(self.render(problem), add_special_tokens=False))
        return self._encoded[key]


def messages(problem: Problem) -> list[dict[str, str]]:
    """Return the problem as a chat: its system message, if it has one, and the user's."""
    system = [{"role": "system", "content": problem.system}] if problem.system else []
    return [*system, {"role": "user", "content": problem.prompt}]
