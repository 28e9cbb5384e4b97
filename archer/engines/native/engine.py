"""The native engine: the :class:`~archer.engines.base.Engine` interface over the decoder."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from archer.engines.base import Weights
from archer.engines.native.decoder import DecodeContext, Decoder
from archer.engines.native.forward import misfit, open_forward
from archer.engines.native.graphs import cuda_capture
from archer.engines.native.weights import unfit
from archer.engines.queue import RequestQueue
from archer.engines.requests import TokenCoder
from archer.engines.spec import engine_description
from archer.errors import ModelError
from archer.models.prompts import PromptEncoder
from archer.models.spec import context_of, stop_ids
from archer.system import WorkCounter
from archer.types import Json, Problem, Rollout, Sampling

LOOK = 8  # decode steps on a GPU between two checks for ended rows; a row wastes fewer than this
logger = logging.getLogger(__name__)


class NativeEngine:
    """Samples from ``model`` with its current weights. Raises ModelError unless every layer uses full attention.

    - ``slots``: most rows decoded together
    - ``autocast``: dtype of the forward passes; None: that of the weights
    - ``context``: most tokens of prompt and response; None: the model's own (:func:`context_of`)
    - ``files``: digests of the model's files, for :meth:`describe`
    - ``shared``: the trainer updates this same module, so :meth:`load` copies nothing
    - ``tally``: counts the work done
    - ``why_modules``: why the lean forward cannot run the model ("": it can), known after the first call; also logged
    """

    def __init__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompts: PromptEncoder, slots: int,
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
        self.stops = tuple(stop_ids(model.config.name_or_path, model.generation_config, model.config, tokenizer))
        self.tally = WorkCounter()  # "prefill" and "decode"
        self.look = LOOK if model.device.type == "cuda" else 1
        self.why_modules: str | None = None  # set by the first call

    def load(self, version: int, weights: Weights) -> None:
        """Record the version; copy the weights unless the module is shared. Raises ModelError for an unknown name."""
        self.version = version
        if self.shared:
            return
        own = dict(self.model.named_parameters())
        with torch.no_grad():
            for name, tensor in weights():
                if name not in own:  # transformers stacks experts, which the hub names one by one
                    raise ModelError(
                        f"rollout.engine: native: {self.model.config.name_or_path}: {name} has another name here; set "
                        "rollout.engine to vllm, or sample from the policy itself (rollout.prefetch 0, stage 2 or less)"
                    )
                own[name].copy_(tensor)

    def describe(self) -> Mapping[str, Json]:
        """Return the name, the arithmetic of the forward passes, and the digests of the model's files."""
        return engine_description(self.autocast is not None, self.files)

    def prompt(self, problem: Problem) -> Json:
        """Return the prompt's token ids."""
        return list(self.prompts.encode(problem))

    @torch.inference_mode()
    def generate(self, queue: RequestQueue, sampling: Sampling) -> Iterator[Rollout]:
        """Yield a rollout for every request of the queue; see :class:`archer.engines.base.Generator`."""
        if queue.waiting:
            self.model.eval()
            yield from Decoder(self._context(queue, sampling), queue, sampling, self.slots).rollouts()

    def close(self) -> None:
        """Do nothing: the engine runs in this process."""

    def _context(self, queue: RequestQueue, sampling: Sampling) -> DecodeContext:
        """Return the context of one call, with the current weights."""
        lean, on_gpu = self._lean(), self.model.device.type == "cuda"
        head_VH: Tensor = self.model.get_output_embeddings().weight
        return DecodeContext(
            forward=open_forward(self.model, self.autocast, lean),
            head_VH=head_VH.to(self.autocast or head_VH.dtype),  # the dtype of the trainer's LM head
            layers=self.model.config.num_hidden_layers,
            coder=TokenCoder(
                self.tokenizer, self.prompts, self.stops, self.version, sampling.max_tokens, self.context, queue.logps
            ),
            tally=self.tally,
            look=self.look,
            capture=cuda_capture() if on_gpu and lean else None,
        )

    def _lean(self) -> bool:
        """Whether the lean forward can run the model; checked at each call, as an adapter may have been added."""
        if self.why_modules is None:
            self.why_modules = misfit(self.model, self.autocast) or ""
            how = f"by its own modules: {self.why_modules}" if self.why_modules else "by the lean forward"
            logger.info("%s: decodes %s", self.model.config.name_or_path, how)
        return not (self.why_modules or unfit(self.model))
