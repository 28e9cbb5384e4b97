"""Live displays: a comparison, one line a run, read from the journals the runs write; an evaluation's samples."""

from __future__ import annotations

import time
from collections.abc import Container, Iterable
from pathlib import Path
from typing import Protocol, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from archer.runs.folder import last_line
from archer.runs.samples import StoredSample

LINE_SECONDS = 30.0  # between two lines where there is no terminal


class WatchedRun(Protocol):
    """A run with a journal."""

    @property
    def title(self) -> str: ...
    @property
    def folder(self) -> Path: ...
    @property
    def steps(self) -> int: ...
    def done_steps(self) -> int: ...


class CompareProgress:
    """Shows step, reward, entropy, tokens/s and time left of every run; plain lines where there is no terminal."""

    def __init__(self, jobs: Iterable[WatchedRun], finished: Container[str]) -> None:
        self.console = Console(stderr=True)
        self.progress = Progress(
            TextColumn("{task.description}"), BarColumn(bar_width=20), TextColumn("{task.fields[state]}"),
            TimeElapsedColumn(), TimeRemainingColumn(), console=self.console,
        )  # fmt: skip
        self.tasks: dict[str, TaskID] = {}
        for job in jobs:
            done = max(1, job.steps) if job.title in finished else job.done_steps()
            state = "done" if job.title in finished else "waiting"
            self.tasks[job.title] = self.progress.add_task(
                job.title.ljust(18), total=max(1, job.steps), completed=done, start=False, state=state
            )

    def __enter__(self) -> Self:
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    def refresh(self, jobs: Iterable[WatchedRun]) -> None:
        """Read the running jobs' journals and redraw."""
        for job in jobs:
            task = self.tasks[job.title]
            self.progress.start_task(task)
            done, last = last_line(job.folder / "metrics.jsonl")
            state = "evaluating" if done >= job.steps else "starting"
            if 0 < done < job.steps:
                state = (
                    f"step {done:>3}/{job.steps}  reward {last['reward']:.2f}  entropy {last['rollout_entropy']:.2f}"
                )
                timed, timing = last_line(job.folder / "timings.jsonl")
                seconds = sum(value for key, value in timing.items() if key != "step")
                # The timing of a step comes after its checkpoint, so it may be one step behind.
                state += f"  {last['tokens'] / seconds:>6,.0f} tokens/s" if timed == done else ""
            self.progress.update(task, completed=min(done, job.steps), state=state)

    def finish(self, job: WatchedRun, state: str) -> None:
        """Mark a job as done or failed."""
        task = self.tasks[job.title]
        self.progress.update(task, completed=max(1, job.steps), state=state)
        if not self.console.is_terminal:
            self.console.print(f"{job.title}: {state}")


class EvalProgress:
    """Shows samples done, tokens/s and time left of an evaluation; now and then a line where there is no terminal."""

    def __init__(self) -> None:
        self.console = Console(stderr=True)
        self.progress = Progress(
            TextColumn("{task.description}"), BarColumn(bar_width=20), TextColumn("{task.fields[state]}"),
            TimeElapsedColumn(), TimeRemainingColumn(), console=self.console,
        )  # fmt: skip
        self.task, self.name = TaskID(0), ""

    def __enter__(self) -> Self:
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    def begin(self, benchmark: str, stored: int, total: int) -> None:
        """Start a benchmark's line; samples that were stored before count as done."""
        self.name, self.stored, self.total = benchmark, stored, total
        self.fresh = self.tokens = 0
        self.start = self.told = time.perf_counter()
        self.task = self.progress.add_task(benchmark.ljust(18), total=total, completed=stored, state="")
        if stored:
            self.say(f"{benchmark}: {stored} of {total} samples are stored, {total - stored} are drawn")

    def see(self, kept: StoredSample) -> None:
        """Count one sample."""
        self.fresh, self.tokens = self.fresh + 1, self.tokens + kept.tokens
        now = time.perf_counter()
        done = self.stored + self.fresh
        state = f"{done}/{self.total} samples  {self.tokens / max(now - self.start, 1e-3):,.0f} tokens/s"
        self.progress.update(self.task, completed=done, state=state)
        if not self.console.is_terminal and now - self.told > LINE_SECONDS:
            self.told = now
            self.say(f"{self.name}: {state}")

    def say(self, text: str) -> None:
        """Print a line beside the bars."""
        if text:
            self.console.print(text, highlight=False, markup=False, soft_wrap=True)
