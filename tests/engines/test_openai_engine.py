"""A real OpenAI-compatible server: every sample with its own seed, the same again; failures are never answers."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from helpers.rollouts import Growing, ask, plain

from archer.engines.base import sample_seed
from archer.engines.openai import OpenAIGenerator, ServedModel, find_served
from archer.engines.queue import FixedQueue, closed_after
from archer.errors import ArcherError, DataError, EngineError, ModelError, UserError
from archer.problems.lab import TASKS
from archer.types import Problem, Request, Rollout, Sampling

PROBLEM = TASKS["lab-arithmetic"].problem("test", 0)
SHORT = Sampling(max_tokens=16)


@pytest.fixture(scope="module")
def served(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedModel]:
    """`transformers serve` on an untrained model whose generation config lets it sample."""
    folder = tmp_path_factory.mktemp("served")
    model = folder / "model"
    shutil.copytree(tiny, model)
    config = json.loads((model / "generation_config.json").read_text())
    (model / "generation_config.json").write_text(json.dumps({**config, "do_sample": True}))
    with closing(socket.socket()) as one:
        one.bind(("localhost", 0))
        port = one.getsockname()[1]
    command = [sys.executable, "-c", "from transformers.cli.transformers import main; main()"]
    log = (folder / "log").open("wb")
    environment = {**os.environ, "HF_HUB_CACHE": str(folder), "HF_HUB_OFFLINE": "1"}
    process = subprocess.Popen(
        [*command, "serve", str(model), "--port", str(port), "--device", "cpu"], env=environment, stdout=log, stderr=log
    )
    try:
        url = f"http://localhost:{port}"
        deadline = time.monotonic() + 120
        while not answers(f"{url}/health"):
            assert process.poll() is None, (folder / "log").read_text()[-2000:]
            assert time.monotonic() < deadline
            time.sleep(0.2)
        yield find_served(f"{url}/v1", str(model))
    finally:
        process.kill()
        process.wait()


def answers(url: str) -> bool:
    try:
        return urllib.request.urlopen(url, timeout=1).status == 200
    except OSError:
        return False


def drawn(engine: OpenAIGenerator, samples: tuple[int, ...], sampling: Sampling = SHORT) -> dict[int, Rollout]:
    queue = FixedQueue(ask([PROBLEM], samples, 3), logps=False)
    return {one.sample: one for one in engine.generate(queue, sampling)}


def test_eight_samples_have_eight_seeds_and_are_drawn_the_same_again(served: ServedModel) -> None:
    engine = OpenAIGenerator(served, slots=1)  # this server's seeds are one for all requests under way
    first, again = drawn(engine, tuple(range(8))), drawn(engine, (7, 6, 5, 4, 3, 2, 1, 0))
    assert all(plain([again[sample]]) == plain([first[sample]]) for sample in range(8))
    assert [first[sample].seed for sample in range(8)] == [sample_seed(3, PROBLEM.id, sample) for sample in range(8)]
    assert len({one.seed for one in first.values()}) == len({one.text for one in first.values()}) == 8


def test_a_response_is_counted_and_its_end_is_told_apart(served: ServedModel) -> None:
    found = drawn(OpenAIGenerator(served, slots=1), tuple(range(24)), Sampling(max_tokens=48)).values()
    assert {one.stop for one in found} == {"end", "length"}
    assert all((one.length == 48) == (one.stop == "length") for one in found)


def test_the_weights_of_a_server_are_its_name_for_them() -> None:
    assert ServedModel("u", "lab", "vllm", "/models/lab").weights == "served: lab (/models/lab)"
    assert ServedModel("u", "lab", "", "").weights == "served: lab"


# ---- what a real server does only on its bad days


Reply = Callable[[dict], tuple[int, dict | bytes]]  # bytes: a page, as a proxy answers


@contextmanager
def answering(
    reply: Reply, models: tuple[str, ...] = ("m",), owner: str = "vllm", listed: dict | bytes | None = None
) -> Iterator[ServedModel]:
    """A server whose answer to a request's body is ``reply``'s, and to the question for its models ``listed``."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            cards = [{"id": name, "object": "model", "created": 0, "owned_by": owner, "root": "r"} for name in models]
            found = self.path == "/v1/models"
            self.send(200 if found else 404, (listed or {"object": "list", "data": cards}) if found else {})

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self.send(*reply(body))

        def send(self, status: int, body: dict | bytes) -> None:
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "text/html" if data.startswith(b"<") else "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("localhost", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield ServedModel(f"http://localhost:{server.server_port}/v1", "m", owner, "r")
    finally:
        server.shutdown()
        server.server_close()


def completion(text: object = "4", finish: str = "stop", **message: str) -> dict:
    return {
        "id": "c", "object": "chat.completion", "created": 0, "model": "m",
        "choices": [{"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": text, **message}}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 7, "total_tokens": 8},
    }  # fmt: skip


def test_the_request_says_all_that_is_drawn_from() -> None:
    asked: list[dict] = []
    problem = Problem("p", "p", "1+1=", "math", "2", system="be brief")
    with answering(lambda body: (asked.append(body), (200, completion()))[1]) as served:
        engine = OpenAIGenerator(served, {"enable_thinking": False})
        list(engine.generate(FixedQueue([Request(problem, 5, 3)]), Sampling(0.6, 0.95, 20, 99)))
        list(engine.generate(FixedQueue([Request(problem, 5, 3)]), Sampling(max_tokens=9)))
    assert asked[0] == {
        "model": "m", "messages": [{"role": "system", "content": "be brief"}, {"role": "user", "content": "1+1="}],
        "temperature": 0.6, "top_p": 0.95, "max_tokens": 99, "seed": sample_seed(3, "p", 5),
        "top_k": 20, "min_p": 0.0, "repetition_penalty": 1.0, "chat_template_kwargs": {"enable_thinking": False},
    }  # fmt: skip
    assert asked[1]["top_k"] == -1
    assert engine.prompt(problem) == {"messages": asked[0]["messages"], "switches": {"enable_thinking": False}}
    sent = ["min_p", "repetition_penalty", "top_k"]
    assert engine.describe() == {"name": "openai", "url": served.url, "sent": sent}
    assert OpenAIGenerator(ServedModel("u", "m", "openai")).describe() == {"name": "openai", "url": "u", "sent": []}


def test_a_busy_or_failing_server_is_asked_again() -> None:
    statuses = iter([429, 500, 503])
    with answering(lambda body: (next(statuses, 200), completion())) as served:
        assert drawn(OpenAIGenerator(served, slots=1), (0,))[0].text == "4"


def test_no_more_requests_than_slots_are_under_way() -> None:
    lock, under_way, most = threading.Lock(), 0, 0

    def slow(body: dict) -> tuple[int, dict]:
        nonlocal under_way, most
        with lock:
            under_way += 1
            most = max(most, under_way)
        time.sleep(0.05)
        with lock:
            under_way -= 1
        return 200, completion()

    with answering(slow) as served:
        assert len(drawn(OpenAIGenerator(served, slots=4), tuple(range(16)))) == 16
    assert most == 4


@pytest.mark.parametrize(
    ("message", "finish", "text", "stop"),
    [
        ({"text": "4"}, "stop", "4", "end"),
        ({"text": "4", "reasoning_content": "2+2"}, "stop", "<think>2+2</think>4", "end"),
        ({"text": None, "reasoning": "2+"}, "length", "<think>2+", "length"),
        ({"text": "\ud83d"}, "length", "?", "length"),
    ],
)
def test_what_a_completion_says(message: dict, finish: str, text: str, stop: str) -> None:
    with answering(lambda body: (200, completion(finish=finish, **message))) as served:
        one = drawn(OpenAIGenerator(served), (2,))[2]
    assert (one.text, one.length, one.stop, one.problem) == (text, 7, stop, PROBLEM)


@pytest.mark.parametrize(
    ("reply", "kind", "message"),
    [
        ((200, completion(finish="content_filter")), EngineError, "ended with 'content_filter'.*it is not scored"),
        ((200, {**completion(), "usage": None}), EngineError, "does not say how many tokens"),
        ((200, {**completion(), "choices": []}), EngineError, "ended with 'no choice'"),
        (
            (200, {**completion(), "choices": [{"finish_reason": "stop"}]}),
            EngineError,
            "choices.0.message: Field required",
        ),
        (
            (200, completion([{"type": "text"}])),
            EngineError,
            r"choices.0.message.content: Input should be a valid string",
        ),
        (
            (200, {**completion(), "usage": {"completion_tokens": None}}),
            EngineError,
            "usage.completion_tokens: Input should",
        ),
        (
            (200, {**completion(), "usage": {"completion_tokens": "7"}}),
            EngineError,
            "usage.completion_tokens: Input should",
        ),
        ((200, {**completion(), "usage": [7]}), EngineError, "usage: Input should"),
        ((200, ["?"]), EngineError, r"not a chat completion .*it begins with '\[\"\?\"\]'; check the URL"),
        (
            (200, b"<html>log in</html>"),
            EngineError,
            "not a chat completion .*it begins with '<html>log in</html>'; check",
        ),
        ((200, b'{"choices": [{'), EngineError, "not a chat completion .*it begins with"),
        ((503, {}), EngineError, "no answer.*goes on with what is missing"),
        ((401, {"error": {"message": "who?"}}), UserError, "set OPENAI_API_KEY"),
        ((404, {"error": {"message": "no m"}}), ModelError, "no m.*check model name and URL"),
        ((400, {"error": {"message": "512 tokens at most"}}), DataError, "512 tokens at most.*see --max-tokens"),
    ],
)
def test_a_failure_is_never_an_answer(reply: tuple[int, dict | bytes], kind: type[ArcherError], message: str) -> None:
    with answering(lambda body: reply) as served, pytest.raises(kind, match=message) as caught:
        drawn(OpenAIGenerator(served, retries=1), tuple(range(4)))
    assert f"problem {PROBLEM.id}, sample" in str(caught.value)


def test_what_was_answered_before_a_failure_is_kept() -> None:
    count = iter(range(99))
    found: list[Rollout] = []
    with answering(lambda body: (200 if next(count) < 3 else 400, completion())) as served, pytest.raises(DataError):
        found.extend(OpenAIGenerator(served, slots=1).generate(FixedQueue(ask([PROBLEM], range(8), 0)), SHORT))
    assert [one.sample for one in found] == [0, 1, 2]


def test_a_server_says_what_it_serves() -> None:
    with answering(lambda body: (200, {}), models=("m", "n")) as served:
        assert find_served(served.url, "m") == served
        with pytest.raises(ModelError, match="serves no 'x'; it names m, n"):
            find_served(served.url, "x")
    with pytest.raises(EngineError, match="no answer: Connection error"):
        find_served(served.url, "m")


@pytest.mark.parametrize(
    ("listed", "message"),
    [
        (b"<html>log in</html>", "/v1/models: the reply is not a list of models .*begins with '<html>log in</html>'"),
        (b"{", "not a list of models .*begins with '{'; check the URL"),
        ({"data": [{"object": "model"}]}, "data.0.id: Field required"),
        ({"models": []}, "data: Field required"),
    ],
)
def test_what_is_no_list_of_models_is_told(listed: dict | bytes, message: str) -> None:
    with answering(lambda body: (200, {}), listed=listed) as served, pytest.raises(EngineError, match=message):
        find_served(served.url, "m")


def test_who_stops_early_gets_an_error_of_its_own() -> None:
    class Stopped(BaseException): ...  # as the command's

    with answering(lambda body: (200, completion())) as served:
        engine = OpenAIGenerator(served, slots=4)
        with (
            pytest.raises(Stopped),
            closed_after(engine.generate(FixedQueue(ask([PROBLEM], range(8), 0)), SHORT)) as rollouts,
        ):
            raise Stopped(next(rollouts))
        assert len(drawn(engine, tuple(range(8)))) == 8


def test_further_requests_are_sent_while_others_are_under_way() -> None:
    def reply(body: dict) -> tuple[int, dict]:
        time.sleep(0.2)
        return 200, completion()

    queue = Growing(ask([PROBLEM], range(2), 0), {3: ask([PROBLEM], (2,), 0)})
    with answering(reply) as served:
        found = [one.sample for one in OpenAIGenerator(served, slots=3).generate(queue, SHORT)]
    assert (sorted(found), queue.idle[0], queue.idle[-1]) == ([0, 1, 2], False, True)


@pytest.mark.parametrize(
    ("url", "message"),
    [("localhost:8000/v1", "expected a URL such as"), ("http://me:secret@host/v1", "leave name and password out")],
)
def test_urls_that_cannot_be_meant(url: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        find_served(url, "m")
    assert "secret" not in str(caught.value)
