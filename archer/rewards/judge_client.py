"""The connection of a model-based judge to its server: one chat completion a question, asked again where it fails."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import openai

from archer.errors import JudgeError, UserError
from archer.rewards.usage import JudgeUsage

LONGEST_PAUSE = 60.0  # seconds
HEADERS = {"User-Agent": "archer"}
REFUSED = (openai.AuthenticationError, openai.PermissionDeniedError, openai.NotFoundError)


@dataclass(frozen=True)
class JudgeServer:
    """The options of :class:`~archer.rewards.judge.JudgeReward` that are about its server."""

    url: str
    model: str
    temperature: float
    max_tokens: int
    timeout: float
    retries: int
    backoff: float
    api_key_env: str


class JudgeClient:
    """Asks one judge. Thread-safe."""

    def __init__(self, judge: JudgeServer, key: str, usage: JudgeUsage) -> None:
        self._judge, self._usage = judge, usage
        limit = openai.Timeout(judge.timeout, connect=min(judge.timeout, 20.0))
        self._client = openai.OpenAI(
            base_url=judge.url, api_key=key, max_retries=0, timeout=limit, default_headers=HEADERS
        )

    def ask(self, where: str, prompt: str, read: Callable[[str], float | None]) -> float:
        """Return the score that ``read`` finds in the reply to ``prompt``.

        Raises UserError where key or model are refused, and JudgeError where the request is refused for another reason,
        or where every try fails or gives a reply without a score.
        """
        fault: JudgeError | None = None
        for attempt in range(self._judge.retries + 1):
            if fault is not None:
                time.sleep(self._pause(attempt, fault))
            try:
                reply, cut = self._reply(prompt)
            except openai.APIError as error:
                fault = self._failure(where, error)
                continue
            except ValueError as error:
                fault = JudgeError(f"{where}: the judge at {self._judge.url}: its reply is no JSON: {error}")
                continue
            score = None if cut else read(reply)
            if score is not None:
                return score
            why = (
                f"was cut after max_tokens ({self._judge.max_tokens})"
                if cut
                else "gives no score that its parser can read"
            )
            fault = JudgeError(
                f"{where}: the judge {self._judge.model} {why}: {reply[-200:]!r}; change prompt, parser or max_tokens"
            )
        assert fault is not None  # it is asked at least once
        raise JudgeError(
            f"{fault}; asked {self._judge.retries + 1} times; start the same command again to go on"
        ) from fault.__cause__

    def _reply(self, prompt: str) -> tuple[str, bool]:
        """Return the text of one reply, "" where it has none, and whether it was cut (it may end in a quotation)."""
        begin, prompt_tokens, completion_tokens, failed = time.perf_counter(), 0, 0, True
        try:
            reply = self._client.chat.completions.create(
                model=self._judge.model, messages=[{"role": "user", "content": prompt}],
                temperature=self._judge.temperature, max_tokens=self._judge.max_tokens,
            )  # fmt: skip
            failed = not getattr(reply, "choices", None)
            usage = getattr(reply, "usage", None)
            if usage is not None:
                prompt_tokens, completion_tokens = usage.prompt_tokens or 0, usage.completion_tokens or 0
        finally:
            seconds = time.perf_counter() - begin
            self._usage.add(seconds=seconds, prompt=prompt_tokens, completion=completion_tokens, failed=failed)
        if failed:
            return "", False
        return reply.choices[0].message.content or "", reply.choices[0].finish_reason == "length"

    def _failure(self, where: str, error: openai.APIError) -> JudgeError:
        """Return the failure of one try. Raises what no further try would change."""
        message = f"{where}: the judge at {self._judge.url}: {error.message[:300]}"
        if isinstance(error, REFUSED):
            raise UserError(f"{message}; see url, model and the key in {self._judge.api_key_env}") from error
        status = error.status_code if isinstance(error, openai.APIStatusError) else 500
        if status < 500 and status not in (408, 409, 425, 429):
            raise JudgeError(f"{message}; see longest, max_tokens and the server's context") from error
        failure = JudgeError(message)
        failure.__cause__ = error
        return failure

    def _pause(self, attempt: int, fault: JudgeError) -> float:
        """Return the seconds to wait before a further try: those that the server names, or twice as many each time."""
        error = fault.__cause__
        named = error.response.headers.get("retry-after") if isinstance(error, openai.APIStatusError) else None
        try:
            wanted = float(named or "")
        except ValueError:  # none, or a date
            wanted = self._judge.backoff * 2.0 ** (attempt - 1)
        return min(max(wanted, 0.0), LONGEST_PAUSE)
