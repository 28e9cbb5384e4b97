"""One call of `generate`: rows are admitted, decoded together, and retired as they end.

P prompts, T positions, S rows being sampled, N new tokens, H hidden size.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from archer.engines.decode_buffer import new_buffer
from archer.engines.native.forward import Forward
from archer.engines.native.graphs import Capture, Graphs, Step
from archer.engines.native.slots import Slots
from archer.engines.queue import RequestQueue
from archer.engines.requests import TokenCoder
from archer.engines.sampling import draw, uniforms
from archer.models.heads import logits
from archer.system import WorkCounter
from archer.types import Request, Rollout, Sampling

PREFILL_TOKENS = 16384  # prompt tokens, padding included, in one prefill pass
STALL = 16  # rows wait until 1 / STALL of the slots is free, because a prefill pauses all other rows


@dataclass(frozen=True)
class DecodeContext:
    """The weights, and everything else that a decoder needs of the engine. V vocabulary, H hidden size.

    - ``forward``: computes hidden states with the current weights
    - ``head_VH``: weight of the LM head
    - ``layers``: number of decoder layers
    - ``coder``: encodes requests, knows the end tokens, makes rollouts of rows
    - ``tally``: counts the work done
    - ``look``: decode steps between two checks for ended rows; on a GPU a check waits for the device
    - ``capture``: records a step so that it can be replayed without host work; None: every step runs normally
    """

    forward: Forward
    head_VH: Tensor
    layers: int
    coder: TokenCoder
    tally: WorkCounter
    look: int
    capture: Capture | None = None


class Decoder:
    """Decodes a queue's requests, as many rows at a time as wait at first, at most ``slots``."""

    def __init__(self, context: DecodeContext, queue: RequestQueue, sampling: Sampling, slots: int) -> None:
        self.context, self.queue, self.sampling = context, queue, sampling
        self.capacity, device = min(slots, len(queue.waiting)), context.head_VH.device
        self.slots = Slots(context.layers, self.capacity, context.coder.width(queue.waiting), device)
        self.buffer = new_buffer(self.capacity, sampling.max_tokens, device)
        self.stop_E = torch.tensor(context.coder.stops, device=device)
        self.taken: deque[Request] = deque()  # from the queue, and not prefilled yet
        self._prepare()

    def _prepare(self) -> None:
        self.context.forward.reach(self.slots.width)
        self.run: Step = self._step
        if self.context.capture is not None:
            self.run = Graphs(self._step, self.capacity, self.slots.width, self.context.capture)

    @property
    def waiting(self) -> int:
        """How many requests wait for a slot."""
        return len(self.taken) + len(self.queue.waiting)

    @property
    def idle(self) -> bool:
        """Whether no row is active or waiting."""
        return not self.waiting and not self.slots.active

    def rollouts(self) -> Iterator[Rollout]:
        """Decode until nothing is left, the queue's further requests included; yield each rollout as it ends."""
        while not self.idle:
            yield from self._go_on()
            if not self.waiting and self.slots.active < self.capacity:
                self.taken.extend(self.queue.take(self.capacity - self.slots.active, self.idle))
                if self.slots.widen(self.context.coder.width([*self.taken, *self.queue.waiting])):
                    self._prepare()

    def _go_on(self) -> list[Rollout]:
        """Admit rows or decode ``look`` steps; return the rollouts that ended."""
        if self._admits():
            self._admit()
        else:
            for _ in range(self.context.look):
                self._decode()
        return self._retire()

    def _admits(self) -> bool:
        free, waiting = self.capacity - self.slots.active, self.waiting
        enough = min(waiting, -(-self.capacity // STALL))
        return bool(waiting) and (free >= enough or not self.slots.active)

    def _admit(self) -> None:
        """Prefill the next rows' prompts, each prompt once, and sample their first tokens."""
        admitted, numbers, prompts = self._next()
        device = self.stop_E.device
        length_P = torch.tensor([len(prompt) for prompt in prompts], device=device)
        token_PT = pad_sequence([torch.tensor(prompt) for prompt in prompts], batch_first=True).to(device)
        source_S = torch.tensor(numbers, device=device)
        rows = self.slots.take(length_P[source_S])
        hidden_PTH = self.context.forward.prefill(
            token_PT, lambda layer, key, value: self.slots.fill(layer, rows, source_S, key, value)
        )
        most = self.sampling.max_tokens
        uniform = [uniforms(one.seed, one.problem.id, one.sample, most) for one in admitted]
        self.buffer.place(rows, admitted, torch.stack(uniform))
        last_PH = hidden_PTH[torch.arange(len(prompts), device=device), length_P - 1]
        self._draw(last_PH, rows, source_S)
        size, longest = token_PT.shape
        self.context.tally["prefill"].add(size * longest, size * longest * (longest + 1) // 2, size)

    def _next(self) -> tuple[list[Request], list[int], list[tuple[int, ...]]]:
        """Return the requests to admit together, the number of each one's prompt, and the distinct prompts."""
        free = self.capacity - self.slots.active
        if self.queue.waiting:
            self.taken.extend(self.queue.take(free - len(self.taken), False))
        admitted: list[Request] = []
        prompts: dict[tuple[int, ...], int] = {}
        numbers: list[int] = []
        longest = 0
        while self.taken and len(admitted) < free:
            prompt = self.context.coder.prompt(self.taken[0])
            longest = max(longest, len(prompt))
            if prompts and prompt not in prompts and (len(prompts) + 1) * longest > PREFILL_TOKENS:
                break
            numbers.append(prompts.setdefault(prompt, len(prompts)))
            admitted.append(self.taken.popleft())
        return admitted, numbers, list(prompts)

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

    def _retire(self) -> list[Rollout]:
        """Remove the finished rows and return their rollouts."""
        over: list[int] = self.buffer.done_S[: self.slots.active].nonzero()[:, 0].tolist()
        if not over:
            return []
        ended = [
            self.context.coder.rollout(self.buffer.rows[row], *columns)
            for row, columns in zip(over, self.buffer.columns(over), strict=True)
        ]
        self.slots.drop(*self.buffer.drop(over))
        return ended
