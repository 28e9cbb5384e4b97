"""The child process that runs a vLLM engine: ``python -m archer.engines.vllm.worker HANDLE``.

The engine core runs in this process and steps only when called, so the same requests make the same batches.
:mod:`archer.engines.vllm.child` removes the launcher's variables from its environment.
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

from archer.engines.servers.call import EngineOutput
from archer.system import die_with_parent
from archer.types import Json

HEARTBEAT = 1.0  # seconds between two notes that tokens are being sampled
LEVEL = 1  # of sleep: weights move to CPU memory, so waking needs no reload


class VllmWorker:
    """The calls of the parent, one method each; ``tell`` sends the parent a note during long ones."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.engine: Any = None
        self.parameters: Mapping[str, Json] = {}
        self.asleep: set[str] = set()
        self.sleeps = False
        self.noted_at, self.tokens = 0.0, 0

    def open(self, options: dict[str, Json], cpu: dict[str, Json], sleep: bool, reload: bool) -> dict[str, Json]:
        """Start the engine, sample once so that everything is compiled; return the engine's properties."""
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
        """Begin a call with an empty cache: earlier prefixes would change the last bits of log-probs."""
        self.wake(["weights", "kv_cache"])
        self.engine.reset_prefix_cache()
        self.parameters = parameters
        self.tokens = 0

    def step(self, rows: Sequence[tuple[int, Sequence[int], int]], once: bool) -> list[EngineOutput]:
        """Add rows (index, prompt, seed); run until a row ends, or one step if ``once``; return the ended rows."""
        for place, prompt, seed in rows:
            kind = RequestOutputKind.FINAL_ONLY
            parameters = SamplingParams(**{**self.parameters, "seed": seed}, output_kind=kind)
            self.engine.add_request(str(place), {"prompt_token_ids": list(prompt)}, parameters)
        while self.engine.has_unfinished_requests():
            ended = [to_output(output) for output in self.engine.step() if output.finished]
            if ended or once:
                return sorted(ended, key=lambda output: output.place)
            self.tell()
        return []

    def abort(self) -> None:
        """Drop all running requests."""
        states = self.engine.output_processor.request_states
        self.engine.abort_request(list(states), internal=True)

    def rpc(self, method: str, arguments: dict[str, Any]) -> Any:
        """Call a method of vLLM's worker and return its result."""
        return self.engine.collective_rpc(method, kwargs=arguments)[0]

    def commit(self, label: str) -> None:
        """Label the loaded weights, and clear the cache computed with earlier ones."""
        self.engine.set_weight_version(label)
        self.engine.reset_prefix_cache()

    def sleep(self) -> None:
        """Free the GPU memory of weights and cache, if the engine can sleep."""
        if self.sleeps and not self.asleep:
            self.engine.sleep(level=LEVEL)
            self.asleep = {"weights", "kv_cache"}

    def wake(self, tags: list[str]) -> None:
        """Allocate memory again for the ``tags``: "weights", then "kv_cache"."""
        for tag in tags:
            if tag in self.asleep:
                self.engine.wake_up([tag])
                self.asleep.remove(tag)

    def tell(self) -> None:
        """Send the parent the number of tokens, if it changed and the last note is a second old."""
        now = time.monotonic()
        if now - self.noted_at < HEARTBEAT:
            return
        self.noted_at = now
        states = self.engine.output_processor.request_states.values()
        tokens = sum(state.detokenizer.num_output_tokens() for state in states)
        if tokens != self.tokens:
            self.tokens = tokens
            self.connection.send(("alive", tokens))


def to_output(output: Any) -> EngineOutput:
    """Convert a finished request. Raises RuntimeError if vLLM aborted it."""
    completion = output.outputs[0]
    if completion.finish_reason not in ("stop", "length"):
        raise RuntimeError(f"request {output.request_id} ended with {completion.finish_reason!r}")
    tokens = tuple(completion.token_ids)
    reported = [] if completion.logprobs is None else list(completion.logprobs)
    logps = tuple(float(position[token].logprob) for position, token in zip(reported, tokens, strict=False))
    return EngineOutput(int(output.request_id), tokens, logps)


def serve(connection: Connection) -> None:
    """Serve calls until the parent closes the connection."""
    worker = VllmWorker(connection)
    while True:
        try:
            name, arguments = connection.recv()
        except EOFError:
            return
        try:
            reply = ("done", getattr(worker, name)(**arguments))
        except Exception as error:
            traceback.print_exc()
            reply = ("failed", f"{type(error).__name__}: {error}")
        connection.send(reply)


if __name__ == "__main__":
    die_with_parent()
    serve(Connection(int(sys.argv[1])))
