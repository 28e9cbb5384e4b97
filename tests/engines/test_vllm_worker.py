"""What the process that holds vLLM tells its engine: memory given back and taken again, in vLLM's order."""

from __future__ import annotations

from multiprocessing.connection import Pipe
from types import SimpleNamespace
from typing import Any

import pytest

pytestmark = pytest.mark.vllm


class Engine:
    """Notes what is called, as vLLM's engine is on a GPU, which this machine may not have."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def sleep(self, level: int) -> None:
        self.calls.append(("sleep", level))

    def wake_up(self, tags: list[str]) -> None:
        self.calls.append(("wake", *tags))

    def reset_prefix_cache(self) -> None:
        self.calls.append("reset")

    def set_weight_version(self, label: str) -> None:
        self.calls.append(("version", label))

    def collective_rpc(self, method: str, kwargs: dict[str, Any]) -> list[Any]:
        self.calls.append((method, kwargs))
        return [None]


@pytest.fixture
def worker() -> Any:
    from archer.engines.vllm.worker import VllmWorker

    made = VllmWorker(Pipe()[0])
    made.engine, made.sleeps = Engine(), True
    return made


def test_memory_for_weights_comes_before_them_and_the_cache_after(worker: Any) -> None:
    worker.sleep()
    worker.sleep()
    worker.wake(["weights"])
    worker.rpc("finish_weight_update", {})
    worker.commit("run-1")
    worker.begin({})
    worker.begin({})
    assert worker.engine.calls == [
        ("sleep", 1), ("wake", "weights"), ("finish_weight_update", {}), ("version", "run-1"), "reset",
        ("wake", "kv_cache"), "reset", "reset",
    ]  # fmt: skip


def test_what_cannot_sleep_is_not_asked_to(worker: Any) -> None:
    worker.sleeps = False
    worker.sleep()
    worker.begin({})
    assert worker.engine.calls == ["reset"]


def test_a_request_that_vllm_gave_up_is_no_rollout() -> None:
    from archer.engines.vllm.worker import to_output

    one = SimpleNamespace(finish_reason="abort", token_ids=[1], logprobs=None)
    with pytest.raises(RuntimeError, match="request 7 ended with 'abort'"):
        to_output(SimpleNamespace(request_id="7", outputs=[one]))
