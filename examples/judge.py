"""A reward by another model: half of what the verifier says, half of what a judge says of the response.

    python judge.py                                     # a stand-in answers as the judge, without a model
    python judge.py http://localhost:8000/v1 my-judge   # any OpenAI-compatible server: vllm serve, SGLang, llama.cpp

About half a minute on two cores. The same in a recipe:

    data:
      - name: lab-arithmetic
        reward:
          - {name: math, weight: 0.5}
          - {name: judge, weight: 0.5, url: "http://localhost:8000/v1", model: my-judge}
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import archer


class StandIn(BaseHTTPRequestHandler):
    """Speaks the protocol of chat completions, and likes every response that has a box."""

    def do_POST(self) -> None:
        """Answer one question of the judge's prompt."""
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        response = asked["messages"][-1]["content"]
        said = "It has a box. VERDICT: yes" if "\\boxed{" in response else "I see no box. VERDICT: no"
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": said}}
        usage = {"prompt_tokens": len(response.split()), "completion_tokens": 6, "total_tokens": 0}
        body = json.dumps(
            {"id": "0", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice], "usage": usage}
        )
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing."""


@contextmanager
def stand_in() -> Iterator[str]:
    """Serve the stand-in on a free port; gives its URL."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), StandIn)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    finally:
        server.shutdown()


def train(url: str, model: str) -> Mapping[str, float]:
    """Train two steps on arithmetic, and return the last step's metrics."""
    judge = f"{{name: judge, weight: 0.5, url: '{url}', model: '{model}', max_tokens: 64}}"
    changes = [
        f"data=[{{name: lab-arithmetic, reward: [{{name: math, weight: 0.5}}, {judge}]}}]",
        "steps=2", "rollout.prompts=4", "rollout.samples_per_prompt=4", "update.mini_batch=4", "evaluate.benchmarks=[]",
    ]  # fmt: skip
    run = archer.train("lab", "grpo", out="runs/judge", changes=changes)
    columns = [name for name in run.metrics.columns if name.startswith(("reward", "judge"))]
    print(run.metrics[columns].T)
    last: Mapping[str, float] = run.metrics.iloc[-1].to_dict()
    return last


def main(arguments: Sequence[str]) -> None:
    """Train with the server named, or with the stand-in."""
    if arguments:
        train(*arguments)
        return
    with stand_in() as url:
        train(url, "stand-in")


if __name__ == "__main__":
    main(sys.argv[1:])
