"""What a judge's server was asked, and what that cost."""

from __future__ import annotations

import threading
from collections import Counter

SECONDS = "judge/seconds"  # differs from rerun to rerun


class JudgeUsage:
    """Counts calls, retries, tokens and seconds of a judge since they were last taken. Thread-safe."""

    def __init__(self, price_in: float = 0.0, price_out: float = 0.0) -> None:
        self._prices = (price_in, price_out)
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()

    def add(self, *, seconds: float, prompt: int = 0, completion: int = 0, failed: bool = False) -> None:
        """Count one request: its seconds, its tokens, whether it has to be made again."""
        with self._lock:
            self._counts.update({
                "judge/calls": 1, "judge/failed_calls": int(failed), SECONDS: seconds,
                "judge/prompt_tokens": prompt, "judge/completion_tokens": completion,
            })  # fmt: skip

    def take(self) -> dict[str, float]:
        """Return the counts as metrics, with ``judge/cost`` where there are prices, and begin anew.

        ``judge/seconds`` are those of all requests together, also of requests at the same time.
        """
        with self._lock:
            counts, self._counts = self._counts, Counter()
        found = {name: float(count) for name, count in counts.items()}
        if found and any(self._prices):
            tokens = (found["judge/prompt_tokens"], found["judge/completion_tokens"])
            found["judge/cost"] = sum(price * count / 1e6 for price, count in zip(self._prices, tokens, strict=True))
        return found
