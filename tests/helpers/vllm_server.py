"""A stand-in for `vllm serve`: it speaks the calls that our engine makes, and misbehaves on request."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

END = 339  # the end token of the lab's tokenizer
GENERATE = "/inference/v1/generate"


class Fake:
    """What one server says and does; ``troubles`` maps a path to "die", "fail", "nonsense" or "hang"."""

    def __init__(self, about: dict[str, Any]) -> None:
        self.about, self.version, self.label = dict(about), "0.32.0", "default"
        self.url, self.weights_digest = "", "w"
        self.troubles: dict[str, str] = {}
        self.calls: list[tuple[str, Any]] = []
        self.loaded: dict[str, Any] = {}
        self.tokens = self.active = self.most = 0
        self.pause = 0.0
        self.alter: dict[str, Any] = {}  # of a response
        self.lock, self.closed = threading.Lock(), threading.Event()

    def generate(self, body: dict[str, Any]) -> dict[str, Any]:
        """Two tokens and the end, all told by the seed; log-probs -1, -2, -3."""
        with self.lock:
            self.active += 1
            self.most = max(self.most, self.active)
        time.sleep(self.pause)
        seed = body["sampling_params"]["seed"]
        tokens = [5 + seed % 90, 5 + seed // 90 % 90, END]
        with self.lock:
            self.active -= 1
            self.tokens += 3
        choice = {
            "index": 0, "finish_reason": "stop", "token_ids": tokens,
            "weight_versions": [{"version": self.label, "start": 0, "end": 3}],
            "logprobs": {"content": [{"token_id": one, "logprob": -1.0 - at} for at, one in enumerate(tokens)]},
        }  # fmt: skip
        return {"choices": [{**choice, **self.alter}]}

    def rpc(self, body: dict[str, Any]) -> dict[str, Any]:
        """The methods of our worker extension."""
        if body["method"] == "archer_describe":
            return {"results": [self.about]}
        if body["method"] == "archer_weights":
            return {"results": [[self.weights_digest]]}
        self.about["moved"] = True
        if body["method"] == "archer_reload":
            for file in sorted(Path(body["kwargs"]["folder"]).glob("*.safetensors")):
                self.loaded.update(load_file(file))
        return {"results": [None]}

    def answer(self, path: str, body: Any) -> Any:
        """The answer to a call."""
        if path == GENERATE:
            return self.generate(body)
        if path == "/collective_rpc":
            return self.rpc(body)
        if path == "/metrics":
            return f'vllm:generation_tokens_total{{engine="0"}} {float(self.tokens)}\n'.encode()
        if path in ("/finish_weight_update", "/update_weight_version"):
            self.label = body["weight_version"] if "weight_version" in body else body["new_version"]
        pages = {
            "/version": {"version": self.version}, "/get_world_size": {"world_size": 2},
            "/weight_info": {"weight_version": self.label},
        }  # fmt: skip
        return pages.get(path, {})


@contextmanager
def serving(fake: Fake, port: int = 0) -> Iterator[Fake]:
    """Serve it; at the end every connection is cut, as when the process dies."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.handle_call(None)

        def do_POST(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            self.handle_call(json.loads(self.rfile.read(length)) if length else None)

        def handle_call(self, body: Any) -> None:
            fake.calls.append((self.path, body))
            trouble = fake.troubles.get(self.path, "")
            if trouble == "hang":
                fake.closed.wait()
            if trouble in ("die", "hang") or fake.closed.is_set():
                self.cut()
                return
            if trouble == "fail":
                self.reply(500, {"error": "EngineDeadError"})
            elif trouble == "nonsense":
                self.reply(200, b"<html>log in</html>")
            else:
                answer = fake.answer(self.path, body)
                if fake.closed.is_set():
                    self.cut()
                else:
                    self.reply(200, answer)

        def cut(self) -> None:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)

        def reply(self, status: int, body: Any) -> None:
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def handle_one_request(self) -> None:
            try:
                super().handle_one_request()
            except (OSError, ValueError):  # cut, by either side
                self.close_connection = True

        def log_message(self, *_: object) -> None: ...

    class Server(ThreadingHTTPServer):
        request_queue_size = 128

    fake.closed.clear()
    server = Server(("127.0.0.1", port), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    fake.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield fake
    finally:
        fake.closed.set()
        server.shutdown()
        server.server_close()
