"""Fit prompts into a model's context: too long prompts raise, or are cut and counted."""

from __future__ import annotations

from dataclasses import dataclass, field

from archer.errors import DataError

Ids = tuple[int, ...]


@dataclass
class ContextWindow:
    """The model's ``context`` in tokens; ``truncate`` allows prompts to lose their beginning.

    ``cut`` counts the lost tokens by the name of the request.
    """

    context: int
    truncate: bool = False
    cut: dict[str, int] = field(default_factory=dict)

    def fit(self, name: str, prompt: Ids, after: int) -> Ids:
        """Return the prompt, or its end, leaving room for ``after`` tokens. Raises DataError if it does not fit."""
        room = self.context - after
        if len(prompt) <= room:
            return prompt
        if room < 1:
            raise DataError(
                f"{name}: {after} tokens are to follow the prompt, the model holds {self.context}; lower max_gen_toks"
            )
        if not self.truncate:
            raise DataError(
                f"{name}: a prompt of {len(prompt)} tokens and {after} to follow, the model holds {self.context}; use "
                "fewer shots, lower max_gen_toks, or allow prompts to lose their beginning (--truncate)"
            )
        self.cut[name] = len(prompt) - room
        return prompt[-room:]
