"""The first training step of a cold process, for perf/cold.py: imports no more than its contender needs."""

import json
import sys
import time
from typing import Any


def main() -> None:
    """Train, and print the moment in which each optimizer update had ended, and the CPU seconds until then."""
    name = sys.argv[1]
    task = json.load(sys.stdin)
    import torch
    from torch.optim.optimizer import register_optimizer_step_post_hook

    register_optimizer_step_post_hook(lambda *_: print(f"mark {time.monotonic()} {time.process_time()}", flush=True))
    if name == "archer":
        from archer.__main__ import main as command

        sys.argv = task
        command()
        return
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    def earned(completions: list[Any], gold: list[str], **_: Any) -> list[float]:
        return [float(right in text[0]["content"]) for text, right in zip(completions, gold, strict=True)]

    torch.set_num_threads(task["threads"])
    rows, config = Dataset.from_list(task["rows"]), GRPOConfig(**task["config"])
    GRPOTrainer(model=task["model"], reward_funcs=earned, args=config, train_dataset=rows).train()


if __name__ == "__main__":
    main()
