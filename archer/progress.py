"""The live display of a comparison: one line a run, read from the journals the runs write."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Protocol, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from archer.journal import read_lines


class Watched(Protocol):
    """A run with a journal."""

    @property
    def title(self) -> str: ...
    @property
    def folder(self) -> Path: ...
    @property
    def steps(self) -> int: ...
    def done_steps(self) -> int: ...


class Board:
    """Shows step, reward, entropy, tokens/s and time left of every run; plain lines where there is no terminal."""

    def __init__(self, jobs: Iterable[Watched]) -> None:
        self.console = Console(stderr=True)
        self.progress = Progress(
            TextColumn("{task.description}"), BarColumn(bar_width=20), TextColumn("{task.fields[state]}"),
            TimeElapsedColumn(), TimeRemainingColumn(), console=self.console,
        )  # fmt: skip
        self.tasks: dict[str, TaskID] = {}
        for job in jobs:
            done = job.done_steps()
            state = "done" if done and done >= job.steps else "waiting"
            self.tasks[job.title] = self.progress.add_task(
                job.title.ljust(18), total=max(1, job.steps), completed=done, start=False, state=state
            )

    def __enter__(self) -> Self:
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    def refresh(self, jobs: Iterable[Watched]) -> None:
        """Read the running jobs' journals and redraw."""
        for job in jobs:
            task = self.tasks[job.title]
            self.progress.start_task(task)
            metrics = read_lines(job.folder / "metrics.jsonl")
            state = "evaluating" if len(metrics) >= job.steps else "starting"
            if metrics and len(metrics) < job.steps:
                timing = read_lines(job.folder / "timings.jsonl")[-1:]
                seconds = sum(value for row in timing for key, value in row.items() if key != "step")
                last = metrics[-1]
                state = (
                    f"step {len(metrics):>3}/{job.steps}  reward {last['reward']:.2f}  "
                    f"entropy {last['rollout_entropy']:.2f}  {last['tokens'] / max(seconds, 1e-9):>6,.0f} tokens/s"
                )
            self.progress.update(task, completed=min(len(metrics), job.steps), state=state)

    def finish(self, job: Watched) -> None:
        """Mark a job as done."""
        task = self.tasks[job.title]
        self.progress.update(task, completed=max(1, job.steps), state="done")
        if not self.console.is_terminal:
            self.console.print(f"{job.title}: done")
