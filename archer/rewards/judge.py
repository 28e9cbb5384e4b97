"""A model-based judge: another model, behind an OpenAI-compatible server, reads the response and says what it earns.

What it does not protect against: a judge can be talked round. The response is delimited by lines that it cannot forge
(they hold its own sha256), cut to a stated length, and the judge is told that it is no instruction; but a policy that
is trained against a judge finds what pleases it. Read samples; put a verifiable reward first where there is one, as an
evaluation counts only that.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal
from urllib.parse import urlsplit

from archer.errors import MissingError, RecipeError, UserError
from archer.rewards.base import Response, RunsIn
from archer.rewards.final import spoken
from archer.rewards.judge_replies import read_score
from archer.rewards.usage import JudgeUsage
from archer.types import Json, Verdict

if TYPE_CHECKING:
    from archer.rewards.judge_client import JudgeClient

TEMPLATE = Path(__file__).with_name("judge.txt")
_FIELD = re.compile(r"\{(question|gold|response)\}")


@dataclass(frozen=True)
class JudgeReward:
    """What another model says of the response, a score from 0 to 1.

    The judge reads question, gold and what follows the response's last ``</think>``; a response whose thought never
    ends, or that says nothing after it, gets ``no_answer`` and is not sent. Reasons otherwise: ``right`` where the
    score is at least ``passes``, else ``wrong``. A server that refuses connections, is overloaded or answers with 5xx
    is asked again after 1, 2, 4 ... seconds, or after what its ``Retry-After`` says; so is a judge whose reply was cut
    or cannot be read by the parser. When all ``retries`` fail, JudgeError ends the run, which goes on from its last
    checkpoint: a judge that fails is never a score.
    """

    rules: ClassVar[int] = 1
    runs_in: ClassVar[RunsIn] = "service"
    files: ClassVar[tuple[str, ...]] = ("prompt",)
    """Options that name a file, whose sha256 is part of what a run is."""

    url: str = ""
    """The server, such as ``http://localhost:8000/v1``."""
    model: str = ""
    """The name under which it serves the judge."""
    prompt: str = ""
    """A file with the fields {question}, {gold} and {response}; empty: the one shipped with Archer."""
    parser: Literal["yes_no", "json", "regex"] = "yes_no"
    """How the reply is read. yes_no: its last ``VERDICT: yes`` or ``VERDICT: no``; json: the key ``key`` of its last
    object; regex: the first group of the last match of ``pattern``."""
    key: str = "score"
    """For json: the key that holds the score, a number, true or false."""
    pattern: str = ""
    """For regex: an expression with one group, a number or yes or no. It meets replies of ``max_tokens`` at most."""
    scale: float = 1.0
    """The best score that the judge gives; scores are divided by it, and must lie from 0 to 1 then."""
    passes: float = 0.5
    """The least score that passes."""
    temperature: float = 0.0
    """The judge's temperature."""
    max_tokens: int = 1024
    """Tokens of its reply at most."""
    longest: int = 20000
    """Characters of the response that it reads, counted from the end."""
    thinking: bool = False
    """Whether it reads the thought before ``</think>`` too."""
    concurrency: int = 32
    """Requests at a time."""
    timeout: float = 120.0
    """Seconds for one request."""
    retries: int = 5
    """Further tries of a request that failed."""
    backoff: float = 1.0
    """Seconds before the first of them; doubled each time, up to 60."""
    api_key_env: str = "OPENAI_API_KEY"
    """The environment variable that holds the key. The key itself is recorded nowhere."""
    price_in: float = 0.0
    """Price of a million prompt tokens, for the metric ``judge/cost``."""
    price_out: float = 0.0
    """Price of a million tokens of replies."""

    def __post_init__(self) -> None:
        where = "reward: judge"
        if self.url and (urlsplit(self.url).scheme not in ("http", "https") or not urlsplit(self.url).netloc):
            raise RecipeError(f"{where}: url: expected one such as http://localhost:8000/v1, found {self.url!r}")
        if "@" in urlsplit(self.url).netloc:
            raise RecipeError(f"{where}: url: leave name and password out, it is recorded; use api_key_env")
        if min(self.scale, self.timeout, self.concurrency, self.max_tokens, self.longest) <= 0 or self.retries < 0:
            raise RecipeError(
                f"{where}: expected scale, timeout, concurrency, max_tokens and longest above 0 and retries from 0"
            )
        try:
            groups = re.compile(self.pattern).groups
        except re.error as error:
            raise RecipeError(f"{where}: pattern: {self.pattern!r} is no regular expression: {error}") from error
        if self.parser == "regex" and groups != 1:
            raise RecipeError(f"{where}: pattern: expected one group, found {groups} in {self.pattern!r}")
        self.template  # noqa: B018  a missing file is found when the recipe is read

    def check(self) -> None:
        """Raise UserError where url, model or prompt are missing, MissingError where the package ``openai`` is."""
        for name in ("url", "model"):
            if not getattr(self, name):
                raise UserError(f"reward: judge: missing option {name!r}, as in {{name: judge, url: ..., model: ...}}")
        self.__dict__.pop("template", None)  # the file may have changed since an earlier run of this process
        self.template  # noqa: B018
        try:
            self.client  # noqa: B018
        except ImportError as error:
            raise MissingError("reward: judge: needs `pip install 'archer-rlvr[openai]'`") from error

    def describe(self) -> dict[str, Json]:
        """Return what verdicts depend on: the server, the model, the prompt's sha256 and how replies are read."""
        names = ("url", "model", "parser", "key", "pattern", "scale", "passes", "temperature", "max_tokens", "longest")
        prompt = hashlib.sha256(self.template.encode()).hexdigest()
        return {**{name: getattr(self, name) for name in names}, "thinking": self.thinking, "prompt": prompt}

    def grade_batch(self, items: Sequence[Response]) -> list[Verdict]:
        """Ask about one response after the other. Raises JudgeError, and UserError for a refused key or model."""
        return [self._verdict(item) for item in items]

    @cached_property
    def template(self) -> str:
        """The prompt with its fields. Raises RecipeError where the file or a field is missing."""
        path = Path(self.prompt).expanduser() if self.prompt else TEMPLATE
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise RecipeError(f"reward: judge: prompt: {path}: {error}") from error
        if "{response}" not in text:
            raise RecipeError(f"reward: judge: prompt: {path}: has no {{response}}, where the response is put")
        return text

    @cached_property
    def usage(self) -> JudgeUsage:
        """What the server was asked so far."""
        return JudgeUsage(self.price_in, self.price_out)

    @cached_property
    def client(self) -> JudgeClient:
        """The connection to the server. Raises ImportError without the package ``openai``."""
        from archer.rewards.judge_client import JudgeClient, JudgeServer  # an extra

        server = JudgeServer(
            self.url, self.model, self.temperature, self.max_tokens, self.timeout, self.retries, self.backoff,
            self.api_key_env,
        )  # fmt: skip
        return JudgeClient(server, os.environ.get(self.api_key_env) or "none", self.usage)

    def _verdict(self, item: Response) -> Verdict:
        shown = spoken(item.text, self.thinking)
        if shown is None or not shown.strip():
            return Verdict(0.0, False, "no_answer")
        prompt = self.filled(item.problem.prompt, item.problem.gold, shown.strip())
        score = self.client.ask(f"problem {item.problem.id}, sample {item.sample}", prompt, self.read)
        passed = score >= self.passes
        return Verdict(score, passed, "right" if passed else "wrong")

    def read(self, reply: str) -> float | None:
        """Return the score that a reply gives, from 0 to 1; None where it gives none."""
        score = read_score(reply, self.parser, self.pattern if self.parser == "regex" else self.key)
        score = None if score is None else score / self.scale
        return score if score is not None and 0.0 <= score <= 1.0 else None

    def filled(self, question: str, gold: Json, response: str) -> str:
        """Return the prompt for one response. All fields are filled at once: one within a text stays as it is."""
        fields: Mapping[str, str] = {
            "question": question,
            "gold": gold if isinstance(gold, str) else json.dumps(gold, ensure_ascii=False),
            "response": fenced(response, self.longest),
        }
        return _FIELD.sub(lambda field: fields[field.group(1)], self.template)


def fenced(response: str, longest: int) -> str:
    """Return the end of a response between two lines that it cannot contain: they hold its sha256."""
    cut = len(response) - longest
    shown = f"[{cut} characters are left out here]\n{response[-longest:]}" if cut > 0 else response
    mark = hashlib.sha256(shown.encode("utf-8", "surrogatepass")).hexdigest()[:24]
    return f"--- response {mark} begins\n{shown}\n--- response {mark} ends"
