"""A real vLLM server, started by the very command line we print: weights, seeds, and a server that is killed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.rollouts import drawn_in_order
from helpers.vllm_runs import asks, moved, parts, recipe, untrained, worst

from archer.distributed import Ranks
from archer.engines.servers.engine import BackendEngine
from archer.engines.spec import EngineSpec
from archer.engines.vllm import machine_memory, open_vllm
from archer.engines.vllm.command import on_cpu, serve_command
from archer.engines.vllm.control import ServerControl
from archer.errors import EngineError, ModelError
from archer.recipe.sections import Recipe, VllmSection
from archer.types import Sampling

pytestmark = pytest.mark.vllm
SHORT = Sampling(max_tokens=40)
START_SECONDS = 300.0


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return untrained(tmp_path_factory.mktemp("tiny32"), hidden=32)


def at(chosen: Recipe, url: str, seconds: float = 60.0) -> Recipe:
    return replace(chosen, rollout=replace(chosen.rollout, vllm=VllmSection(servers=(url,), seconds=seconds)))


@pytest.fixture(scope="module")
def served(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, subprocess.Popen[Any]]]:
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    spec = EngineSpec.of(recipe(tiny))
    command = serve_command(spec, "reload", port, cpu=on_cpu(spec, machine_memory()))
    assert command.words[0] == "python"
    log = tmp_path_factory.mktemp("served") / "log"
    environment = {**os.environ, **command.environment, "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
    with log.open("wb") as words:
        process = subprocess.Popen(
            [sys.executable, *command.words[1:]], env=environment, stdout=words, stderr=words, start_new_session=True
        )
    server, deadline = ServerControl(f"http://127.0.0.1:{port}", 5.0), time.monotonic() + START_SECONDS
    try:
        while True:
            assert process.poll() is None, log.read_text()[-2000:]
            assert time.monotonic() < deadline
            try:
                server.get("/version")
                break
            except EngineError:
                time.sleep(0.5)
        yield server.url, process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_a_server_draws_as_the_policy_after_every_update(tiny: Path, served: tuple[str, Any]) -> None:
    """In one test, in this order: a server's weights are what was last loaded."""
    chosen = at(recipe(tiny), served[0])
    model, _ = parts(chosen)
    engine = open_vllm(EngineSpec.of(chosen), Ranks())
    assert worst(model, drawn_in_order(engine, asks(0), SHORT)) < 2e-3  # nothing loaded: those on disk
    drawn = []
    for version in range(1, 4):
        stale, model = model, moved(model, version)
        engine.load(version, lambda model=model: iter(model.named_parameters()))
        rollouts = drawn_in_order(engine, asks(version), SHORT)
        assert worst(model, rollouts) < 2e-3
        assert worst(stale, rollouts) > 0.1
        assert {one.version for one in rollouts} == {version}
        drawn.append([one.tokens for one in rollouts])
    assert len(set(map(str, drawn))) == 3
    with pytest.raises(ModelError, match="has the weights of a run that trained with it; start it again"):
        drawn_in_order(open_vllm(EngineSpec.of(chosen), Ranks()), asks(0), SHORT)
    refuse_missing_weights(engine)
    engine.load(4, lambda: iter(model.named_parameters()))
    assert {one.version for one in drawn_in_order(engine, asks(4), SHORT)} == {4}
    killed_while_it_draws(engine, served[1])


def refuse_missing_weights(engine: BackendEngine) -> None:
    def nothing() -> Iterator[tuple[str, torch.Tensor]]:
        return iter(())

    with pytest.raises(EngineError, match=r"POST /collective_rpc: status 500"):
        engine.load(9, nothing)
    with pytest.raises(EngineError, match=r"has the weights '.*-3', not '.*-9'"):  # what failed half-way is not used
        drawn_in_order(engine, asks(1), SHORT)


def killed_while_it_draws(engine: BackendEngine, process: subprocess.Popen[Any]) -> None:
    engine.host.seconds = 3.0  # type: ignore[attr-defined]
    threading.Timer(0.5, os.killpg, [process.pid, signal.SIGKILL]).start()
    with pytest.raises(EngineError, match=r"/inference/v1/generate: away \(.*\) for .* of at most 3 s; \d+ of 6144"):
        drawn_in_order(engine, asks(1, 1024), Sampling(max_tokens=200))
