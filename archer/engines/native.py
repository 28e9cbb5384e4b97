"""The native engine: sampling in this process with any Hugging Face causal LM, on the CPU or one GPU.

A group's prompt is prefilled once; finished rows leave the batch at once and waiting ones take their place.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor
from transformers import DynamicCache, PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from archer.engines.asking import collected, end_ids, rows_of, text_of
from archer.engines.base import Answered, Finished, More, Weights, ignore, no_more
from archer.engines.board import Board, Ended, Row, new_board
from archer.engines.sampling import draw, uniforms
from archer.engines.slots import Slots
from archer.errors import ModelError
from archer.prompts import Encoder
from archer.types import Ask, Json, Problem, Rollout, Sampling, Stop

PREFILL_TOKENS = 16384  # prompt tokens, padding included, of one prefill pass


class Native:
    """Samples from ``model`` as it is now: of a ``shared`` one the policy trains the same module, nothing is copied.

    ``slots`` bounds the rows decoded together; ``autocast`` is the dtype of the forward passes on a GPU;
    ``context`` bounds prompt and response together (None: :func:`context_of` the model). ``files`` are the digests
    of what decides draws beside the weights.
    """

    def __init__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompts: Encoder, slots: int,
        autocast: torch.dtype | None = None, context: int | None = None, files: Mapping[str, str] | None = None,
        shared: bool = True,
    ) -> None:  # fmt: skip
        kinds = set(getattr(model.config, "layer_types", None) or ["full_attention"])
        if kinds != {"full_attention"}:
            raise ModelError(
                f"{model.config.name_or_path}: the native engine decodes full attention only, this model has "
                f"{', '.join(sorted(kinds))}"
            )
        self.model, self.tokenizer, self.prompts, self.slots = model, tokenizer, prompts, slots
        self.autocast = autocast
        self.context, self.files = context_of(model.config, context), dict(files or {})
        self.shared, self.version = shared, 0
        self.stops = torch.tensor(end_ids(model.config.name_or_path, model.generation_config, model.config, tokenizer))

    def load(self, version: int, weights: Weights) -> None:
        """Note the version; copy the weights, unless the policy trains this very module."""
        self.version = version
        if self.shared:
            return
        own = dict(self.model.named_parameters())
        with torch.no_grad():
            for name, tensor in weights():
                if name not in own:  # experts, which transformers stacks, go by the hub's names
                    raise ModelError(
                        f"rollout.engine: native: {self.model.config.name_or_path}: {name} has another name here; set "
                        "rollout.engine to vllm, or sample from the policy itself (rollout.ahead 0, stage 2 or less)"
                    )
                own[name].copy_(tensor)

    def describe(self) -> Mapping[str, Json]:
        """Return the name, the arithmetic of the forward passes, and the digests of the model's files."""
        return described(self.autocast is not None, self.files)

    def prompt(self, problem: Problem) -> Json:
        """Return the prompt's token ids."""
        return list(self.prompts.encode(problem))

    def generate(
        self, asks: Sequence[Ask], sampling: Sampling, finished: Finished = ignore, more: More = no_more
    ) -> list[Rollout]:
        """Return one rollout a sample, in the order asked; see :class:`archer.engines.base.Engine`."""
        return collected(self.version, finished, lambda keep: self._run(asks, sampling, keep, more))

    def answer(self, asks: Sequence[Ask], sampling: Sampling, answered: Answered) -> None:
        """Draw every sample; see :class:`archer.engines.base.Respondent`."""
        self._run(asks, sampling, lambda ended: answered(ended.answer()))

    def close(self) -> None:
        """Nothing was started."""

    @torch.inference_mode()
    def _run(
        self, asks: Sequence[Ask], sampling: Sampling, each: Callable[[Ended], None], more: More = no_more
    ) -> None:
        """Sample every row, telling ``each`` of it as it ends."""
        rows = self._rows(asks, sampling, 0)
        if not rows:
            return
        waiting, taken = deque(rows), len(rows)
        capacity = min(self.slots, taken)
        device = self.model.device
        slots = Slots(self.model.config.num_hidden_layers, capacity, width(rows, sampling), device)
        board = new_board(capacity, sampling.max_tokens, device)
        self.model.eval()
        with torch.autocast(device.type, self.autocast, enabled=self.autocast is not None):
            while waiting or slots.active:
                if waiting and slots.active < capacity:
                    self._admit(waiting, slots, board, sampling)
                else:
                    self._decode(slots, board, sampling)
                self._retire(slots, board, sampling, each)
                if not waiting and slots.active < capacity:
                    rows = self._rows(more(not slots.active), sampling, taken)
                    slots.widen(width(rows, sampling))
                    waiting.extend(rows)
                    taken += len(rows)

    def _rows(self, asks: Sequence[Ask], sampling: Sampling, first: int) -> list[Row]:
        return rows_of(asks, self.prompts, sampling, self.context, first)

    def _admit(self, waiting: deque[Row], slots: Slots, board: Board, sampling: Sampling) -> None:
        """Prefill the next rows' prompts, each prompt once, and draw their first tokens."""
        taken: list[Row] = []
        prompts: dict[tuple[int, ...], int] = {}
        longest = 0
        while waiting and slots.active + len(taken) < slots.capacity:
            prompt = waiting[0].prompt
            longest = max(longest, len(prompt))
            if prompts and prompt not in prompts and (len(prompts) + 1) * longest > PREFILL_TOKENS:
                break
            prompts.setdefault(prompt, len(prompts))
            taken.append(waiting.popleft())
        device = self.model.device
        length_P = torch.tensor([len(prompt) for prompt in prompts], device=device)
        token_PT = torch.nn.utils.rnn.pad_sequence([torch.tensor(prompt) for prompt in prompts], batch_first=True).to(
            device
        )
        cache = DynamicCache(config=self.model.config)
        hidden_PTH = self.model.base_model(input_ids=token_PT, past_key_values=cache, use_cache=True)[0]
        last_PH = hidden_PTH[torch.arange(len(prompts), device=device), length_P - 1]
        source_S = torch.tensor([prompts[row.prompt] for row in taken], device=device)
        rows = slots.add(source_S, cache, length_P)
        board.rows[rows.start :] = taken
        board.count_S[rows] = 0
        board.uniform_SN[rows] = torch.stack(
            [uniforms(row.seed, row.problem.id, row.sample, sampling.max_tokens) for row in taken]
        ).to(device)
        self._record(self._logits(last_PH)[source_S], rows, board, sampling)

    def _decode(self, slots: Slots, board: Board, sampling: Sampling) -> None:
        """One new token for every active row."""
        rows = slice(0, slots.active)
        count_S = board.count_S[rows]
        last_S1 = board.token_SN[rows].gather(1, (count_S - 1)[:, None])
        hidden_S1H = self.model.base_model(
            input_ids=last_S1, position_ids=slots.length_S[rows, None], attention_mask=slots.mask(),
            past_key_values=slots.cache, use_cache=True,
        )[0]  # fmt: skip
        slots.advance()
        self._record(self._logits(hidden_S1H[:, 0]), rows, board, sampling)

    def _logits(self, hidden_SH: Tensor) -> Tensor:
        """Return logits (S, V), outside autocast: the policy's head works in the hidden states' dtype too."""
        with torch.autocast(hidden_SH.device.type, enabled=False):
            weight_VH: Tensor = self.model.get_output_embeddings().weight
            return hidden_SH @ weight_VH.T.to(hidden_SH.dtype)

    def _record(self, logits_SV: Tensor, rows: slice, board: Board, sampling: Sampling) -> None:
        at_S1 = board.count_S[rows, None]
        uniform_S = board.uniform_SN[rows].gather(1, at_S1)[:, 0]
        token_S, logp_S, entropy_S = draw(logits_SV, uniform_S, sampling)
        for column_SN, new_S in (
            (board.token_SN, token_S),
            (board.logp_SN, logp_S),
            (board.entropy_SN, entropy_S),
        ):
            column_SN[rows].scatter_(1, at_S1, new_S[:, None])
        board.count_S[rows] += 1

    def _retire(self, slots: Slots, board: Board, sampling: Sampling, each: Callable[[Ended], None]) -> None:
        """Take finished rows out, telling ``each`` of them; the last rows move into their places."""
        count_S = board.count_S[: slots.active]
        last_S = board.token_SN[: slots.active].gather(1, (count_S - 1)[:, None])[:, 0]
        ended_S = torch.isin(last_S, self.stops.to(last_S.device))
        over_S = ended_S | (count_S >= sampling.max_tokens)
        over = over_S.nonzero()[:, 0].tolist()
        if not over:
            return
        ended, counts = ended_S.tolist(), count_S.tolist()
        for row in over:
            tokens = board.token_SN[row, : counts[row] - ended[row]].tolist()
            text = text_of(self.tokenizer, board.rows[row].prompt, tokens)
            stop: Stop = "end" if ended[row] else "length"
            each(board.ended(row, counts[row], stop, text))
        kept = slots.active - len(over)
        gone = set(over)
        holes = [row for row in over if row < kept]
        movers = [row for row in range(kept, slots.active) if row not in gone]
        for hole, mover in zip(holes, movers, strict=True):
            board.rows[hole] = board.rows[mover]
        del board.rows[kept:]
        hole_S, mover_S = (torch.tensor(x, dtype=torch.long, device=count_S.device) for x in (holes, movers))
        slots.drop(hole_S, mover_S, kept)
        for column in board.tensors():
            column[hole_S] = column[mover_S]


def width(rows: Sequence[Row], sampling: Sampling) -> int:
    """Return the positions that the longest of ``rows`` may come to, 0 for none."""
    return max((len(row.prompt) + sampling.max_tokens for row in rows), default=0)


def described(bf16: bool, files: Mapping[str, str], name: str = "native") -> dict[str, Json]:
    """Return what an engine's ``describe`` returns, for readers of stored samples that load no model."""
    return {"name": name, "dtype": "bfloat16" if bf16 else "float32", "files": dict(files)}


def context_of(config: PretrainedConfig, stated: int | None) -> int | None:
    """Return how many tokens prompt and response may have together; None where the configuration does not say.

    ``stated`` (``model.context``) comes first, also above ``max_position_embeddings`` for a model whose positions
    are rotary. Raises ModelError where they are a table of that length.
    """
    trained: int | None = getattr(config, "max_position_embeddings", None)
    if stated is None or trained is None:
        return stated or trained
    if stated > trained and not getattr(config, "rope_parameters", None):
        raise ModelError(
            f"model.context: {stated}: {config.name_or_path} has a table of {trained} positions and none beyond; "
            f"state {trained} or less"
        )
    return stated
