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

PREFILL_TOKENS = 16384  # prompt tokens, padding included, of one prefill pass
STALL = 16  # rows wait until this share (1 / STALL) of the places is free: a prefill stops all others meanwhile


@dataclass(frozen=True)
class DecodeContext:
    """What a decoder works with: the weights as they are now, and how ended rows become text.

    ``look`` is the number of steps from one look for ended rows to the next; on a GPU a look waits for it.
    ``capture`` makes a step one that runs again without the host's part; None: the host does its part every time.
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
    """At most ``capacity`` rows at once, of at most ``width`` positions."""

    def __init__(self, means: DecodeContext, sampling: Sampling, capacity: int, width: int) -> None:
        self.means, self.sampling, self.capacity = means, sampling, capacity
        device = means.head_VH.device
        self.slots = Slots(means.layers, capacity, width, device)
        self.board = new_buffer(capacity, sampling.max_tokens, device)
        self.stop_E = torch.tensor(means.stops, device=device)
        self.waiting: deque[SampleRow] = deque()
        self._prepare()

    def _prepare(self) -> None:
        self.means.forward.reach(self.slots.width)
        self.run: Step = self._step
        if self.means.capture is not None:
            self.run = Graphs(self._step, self.capacity, self.slots.width, self.means.capture)

    @property
    def idle(self) -> bool:
        """Whether nothing is under way or waiting."""
        return not self.waiting and not self.slots.active

    @property
    def free(self) -> bool:
        """Whether there is a place that nobody waits for."""
        return not self.waiting and self.slots.active < self.capacity

    def extend(self, rows: Sequence[SampleRow]) -> None:
        """Let further rows wait."""
        self.waiting.extend(rows)
        if self.slots.widen(width(rows, self.sampling)):
            self._prepare()

    def go_on(self, each: Callable[[FinishedRow], None]) -> None:
        """Admit rows or decode; tell ``each`` of the rows that ended with it."""
        if self._admits():
            self._admit()
        else:
            for _ in range(self.means.look):
                self._decode()
        self._retire(each)

    def _admits(self) -> bool:
        free = self.capacity - self.slots.active
        enough = min(len(self.waiting), -(-self.capacity // STALL))
        return bool(self.waiting) and (free >= enough or not self.slots.active)

    def _admit(self) -> None:
        """Prefill the next rows' prompts, each prompt once, and draw their first tokens."""
        taken, prompts = self._next()
        device = self.stop_E.device
        length_P = torch.tensor([len(prompt) for prompt in prompts], device=device)
        token_PT = pad_sequence([torch.tensor(prompt) for prompt in prompts], batch_first=True).to(device)
        source_S = torch.tensor([prompts[row.prompt] for row in taken], device=device)
        rows = self.slots.take(length_P[source_S])
        hidden_PTH = self.means.forward.prefill(
            token_PT, lambda layer, key, value: self.slots.fill(layer, rows, source_S, key, value)
        )
        most = self.sampling.max_tokens
        drawn = [uniforms(row.seed, row.problem.id, row.sample, most) for row in taken]
        self.board.place(rows, taken, torch.stack(drawn))
        last_PH = hidden_PTH[torch.arange(len(prompts), device=device), length_P - 1]
        self._draw(last_PH, rows, source_S)
        size, longest = token_PT.shape
        self.means.tally["prefill"].add(size * longest, size * longest * (longest + 1) // 2, size)

    def _next(self) -> tuple[list[SampleRow], dict[tuple[int, ...], int]]:
        """Take the rows that are admitted together from those waiting; number their prompts."""
        taken: list[SampleRow] = []
        prompts: dict[tuple[int, ...], int] = {}
        longest = 0
        while self.waiting and self.slots.active + len(taken) < self.capacity:
            prompt = self.waiting[0].prompt
            longest = max(longest, len(prompt))
            if prompts and prompt not in prompts and (len(prompts) + 1) * longest > PREFILL_TOKENS:
                break
            prompts.setdefault(prompt, len(prompts))
            taken.append(self.waiting.popleft())
        return taken, prompts

    def _decode(self) -> None:
        """One new token for every active row."""
        rows, span = self.slots.active, self.slots.longest + 1
        self.run(rows, min(span, self.slots.width))
        self.slots.advance()
        self.means.tally["decode"].add(rows, self.slots.held, rows)

    def _step(self, rows: int, span: int) -> None:
        """One step of the first ``rows`` over ``span`` positions: works on the device alone, so it can be captured."""
        live_S = ~self.board.done_S[:rows]
        hidden_SH = self.means.forward.step(self.board.last_S[:rows], self.slots, span)
        self.slots.length_S[:rows] += live_S
        self._draw(hidden_SH, slice(0, rows))

    def _draw(self, hidden_PH: Tensor, rows: slice, source_S: Tensor | None = None) -> None:
        logits_PV = logits(hidden_PH.to(self.means.head_VH.dtype), self.means.head_VH)
        logits_SV = logits_PV if source_S is None else logits_PV[source_S]
        uniform_S = self.board.uniform_SN[rows].gather(1, self.board.count_S[rows, None])[:, 0]
        self.board.record(rows, draw(logits_SV, uniform_S, self.sampling), self.stop_E)

    def _retire(self, each: Callable[[FinishedRow], None]) -> None:
        """Take finished rows out, telling ``each`` of them."""
        over: list[int] = self.board.done_S[: self.slots.active].nonzero()[:, 0].tolist()
        if not over:
            return
        for row, columns in zip(over, self.board.columns(over), strict=True):
            tokens = columns[0].tolist()
            stop: Stop = "end" if tokens[-1] in self.means.stops else "length"
            asked = self.board.rows[row]
            text = self.means.text(asked, tokens[:-1] if stop == "end" else tokens)
            each(FinishedRow(asked, columns, text, stop))
        self.slots.drop(*self.board.drop(over))


def width(rows: Sequence[SampleRow], sampling: Sampling) -> int:
    """Return the positions that the longest of ``rows`` may come to, 0 for none."""
    return max((len(row.prompt) + sampling.max_tokens for row in rows), default=0)
