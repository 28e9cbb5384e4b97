"""Our engines as a language model of lm-eval."""

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

Tokenizer = Any  # a PreTrainedTokenizerBase, whose door is not here


@dataclass
class LmParts:
    """What the model is made of. ``switches`` go to the chat template, ``changes`` are of the tasks' sampling."""

    tokenizer: Tokenizer
    texts: TextGenerator
    scorer: LikelihoodScorer
    responses: ResponseCache
    window: ContextWindow
    switches: Mapping[str, Json] = field(default_factory=dict)
    changes: Mapping[str, Json] = field(default_factory=dict)


class ArcherLM(TemplateLM):  # type: ignore[misc]
    """Answers lm-eval's requests. ``answered`` keeps why every sampled text ended, by task and document, then sample.

    Every repeat of a request is a sample of its own, with its own random stream. Tokens are those of lm-eval's
    ``hf`` model: special tokens as the tokenizer adds them, but none twice.
    """

    def __init__(self, parts: LmParts) -> None:
        super().__init__()
        self.parts = parts
        self.tokenizer = parts.tokenizer
        self.answered: dict[tuple[str, int], dict[int, TextResponse]] = {}

    @property
    def eot_token_id(self) -> int:
        """The end token."""
        return int(self.tokenizer.eos_token_id)

    @property
    def prefix_token_id(self) -> int:
        """What stands before a text that has no context."""
        bos = self.tokenizer.bos_token_id
        return self.eot_token_id if bos is None else int(bos)

    @property
    def max_length(self) -> int:
        """The context in tokens, which lm-eval writes into its results."""
        return self.parts.window.context

    @property
    def tokenizer_name(self) -> str:
        """The tokenizer's name, which lm-eval keys caches by that are not used here."""
        return str(self.tokenizer.name_or_path).replace("/", "__")

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
        """Return token ids, with the tokenizer's special tokens unless the text begins with them or says no."""
        prefix = self.tokenizer.bos_token
        if add_special_tokens is None and prefix and string.startswith(prefix):
            add_special_tokens = False
        kwargs = {} if add_special_tokens is None else {"add_special_tokens": add_special_tokens}
        return list(self.tokenizer.encode(string, **kwargs))

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """Render messages with the model's own template and the recipe's switches. Raises ModelError."""
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
        """Return a text for every request. Raises UserError for repeats that greedy decoding makes the same."""
        settings = [read_settings(request.task_name, request.args[1], self.parts.changes) for request in requests]
        samples = number_repeats(requests)
        groups: dict[GenerationSettings, list[int]] = {}
        for place, one in enumerate(settings):
            if samples[place] and one.sampling.temperature == 0:
                raise UserError(
                    f"{requests[place].task_name}: greedy decoding makes its {requests[place].repeats} repeats the "
                    "same; set repeats to 1, or do_sample and a temperature"
                )
            groups.setdefault(one, []).append(place)
        texts = [""] * len(requests)
        for one, places in groups.items():
            asked = [self._request(requests[place], samples[place], one) for place in places]
            for place, response in zip(places, self.parts.texts.answer(asked, one), strict=True):
                request = requests[place]
                self.answered.setdefault((request.task_name, request.doc_id), {})[samples[place]] = response
                texts[place] = response.text
        return texts

    def _request(self, instance: Instance, sample: int, settings: GenerationSettings) -> TextRequest:
        name = name_of(instance)
        prompt = tuple(self.tok_encode(instance.args[0]))
        if not prompt:
            raise DataError(f"{name}: an empty prompt")
        return TextRequest(name, sample, self.parts.window.fit(name, prompt, settings.sampling.max_tokens))

    def loglikelihood(self, requests: Sequence[Instance], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """Return each continuation's log-likelihood in nats, and whether greedy decoding would write it."""
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
        # The last token is only predicted: it needs no room.
        return self.parts.window.fit(name_of(request), tuple(before), len(after) - 1), tuple(after)

    def loglikelihood_rolling(self, requests: Sequence[Instance], disable_tqdm: bool = False) -> list[float]:
        """Return each text's log-likelihood in nats, in windows of the model's context where it is longer."""
        owners, pairs = list[int](), list[Pair]()
        for place, request in enumerate(requests):
            windows = get_rolling_token_windows(
                token_list=self.tok_encode(request.args[0]), prefix_token=self.prefix_token_id,
                max_seq_len=self.max_length, context_len=1,
            )  # fmt: skip
            for before, after in map(make_disjoint_window, windows):
                owners.append(place)
                pairs.append((tuple(before), tuple(after)))
        totals = [0.0] * len(requests)
        for place, score in zip(owners, self._score(pairs), strict=True):
            totals[place] += score.logp
        return totals

    def _loglikelihood_tokens(self, requests: list[Any], **_: Any) -> list[tuple[float, bool]]:
        pairs = [(tuple(before), tuple(after)) for _, before, after in requests]
        return [(score.logp, score.greedy) for score in self._score(pairs)]

    def _score(self, pairs: Sequence[Pair]) -> list[LikelihoodScore]:
        """Score pairs, each different one once and not if its score is kept from before."""
        kept = {pair: self.parts.responses.get(["score", *pair]) for pair in dict.fromkeys(pairs)}
        found = {pair: LikelihoodScore(*one) for pair, one in kept.items() if one is not None}
        wanted = [pair for pair in kept if pair not in found]

        def scored(place: int, score: LikelihoodScore) -> None:
            found[wanted[place]] = score
            self.parts.responses.put(["score", *wanted[place]], [score.logp, score.greedy])

        self.parts.scorer.score(wanted, scored)
        return [found[pair] for pair in pairs]


def number_repeats(requests: Sequence[Instance]) -> list[int]:
    """Return which sample of its own each request is: lm-eval sends a request's repeats one after another."""
    seen: Counter[tuple[str, int, int]] = Counter()
    numbers = []
    for request in requests:
        key = (request.task_name, request.doc_id, request.idx)
        numbers.append(seen[key])
        seen[key] += 1
    return numbers


def name_of(instance: Instance) -> str:
    """Return the name of a request's random stream: the problem's own where it is ours, as in ``archer eval``."""
    if "archer_benchmark" in instance.doc:
        return str(instance.doc["id"])
    return f"{instance.task_name}/{instance.doc_id}/{instance.idx}"
