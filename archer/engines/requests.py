"""What every engine of token ids does with requests before it samples, and with tokens afterwards."""

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
TAIL = 16  # tokens of a prompt that surely hold it, and white space behind it


def rows_of(
    asks: Sequence[Request], prompts: PromptEncoder, sampling: Sampling, context: int | None, first: int = 0
) -> list[SampleRow]:
    """Return one row a sample, placed from ``first`` on. Raises DataError for one too long for the model."""
    rows: list[SampleRow] = []
    for ask in asks:
        prompt = prompts.encode(ask.problem)
        check_width(ask.problem.id, len(prompt), sampling.max_tokens, context)
        rows += [
            SampleRow(first + len(rows) + place, ask.problem, sample, ask.seed, prompt)
            for place, sample in enumerate(ask.samples)
        ]
    return rows


def collect_rollouts(
    version: int, finished: OnRollout, run: Callable[[Callable[[FinishedRow], None]], None]
) -> list[Rollout]:
    """Return the rollouts of the rows that ``run`` tells of, in the order asked, telling ``finished`` of each."""
    done: dict[int, Rollout] = {}

    def keep(ended: FinishedRow) -> None:
        rollout = ended.rollout(version)
        done[ended.row.place] = rollout
        finished(rollout)

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
    """Return a response's text: ``tokens`` (without the end token), behind ``<think>`` where the template opened it.

    A grader looks for the end of a thought, so it must see the beginning.
    """
    return opener(tokenizer, tuple(prompt[-TAIL:])) + str(tokenizer.decode(list(tokens), skip_special_tokens=True))


@lru_cache(maxsize=4096)  # one group's rows, and one template's prompts, end alike
def opener(tokenizer: PreTrainedTokenizerBase, tail: tuple[int, ...]) -> str:
    """Return ``<think>`` where a prompt that ends in ``tail`` opened a thought."""
    return THINK if tokenizer.decode(list(tail)).rstrip().endswith(THINK) else ""
