"""A stand-in for an SGLang server, which speaks the calls that our engine makes as SGLang's documentation has them."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

END = 339  # the end token of the lab's tokenizer


class FakeSglang:
    """What one server says and does; ``troubles`` maps a path to "die", "fail", "nonsense" or "hang".

    :func:`helpers.vllm_server.serving` serves it.
    """

    def __init__(self) -> None:
        self.url, self.label, self.paused = "", "default", False
        self.troubles: dict[str, str] = {}
        self.calls: list[tuple[str, Any]] = []
        self.loaded: dict[str, Any] = {}
        self.active = self.most = 0
        self.pause = 0.0
        self.alter: dict[str, Any] = {}  # of a reply's meta_info
        self.lock, self.closed = threading.Lock(), threading.Event()

    def generate(self, body: dict[str, Any]) -> dict[str, Any]:
        """Up to four tokens and the end, told by prompt and seed; log-probs -0.5, -1.0 ..."""
        with self.lock:
            self.active += 1
            self.most = max(self.most, self.active)
        time.sleep(self.pause)
        asked = body["sampling_params"]
        told = json.dumps([body["input_ids"], asked["sampling_seed"]]).encode()
        numbers = hashlib.sha256(told).digest()
        tokens = [5 + number % 90 for number in numbers[: 1 + numbers[-1] % 4]] + asked["stop_token_ids"][:1]
        tokens = tokens[: asked["max_new_tokens"]]
        ended = tokens[-1] in asked["stop_token_ids"]
        reason = {"type": "stop", "matched": tokens[-1]} if ended else {"type": "length", "length": len(tokens)}
        meta: dict[str, Any] = {"id": "1", "finish_reason": reason, "weight_version": self.label,
                                "completion_tokens": len(tokens)}  # fmt: skip
        if body["return_logprob"]:
            meta["output_token_logprobs"] = [[-0.5 * (at + 1), token, None] for at, token in enumerate(tokens)]
        with self.lock:
            self.active -= 1
        return {"text": "", "output_ids": tokens, "meta_info": {**meta, **self.alter}}

    def reload(self, body: dict[str, Any]) -> dict[str, Any]:
        """Read safetensors; an update of a server at work is an error here."""
        files = sorted(Path(body["model_path"]).glob("*.safetensors"))
        if not self.paused or not files:
            return {"success": False, "message": f"no weights in {body['model_path']}", "num_paused_requests": 0}
        for file in files:
            self.loaded.update(load_file(file))
        self.label = body["weight_version"]
        return {"success": True, "message": "Succeeded to update model weights.", "num_paused_requests": 0}

    def answer(self, path: str, body: Any) -> Any:
        """The answer to a call."""
        if path == "/generate":
            return self.generate(body)
        if path == "/update_weights_from_disk":
            return self.reload(body)
        if path in ("/pause_generation", "/continue_generation"):
            self.paused = path == "/pause_generation"
            return {"message": "Generation paused successfully.", "status": "ok"}
        if path == "/get_model_info":
            return {"model_path": "/models/m", "is_generation": True, "weight_version": self.label}
        return {}
