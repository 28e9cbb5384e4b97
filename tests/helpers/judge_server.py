"""A fake judge: a server in threads that speaks chat completions and answers as a script says."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Answer:
    """One reply. ``seconds`` passes before it; ``cut`` closes the connection in the middle of the body."""

    text: str = "VERDICT: yes"
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    cut: bool = False
    body: str | None = None
    tokens: tuple[int, int] = (100, 10)
    finish: str = "stop"


Script = Callable[[str], Answer]


@dataclass
class FakeJudge:
    """What the server was asked: prompts in order, the keys it was given, the most requests at a time."""

    url: str = ""
    requests: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    most: int = 0
    now: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def prompts(self) -> list[str]:
        return [request["messages"][0]["content"] for request in self.requests]


@contextmanager
def fake_judge(script: Script | Sequence[Answer]) -> Iterator[FakeJudge]:
    """Serve answers of a function of the prompt, or one after the other, the last for ever."""
    judge = FakeJudge()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with judge.lock:
                answer = chosen(script, len(judge.requests), request["messages"][0]["content"])
                judge.requests.append(request)
                judge.keys.append(self.headers["Authorization"])
                judge.now += 1
                judge.most = max(judge.most, judge.now)
            try:
                time.sleep(answer.seconds)
                self.reply(answer)
            except OSError:  # the client did not wait
                pass
            finally:
                with judge.lock:
                    judge.now -= 1

        def reply(self, answer: Answer) -> None:
            body = (completion(answer) if answer.body is None else answer.body).encode()
            self.send_response(answer.status)
            for name, value in {"Content-Type": "application/json", **answer.headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: len(body) // 2] if answer.cut else body)

        def log_message(self, format: str, *args: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    judge.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield judge
    finally:
        server.shutdown()
        server.server_close()


def chosen(script: Script | Sequence[Answer], number: int, prompt: str) -> Answer:
    """Return the answer to the request of that number."""
    return script(prompt) if callable(script) else script[min(number, len(script) - 1)]


def completion(answer: Answer) -> str:
    """Return the body of a chat completion, or of an error."""
    if answer.status != 200:
        return json.dumps({"error": {"message": f"status {answer.status}", "type": "fake"}})
    prompt, reply = answer.tokens
    return json.dumps({
        "id": "1", "object": "chat.completion", "created": 1, "model": "fake",
        "choices": [
            {"index": 0, "finish_reason": answer.finish, "message": {"role": "assistant", "content": answer.text}}
        ],
        "usage": {"prompt_tokens": prompt, "completion_tokens": reply, "total_tokens": prompt + reply},
    })  # fmt: skip
