"""A vLLM engine in a child process, one per rank, on the rank's own GPU.

A child process can be killed when it misses a deadline, shares GPU memory with the policy by handles, and stays apart
from the environment and the process group of a run of several ranks.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from multiprocessing.connection import Pipe
from pathlib import Path
from typing import Any

import torch

from archer.engines.base import Weights
from archer.engines.servers.call import EngineCall, say
from archer.engines.servers.weights import label_of, weight_files
from archer.engines.vllm.speech import parameters
from archer.errors import EngineError
from archer.types import Json, Rollout

START_SECONDS = 900.0  # to import, load and compile; later calls have the recipe's deadline
CLOSE_SECONDS = 10.0
LAST_LINES = 12  # of the log, in an error
RUN = (  # set by torchrun and similar launchers: a process's position in the run
    "RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_RANK", "GROUP_WORLD_SIZE", "ROLE_RANK", "ROLE_NAME",
    "ROLE_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "CROSS_RANK", "CROSS_SIZE", "LOCAL_SIZE",
)  # fmt: skip


class ChildBackend:
    """A vLLM engine in a child process: ``name`` in errors, at most ``slots`` rows, ``seconds`` per call."""

    def __init__(
        self, name: str, slots: int, seconds: float, environment: Mapping[str, str], opening: Mapping[str, Json]
    ) -> None:
        """Start the process. Raises EngineError if it does not start."""
        self.name, self.slots, self.seconds = name, slots, seconds
        handle, path = tempfile.mkstemp(prefix="archer-vllm-", suffix=".log")
        self.log = Path(path)
        self._pipe, inner = Pipe()
        command = [sys.executable, "-m", "archer.engines.vllm.worker", str(inner.fileno())]
        with inner, os.fdopen(handle, "wb") as words:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=words,
                stderr=words,
                env=dict(environment),
                pass_fds=[inner.fileno()],
                start_new_session=True,
            )  # fmt: skip  (its own session: Ctrl-C reaches this process, which then ends it)
        self.failed = False
        self._drawing: EngineCall | None = None  # the call under way
        try:
            self.about: dict[str, Json] = self.call("open", START_SECONDS, **opening)
        except BaseException:
            self._kill()
            raise
        self.transfer = self._open_transfer() if self.about["transfer"] else None
        say(self.says())

    def _open_transfer(self) -> Any:
        from archer.engines.vllm.trainer import by_ipc

        # Each rank calls its own engine, so each acts as rank 0.
        return by_ipc(ChildTransferCalls(self), str(self.about["dtype"]), rank=0, seconds=self.seconds)

    def says(self) -> str:
        """Return a line for the user: device, weight sync, memory, log."""
        how = "ipc" if self.transfer else "reload of a checkpoint"
        rest = "sleeps during updates" if self.about["sleeps"] else "keeps its memory during updates"
        return f"{self.name}: {self.about['device']}, weights by {how}, {rest}; log: {self.log}"

    def draw(self, call: EngineCall) -> Iterator[Rollout]:
        """Sample in steps that depend on the requests only; see :class:`archer.engines.servers.call.EngineBackend`."""
        if self._drawing is not None:  # a call that nobody closed
            self._abandon()
        self._drawing = call
        try:
            self.call("begin", parameters=parameters(call, 0))
            numbers = call.take(self.slots, True)
            while call.running:
                requests = [(number, call.prompt(number), call.seed(number)) for number in numbers]
                once = call.curious and len(call.running) < self.slots
                for output in self.call("step", note=call.progress, rows=requests, once=once):
                    yield call.finish(output)
                    self._refuse_second(call)
                numbers = call.take(self.slots - len(call.running), not call.running)
        finally:
            if self._drawing is call:
                self._drawing = None
                if call.running and self._process.poll() is None and not self._pipe.closed:
                    self._abandon()

    def _refuse_second(self, call: EngineCall) -> None:
        """Raise EngineError if another call began meanwhile, which dropped the requests of this one."""
        if self._drawing is not call:
            raise EngineError(f"{self.name}: a second call began before the first one ended: {call.progress()}")

    def load(self, version: int, weights: Weights) -> None:
        """Send the weights: by handles of GPU memory, or through files."""
        torch.cuda.empty_cache()  # the engine needs the memory that torch caches after the update
        self.call("wake", tags=["weights"])
        if self.transfer is not None:
            self.transfer.send(weights)
        else:
            with weight_files(weights) as folder:
                self.call("rpc", method="archer_reload", arguments={"folder": str(folder)})
        self.call("commit", label=label_of(version))

    def rest(self) -> None:
        """Put the engine to sleep, if it can."""
        if self.about["sleeps"]:
            self.call("sleep")

    def describe(self) -> Mapping[str, Json]:
        """Return the properties that the child reported."""
        return self.about

    def close(self) -> None:
        """Stop the process; delete its log unless a call failed."""
        self._pipe.close()
        try:
            self._process.wait(CLOSE_SECONDS)
        except subprocess.TimeoutExpired:
            self._kill()
        if not self.failed:
            self.log.unlink(missing_ok=True)

    def call(self, call: str, limit: float | None = None, note: Callable[[], str] = str, **arguments: Any) -> Any:
        """Call the child. Raises EngineError if the call fails, or the child is silent for ``limit`` seconds."""
        limit = limit or self.seconds
        started = heard = time.monotonic()
        try:
            self._pipe.send((call, arguments))
            while self._pipe.poll(limit):
                kind, value = self._pipe.recv()
                if kind == "done":
                    return value
                if kind == "failed":
                    raise EngineError(self._say(call, note, started, value))
                heard = time.monotonic()
        except (EOFError, OSError) as error:
            raise EngineError(self._say(call, note, started, f"its process ended: {self._end()}")) from error
        except BaseException:  # Ctrl-C: a late reply would be taken for the next call's
            if sys.exc_info()[0] is not EngineError:
                self._kill()
            raise
        self._kill()
        raise EngineError(self._say(call, note, started, f"nothing was heard for {time.monotonic() - heard:.1f} s"))

    def _abandon(self) -> None:
        with suppress(EngineError):
            self.call("abort")

    def _kill(self) -> None:
        self._process.kill()
        self._process.wait()
        self._pipe.close()

    def _end(self) -> str:
        try:
            code = self._process.wait(CLOSE_SECONDS)
        except subprocess.TimeoutExpired:
            self._kill()
            return "it hung up"
        return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"

    def _say(self, call: str, note: Callable[[], str], started: float, why: str) -> str:
        self.failed = True
        lines = self.log.read_text(errors="replace").strip().splitlines() if self.log.exists() else []
        details = "; ".join(
            filter(None, [note(), f"{time.monotonic() - started:.1f} s of at most {self.seconds:.0f} s"])
        )
        tail = "".join(f"\n  {line}" for line in lines[-LAST_LINES:])
        return f"{self.name}: {call}: {why} ({details}). The end of its log, {self.log}:{tail}"


class ChildTransferCalls:
    """The four calls of vLLM's weight transfer, sent to a child."""

    def __init__(self, child: ChildBackend) -> None:
        self.child, self.name, self.at, self.label = child, child.name, "", ""

    def init_weight_transfer_engine(self, init_info: dict[str, Any]) -> None:
        """Set up the transfer."""
        self._call("init_weight_transfer_engine", init_info=init_info)

    def start_weight_update(self) -> None:
        """Start an update."""
        self._call("start_weight_update")

    def update_weights(self, update_info: dict[str, Any] | list[dict[str, Any]]) -> None:
        """Send the handles."""
        self._call("update_weights", update_info=update_info)

    def finish_weight_update(self, weight_version: str | None = None) -> None:
        """Finish the update; :meth:`ChildBackend.load` sends the version."""
        self._call("finish_weight_update")

    def _call(self, method: str, **arguments: Any) -> None:
        self.at = method
        self.child.call("rpc", method=method, arguments=arguments)


def clean(environment: Mapping[str, str], local: int, threads: int, more: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a rank's engine: its GPU and threads, without the launcher's variables."""
    inherited = {
        name: value for name, value in environment.items() if name not in RUN and not name.startswith("TORCHELASTIC_")
    }
    own = {
        "ARCHER_PARENT": str(os.getpid()), "OMP_NUM_THREADS": str(threads), "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_NO_USAGE_STATS": "1", "VLLM_HOST_IP": "127.0.0.1", **more,
    }  # fmt: skip
    inherited.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")  # several ranks would bind to the same cores
    if torch.cuda.is_available():
        visible: Sequence[str] = [device for device in environment.get("CUDA_VISIBLE_DEVICES", "").split(",") if device]
        own["CUDA_VISIBLE_DEVICES"] = visible[local] if visible else str(local)
    return inherited | own
