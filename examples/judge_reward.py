"""A reward that asks another model: math first, and half a point for what a judge says of the solution.

    python examples/judge_reward.py                                          # against a stand-in that likes short texts
    python examples/judge_reward.py http://localhost:8000/v1 Qwen/Qwen3-8B   # against a server of yours

Needs `pip install 'archer-rlvr[openai]'`. Takes about a minute on two cores.
"""

from __future__ import annotations

import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import archer


class StandIn(BaseHTTPRequestHandler):
    """Speaks chat completions as a judge would; it likes responses of less than 60 characters."""

    def do_POST(self) -> None:
        """Answer one question."""
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        response = request["messages"][0]["content"].partition("begins\n")[2].partition("\n--- response")[0]
        message = {"role": "assistant", "content": f"VERDICT: {'yes' if len(response) < 60 else 'no'}"}
        reply = {
            "id": "1", "object": "chat.completion", "created": 0, "model": "stand-in",
            "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
            "usage": {"prompt_tokens": 300, "completion_tokens": 4, "total_tokens": 304},
        }  # fmt: skip
        body = json.dumps(reply).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Print nothing."""


def main(url: str = "", model: str = "stand-in") -> None:
    """Train a few steps with the sum of both rewards, and print what each of them said."""
    if not url:
        server = ThreadingHTTPServer(("127.0.0.1", 0), StandIn)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    judge = {"name": "judge", "weight": 0.5, "url": url, "model": model, "price_in": 0.1, "price_out": 0.4}
    data = [{"name": "lab-arithmetic", "reward": [{"name": "math"}, judge]}]
    changes = [f"data={json.dumps(data)}", "steps=3", "rollout.prompts=4", "update.mini_batch=4"]
    changes += ["evaluate.benchmarks=[lab-arithmetic]", "evaluate.samples=1", "evaluate.during_training.every=0"]
    run = archer.train("lab", algorithm="grpo", seed=0, out="runs/judge-reward", changes=changes)
    columns = ["reward", "reward_part/math", "reward_part/judge", "judge/calls", "judge/failed_calls", "judge/cost"]
    print(run.metrics[columns].to_string())
    print("evaluated by math alone:", run.results["passed"].mean())


if __name__ == "__main__":
    main(*sys.argv[1:])
