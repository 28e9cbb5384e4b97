"""Archer's engines as a language model of lm-eval."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from jinja2 import TemplateError
from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from archer.engines.scoring import LikelihoodScore, LikelihoodScorer, Pair
from archer.errors import DataError, ModelError, UserError
from archer.evaluation.lm_eval.kwargs import GenerationSettings, read_settings
from archer.evaluation.lm_eval.responses import ResponseCache
from archer.evaluation.lm_eval.texts import TextGenerator, TextRequest, TextResponse
from archer.evaluation.lm_eval.window import ContextWindow
from archer.types import Json

Tokenizer = Any  # a PreTrainedTokenizerBase: this module does not import transformers


@dataclass
class LmParts:
    """The model's parts. ``switches`` go to the chat template; ``changes`` replace values of the tasks' sampling."""

    tokenizer: Tokenizer
    texts: TextGenerator
    scorer: LikelihoodScorer
    responses: ResponseCache
    window: ContextWindow
    switches: Mapping[str, Json] = field(default_factory=dict)
    changes: Mapping[str, Json] = field(default_factory=dict)


class ArcherLM(TemplateLM):  # type: ignore[misc]
    """Answers lm-eval's requests. ``answered`` holds every sampled response, by task and document, then by sample.

    Every repeat of a request is a sample of its own, with its own random stream. Token ids are those of lm-eval's
    ``hf`` model: the tokenizer adds its special tokens, but none that the text already has.
    """

    def __init__(self, parts: LmParts) -> None:
        super().__init__()
        self.parts = parts
        self.tokenizer = parts.tokenizer
        self.answered: dict[tuple[str, int], dict[int, TextResponse]] = {}

    @property
    def eot_token_id(self) -> int:
        """The id of the end token."""
        return int(self.tokenizer.eos_token_id)

    @property
    def prefix_token_id(self) -> int:
        """The id of the token before a text without context: BOS, or the end token if there is none."""
        bos = self.tokenizer.bos_token_id
        return self.eot_token_id if bos is None else int(bos)

    @property
    def max_length(self) -> int:
        """The model's context in tokens, which lm-eval writes into its results."""
        return self.parts.window.context

    @property
    def tokenizer_name(self) -> str:
        """The tokenizer's name; lm-eval asks for it to key its caches, which are not used here."""
        return str(self.tokenizer.name_or_path).replace("/", "__")

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
        """Return token ids.

        ``add_special_tokens`` None adds the tokenizer's special tokens unless the text begins with BOS.
        """
        prefix = self.tokenizer.bos_token
        if add_special_tokens is None and prefix and string.startswith(prefix):
            add_special_tokens = False
        kwargs = {} if add_special_tokens is None else {"add_special_tokens": add_special_tokens}
        return list(self.tokenizer.encode(string, **kwargs))

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """Render messages with the model's chat template and the recipe's switches. Raises ModelError."""
        try:
            text = self.tokenizer.apply_chat_template(
                chat_history, tokenize=False, add_generation_prompt=add_generation_prompt,
                continue_final_message=not add_generation_prompt, **self.parts.switches,
            )  # fmt: skip
        except (TemplateError, ValueError) as error:
            roles = ", ".join(message["role"] for message in chat_history)
            raise ModelError(
                f"{self.tokenizer.name_or_path}: its chat template refuses the messages of this task ({roles}): {error}"
            ) from error
        return str(text)

    def generate_until(self, requests: Sequence[Instance], disable_tqdm: bool = False) -> list[str]:
        """Return a text for every request. Raises UserError for repeats of greedy decoding: they would be the same."""
        settings = [read_settings(request.task_name, request.args[1], self.parts.changes) for request in requests]
        samples = number_repeats(requests)
        groups: dict[GenerationSettings, list[int]] = {}
        for index, setting in enumerate(settings):
            if samples[index] and setting.sampling.temperature == 0:
                raise UserError(
                    f"{requests[index].task_name}: greedy decoding makes its {requests[index].repeats} repeats the "
                    "same; set repeats to 1, or do_sample and a temperature"
                )
            groups.setdefault(setting, []).append(index)
        texts = [""] * len(requests)
        for setting, indices in groups.items():
            asked = [self._request(requests[index], samples[index], setting) for index in indices]
            for index, response in zip(indices, self.parts.texts.answer(asked, setting), strict=True):
                request = requests[index]
                self.answered.setdefault((request.task_name, request.doc_id), {})[samples[index]] = response
                texts[index] = response.text
        return texts

    def _request(self, instance: Instance, sample: int, settings: GenerationSettings) -> TextRequest:
        name = name_of(instance)
        prompt = tuple(self.tok_encode(instance.args[0]))
        if not prompt:
            raise DataError(f"{name}: an empty prompt")
        return TextRequest(name, sample, self.parts.window.fit(name, prompt, settings.sampling.max_tokens))

    def loglikelihood(self, requests: Sequence[Instance], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """Return each continuation's log-likelihood in nats, and whether greedy decoding would produce it."""
        pairs = [self._pair(request) for request in requests]
        return [(score.logp, score.greedy) for score in self._score(pairs)]

    def _pair(self, request: Instance) -> Pair:
        context, continuation = request.args
        if context:
            before, after = self._encode_pair(context, continuation)
        else:
            after = self.tok_encode(continuation, add_special_tokens=False)
            before, after = (
                ([self.prefix_token_id], after) if after[:1] != [self.prefix_token_id] else (after[:1], after[1:])
            )
        if not before or not after:
            raise DataError(f"{name_of(request)}: nothing to score: context {context!r}, continuation {continuation!r}")
        # The last token is predicted but never an input: it needs no room.
        return self.parts.window.fit(name_of(request), tuple(before), len(after) - 1), tuple(after)

    def loglikelihood_rolling(self, requests: Sequence[Instance], disable_tqdm: bool = False) -> list[float]:
        """Return each text's log-likelihood in nats; texts longer than the model's context are scored in windows."""
        owners, pairs = list[int](), list[Pair]()
        for index, request in enumerate(requests):
            windows = get_rolling_token_windows(
                token_list=self.tok_encode(request.args[0]), prefix_token=self.prefix_token_id,
                max_seq_len=self.max_length, context_len=1,
            )  # fmt: skip
            for before, after in map(make_disjoint_window, windows):
                owners.append(index)
                pairs.append((tuple(before), tuple(after)))
        totals = [0.0] * len(requests)
        for index, score in zip(owners, self._score(pairs), strict=True):
            totals[index] += score.logp
        return totals

    def _loglikelihood_tokens(self, requests: list[Any], **_: Any) -> list[tuple[float, bool]]:
        pairs = [(tuple(before), tuple(after)) for _, before, after in requests]
        return [(score.logp, score.greedy) for score in self._score(pairs)]

    def _score(self, pairs: Sequence[Pair]) -> list[LikelihoodScore]:
        """Score pairs: each distinct pair once, unless its score is cached."""
        cached = {pair: self.parts.responses.get(["score", *pair]) for pair in dict.fromkeys(pairs)}
        scores = {pair: LikelihoodScore(*values) for pair, values in cached.items() if values is not None}
        missing = [pair for pair in cached if pair not in scores]

        def scored(index: int, score: LikelihoodScore) -> None:
            scores[missing[index]] = score
            self.parts.responses.put(["score", *missing[index]], [score.logp, score.greedy])

        self.parts.scorer.score(missing, scored)
        return [scores[pair] for pair in pairs]


def number_repeats(requests: Sequence[Instance]) -> list[int]:
    """Return each request's sample number; lm-eval sends the repeats of a request one after another."""
    seen: Counter[tuple[str, int, int]] = Counter()
    numbers = []
    for request in requests:
        key = (request.task_name, request.doc_id, request.idx)
        numbers.append(seen[key])
        seen[key] += 1
    return numbers


def name_of(instance: Instance) -> str:
    """Return the name of a request's random stream: for Archer's benchmarks the problem's id, as in ``archer eval``."""
    if "archer_benchmark" in instance.doc:
        return str(instance.doc["id"])
    return f"{instance.task_name}/{instance.doc_id}/{instance.idx}"
