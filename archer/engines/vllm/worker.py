"""The process that holds a vLLM engine of ours: ``python -m archer.engines.vllm.worker HANDLE``.

The engine core runs in this process and moves only when told to, so the same requests make the same batches. Nothing
here reads the environment of a run of several ranks: :mod:`archer.engines.vllm.child` leaves it out.
"""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from typing import Any

from vllm import EngineArgs, LLMEngine, SamplingParams
from vllm.config import WeightTransferConfig
from vllm.platforms import current_platform
from vllm.sampling_params import RequestOutputKind

from archer.engines.vllm.backend import VllmOutput
from archer.system import die_with_parent
from archer.types import Json

HEARTBEAT = 1.0  # seconds between two notes that tokens are coming
LEVEL = 1  # of sleep: weights go to the CPU's memory, so that waking needs nobody


class VllmWorker:
    """The calls of the parent, each a method; ``tell`` sends it a note while one lasts."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.engine: Any = None
        self.parameters: Mapping[str, Json] = {}
        self.asleep: set[str] = set()
        self.sleeps = False
        self.told, self.tokens = 0.0, 0

    def open(self, options: dict[str, Json], cpu: dict[str, Json], sleep: bool, reload: bool) -> dict[str, Json]:
        """Start the engine, draw once to compile what is compiled at first use; return what it is."""
        on_cpu = current_platform.is_cpu()
        chosen = {**options, **(cpu if on_cpu else {}), "disable_log_stats": True}
        self.sleeps = sleep and not on_cpu and current_platform.is_sleep_mode_available()
        if self.sleeps:
            chosen["enable_sleep_mode"] = True
        if not on_cpu and not reload:
            chosen["weight_transfer_config"] = WeightTransferConfig(backend="ipc")
        self.engine = LLMEngine.from_engine_args(EngineArgs(**chosen))
        self.begin({"temperature": 1.0, "max_tokens": 2, "logprobs": 0, "detokenize": False})
        self.step([(0, (0, 1), 0)], once=False)
        return {"device": "cpu" if on_cpu else "cuda", "sleeps": self.sleeps, **self.rpc("archer_describe", {})}

    def begin(self, parameters: dict[str, Json]) -> None:
        """Begin a call. What the cache holds of earlier ones would change the last bits of what is drawn."""
        self.wake(["weights", "kv_cache"])
        self.engine.reset_prefix_cache()
        self.parameters = parameters
        self.tokens = 0

    def step(self, rows: Sequence[tuple[int, Sequence[int], int]], once: bool) -> list[VllmOutput]:
        """Add rows (place, prompt, seed); run until some end, or ``once``; return those that ended."""
        for place, prompt, seed in rows:
            kind = RequestOutputKind.FINAL_ONLY
            parameters = SamplingParams(**{**self.parameters, "seed": seed}, output_kind=kind)
            self.engine.add_request(str(place), {"prompt_token_ids": list(prompt)}, parameters)
        while self.engine.has_unfinished_requests():
            ended = [drawn(one) for one in self.engine.step() if one.finished]
            if ended or once:
                return sorted(ended, key=lambda one: one.place)
            self.tell()
        return []

    def abort(self) -> None:
        """Drop what is under way."""
        states = self.engine.output_processor.request_states
        self.engine.abort_request(list(states), internal=True)

    def rpc(self, method: str, arguments: dict[str, Any]) -> Any:
        """Call a method of vLLM's worker; return what it returns."""
        return self.engine.collective_rpc(method, kwargs=arguments)[0]

    def commit(self, label: str) -> None:
        """Name the weights that were loaded, and forget what was computed with others."""
        self.engine.set_weight_version(label)
        self.engine.reset_prefix_cache()

    def sleep(self) -> None:
        """Give the GPU's memory back."""
        if self.sleeps and not self.asleep:
            self.engine.sleep(level=LEVEL)
            self.asleep = {"weights", "kv_cache"}

    def wake(self, tags: list[str]) -> None:
        """Take memory again: first for weights, once these are there for the cache."""
        for tag in tags:
            if tag in self.asleep:
                self.engine.wake_up([tag])
                self.asleep.remove(tag)

    def tell(self) -> None:
        """Note, now and then, that tokens were drawn since the last note."""
        now = time.monotonic()
        if now - self.told < HEARTBEAT:
            return
        self.told = now
        states = self.engine.output_processor.request_states.values()
        tokens = sum(state.detokenizer.num_output_tokens() for state in states)
        if tokens != self.tokens:
            self.tokens = tokens
            self.connection.send(("alive", tokens))


def drawn(output: Any) -> VllmOutput:
    """Return a finished request as ours. Raises RuntimeError for one that vLLM gave up."""
    one = output.outputs[0]
    if one.finish_reason not in ("stop", "length"):
        raise RuntimeError(f"request {output.request_id} ended with {one.finish_reason!r}")
    tokens = tuple(one.token_ids)
    said = [] if one.logprobs is None else list(one.logprobs)
    logps = tuple(float(position[token].logprob) for position, token in zip(said, tokens, strict=False))
    return VllmOutput(int(output.request_id), tokens, logps)


def serve(connection: Connection) -> None:
    """Answer calls until the parent hangs up."""
    worker = VllmWorker(connection)
    while True:
        try:
            name, arguments = connection.recv()
        except EOFError:
            return
        try:
            answer = ("done", getattr(worker, name)(**arguments))
        except Exception as error:
            traceback.print_exc()
            answer = ("failed", f"{type(error).__name__}: {error}")
        connection.send(answer)


if __name__ == "__main__":
    die_with_parent()
    serve(Connection(int(sys.argv[1])))
