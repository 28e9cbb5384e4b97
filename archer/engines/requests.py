"""What engines that sample token ids share: requests to rows, and finished rows to rollouts and text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

from transformers import PreTrainedTokenizerBase

from archer.engines.base import OnRollout
from archer.engines.decode_buffer import FinishedRow, SampleRow
from archer.errors import DataError
from archer.models.prompts import PromptEncoder
from archer.types import Request, Rollout, Sampling

THINK = "<think>"
TAIL = 16  # last tokens of a prompt, enough to hold it and trailing white space


def rows_of(
    requests: Sequence[Request], prompts: PromptEncoder, sampling: Sampling, context: int | None, first: int = 0
) -> list[SampleRow]:
    """Return one row per sample, numbered from ``first``. Raises DataError if one is too long for the model."""
    rows: list[SampleRow] = []
    for request in requests:
        prompt = prompts.encode(request.problem)
        check_width(request.problem.id, len(prompt), sampling.max_tokens, context)
        rows += [
            SampleRow(first + len(rows) + offset, request.problem, sample, request.seed, prompt)
            for offset, sample in enumerate(request.samples)
        ]
    return rows


def collect_rollouts(
    version: int, on_rollout: OnRollout, run: Callable[[Callable[[FinishedRow], None]], None]
) -> list[Rollout]:
    """Return the rollouts of the rows that ``run`` finishes, in request order; pass each to ``on_rollout``."""
    done: dict[int, Rollout] = {}

    def keep(ended: FinishedRow) -> None:
        rollout = ended.rollout(version)
        done[ended.row.place] = rollout
        on_rollout(rollout)

    run(keep)
    return [done[place] for place in sorted(done)]


def check_width(problem: str, prompt: int, max_tokens: int, context: int | None) -> None:
    """Raise DataError when a prompt and its response do not fit into the model's context."""
    if context is not None and prompt + max_tokens > context:
        raise DataError(
            f"{problem}: a prompt of {prompt} tokens and a response make {prompt + max_tokens} tokens, the model "
            f"holds {context}; lower `max_tokens`, or state a longer `model.context` (rotary positions go on)"
        )


def text_of(tokenizer: PreTrainedTokenizerBase, prompt: Sequence[int], tokens: Sequence[int]) -> str:
    """Return a response's text, with ``<think>`` in front if the prompt ends with it; ``tokens`` exclude the end token.

    A grader looks for the end of the thinking, so the text must contain its beginning.
    """
    return opener(tokenizer, tuple(prompt[-TAIL:])) + str(tokenizer.decode(list(tokens), skip_special_tokens=True))


@lru_cache(maxsize=4096)  # prompts of one chat template end alike
def opener(tokenizer: PreTrainedTokenizerBase, tail: tuple[int, ...]) -> str:
    """Return ``<think>`` if a prompt that ends in ``tail`` ends with it, else ""."""
    return THINK if tokenizer.decode(list(tail)).rstrip().endswith(THINK) else ""
