"""One call of `generate`: rows are admitted, decoded together, and retired as they end.

P prompts, T positions, S rows being sampled, N new tokens, H hidden size.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from archer.engines.decode_buffer import FinishedRow, SampleRow, new_buffer
from archer.engines.native.forward import Forward
from archer.engines.native.graphs import Capture, Graphs, Step
from archer.engines.native.slots import Slots
from archer.engines.sampling import draw, uniforms
from archer.models.heads import logits
from archer.system import WorkCounter
from archer.types import Sampling, Stop

PREFILL_TOKENS = 16384  # prompt tokens, padding included, in one prefill pass
STALL = 16  # rows wait until 1 / STALL of the slots is free, because a prefill pauses all other rows


@dataclass(frozen=True)
class DecodeContext:
    """The weights, and everything else that a decoder needs of the engine. V vocabulary, H hidden size.

    - ``forward``: computes hidden states with the current weights
    - ``head_VH``: weight of the LM head
    - ``layers``: number of decoder layers
    - ``stops``: token ids that end a response
    - ``text``: turns a row and its tokens, without the end token, into text
    - ``tally``: counts the work done
    - ``look``: decode steps between two checks for ended rows; on a GPU a check waits for the device
    - ``capture``: records a step so that it can be replayed without host work; None: every step runs normally
    """

    forward: Forward
    head_VH: Tensor
    layers: int
    stops: tuple[int, ...]
    text: Callable[[SampleRow, Sequence[int]], str]
    tally: WorkCounter
    look: int
    capture: Capture | None = None


class Decoder:
    """Decodes at most ``capacity`` rows at a time, of at most ``width`` positions (prompt and response)."""

    def __init__(self, context: DecodeContext, sampling: Sampling, capacity: int, width: int) -> None:
        self.context, self.sampling, self.capacity = context, sampling, capacity
        device = context.head_VH.device
        self.slots = Slots(context.layers, capacity, width, device)
        self.buffer = new_buffer(capacity, sampling.max_tokens, device)
        self.stop_E = torch.tensor(context.stops, device=device)
        self.waiting: deque[SampleRow] = deque()
        self._prepare()

    def _prepare(self) -> None:
        self.context.forward.reach(self.slots.width)
        self.run: Step = self._step
        if self.context.capture is not None:
            self.run = Graphs(self._step, self.capacity, self.slots.width, self.context.capture)

    @property
    def idle(self) -> bool:
        """Whether no row is active or waiting."""
        return not self.waiting and not self.slots.active

    @property
    def free(self) -> bool:
        """Whether a slot is free and no row waits for it."""
        return not self.waiting and self.slots.active < self.capacity

    def extend(self, rows: Sequence[SampleRow]) -> None:
        """Add rows to those waiting."""
        self.waiting.extend(rows)
        if self.slots.widen(width(rows, self.sampling)):
            self._prepare()

    def go_on(self, each: Callable[[FinishedRow], None]) -> None:
        """Admit rows or decode ``look`` steps, then call ``each`` with the rows that ended."""
        if self._admits():
            self._admit()
        else:
            for _ in range(self.context.look):
                self._decode()
        self._retire(each)

    def _admits(self) -> bool:
        free = self.capacity - self.slots.active
        enough = min(len(self.waiting), -(-self.capacity // STALL))
        return bool(self.waiting) and (free >= enough or not self.slots.active)

    def _admit(self) -> None:
        """Prefill the next rows' prompts, each prompt once, and sample their first tokens."""
        admitted, prompts = self._next()
        device = self.stop_E.device
        length_P = torch.tensor([len(prompt) for prompt in prompts], device=device)
        token_PT = pad_sequence([torch.tensor(prompt) for prompt in prompts], batch_first=True).to(device)
        source_S = torch.tensor([prompts[row.prompt] for row in admitted], device=device)
        rows = self.slots.take(length_P[source_S])
        hidden_PTH = self.context.forward.prefill(
            token_PT, lambda layer, key, value: self.slots.fill(layer, rows, source_S, key, value)
        )
        most = self.sampling.max_tokens
        uniform = [uniforms(row.seed, row.problem.id, row.sample, most) for row in admitted]
        self.buffer.place(rows, admitted, torch.stack(uniform))
        last_PH = hidden_PTH[torch.arange(len(prompts), device=device), length_P - 1]
        self._draw(last_PH, rows, source_S)
        size, longest = token_PT.shape
        self.context.tally["prefill"].add(size * longest, size * longest * (longest + 1) // 2, size)

    def _next(self) -> tuple[list[SampleRow], dict[tuple[int, ...], int]]:
        """Return the rows to admit together, removed from those waiting, and a number for each distinct prompt."""
        admitted: list[SampleRow] = []
        prompts: dict[tuple[int, ...], int] = {}
        longest = 0
        while self.waiting and self.slots.active + len(admitted) < self.capacity:
            prompt = self.waiting[0].prompt
            longest = max(longest, len(prompt))
            if prompts and prompt not in prompts and (len(prompts) + 1) * longest > PREFILL_TOKENS:
                break
            prompts.setdefault(prompt, len(prompts))
            admitted.append(self.waiting.popleft())
        return admitted, prompts

    def _decode(self) -> None:
        """Sample a token for every active row."""
        rows, span = self.slots.active, self.slots.longest + 1
        self.run(rows, min(span, self.slots.width))
        self.slots.advance()
        self.context.tally["decode"].add(rows, self.slots.held, rows)

    def _step(self, rows: int, span: int) -> None:
        """Run a step of the first ``rows`` over ``span`` positions, on the device alone so that it can be captured."""
        live_S = ~self.buffer.done_S[:rows]
        hidden_SH = self.context.forward.step(self.buffer.last_S[:rows], self.slots, span)
        self.slots.length_S[:rows] += live_S
        self._draw(hidden_SH, slice(0, rows))

    def _draw(self, hidden_PH: Tensor, rows: slice, source_S: Tensor | None = None) -> None:
        logits_PV = logits(hidden_PH.to(self.context.head_VH.dtype), self.context.head_VH)
        logits_SV = logits_PV if source_S is None else logits_PV[source_S]
        uniform_S = self.buffer.uniform_SN[rows].gather(1, self.buffer.count_S[rows, None])[:, 0]
        self.buffer.record(rows, draw(logits_SV, uniform_S, self.sampling), self.stop_E)

    def _retire(self, each: Callable[[FinishedRow], None]) -> None:
        """Remove the finished rows and call ``each`` with them."""
        over: list[int] = self.buffer.done_S[: self.slots.active].nonzero()[:, 0].tolist()
        if not over:
            return
        for row, columns in zip(over, self.buffer.columns(over), strict=True):
            tokens = columns[0].tolist()
            stop: Stop = "end" if tokens[-1] in self.context.stops else "length"
            sample_row = self.buffer.rows[row]
            text = self.context.text(sample_row, tokens[:-1] if stop == "end" else tokens)
            each(FinishedRow(sample_row, columns, text, stop))
        self.slots.drop(*self.buffer.drop(over))


def width(rows: Sequence[SampleRow], sampling: Sampling) -> int:
    """Return the most positions that one of ``rows`` may need, 0 for no rows."""
    return max((len(row.prompt) + sampling.max_tokens for row in rows), default=0)
