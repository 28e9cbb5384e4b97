"""How far a comparison, a training run, an evaluation is: bars on a terminal, plain lines elsewhere, on stderr."""

from __future__ import annotations

import math
import time
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Protocol, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Column

from archer.runs.folder import last_line
from archer.runs.samples import StoredSample
from archer.terminal import terminal

LINE_SECONDS = 30.0  # between two plain lines
WIDE = 100  # columns of a terminal with room for the time since the start


class WatchedRun(Protocol):
    """A run with a journal."""

    @property
    def title(self) -> str: ...
    @property
    def folder(self) -> Path: ...
    @property
    def steps(self) -> int: ...
    def done_steps(self) -> int: ...


class LiveDisplay:
    """What the displays share: bars on a terminal; elsewhere plain lines, ``interval`` seconds apart.

    A console that is quiet shows nothing: that of a rank which leaves talking to rank 0.
    """

    def __init__(self, interval: float = LINE_SECONDS, console: Console | None = None) -> None:
        self.console = console or terminal(stderr=True)
        # FORCE_COLOR lets rich take a file for a terminal, and bars would fill it with control characters.
        self.plain = self.console.quiet or not (self.console.is_interactive and self.console.file.isatty())
        state = TextColumn("{task.fields[state]}", table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis"))
        columns: list[ProgressColumn] = [TextColumn("{task.description}"), BarColumn(bar_width=6), state]
        columns += [TimeElapsedColumn()] if self.console.width >= WIDE else []
        self.bars = Progress(*columns, console=self.console, expand=True, disable=self.plain)
        self.interval, self.start, self.told = interval, time.monotonic(), -math.inf

    def __enter__(self) -> Self:
        self.bars.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.bars.stop()

    def say(self, text: str) -> None:
        """Print a line, beside the bars where there are any."""
        if text:
            self.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def due(self) -> bool:
        """Say whether plain lines are due now; they then count as told."""
        if not self.plain or time.monotonic() - self.told < self.interval:
            return False
        self.told = time.monotonic()
        return True


@dataclass
class StepPace:
    """How long the steps seen so far took."""

    steps: int = 0
    seconds: float = 0.0

    def add(self, seconds: float) -> None:
        """Count a step."""
        self.steps, self.seconds = self.steps + 1, self.seconds + seconds

    def left(self, steps: int) -> str:
        """Return the time that so many more steps take, as text."""
        return time_left(self.seconds / self.steps * steps) if self.steps else ""


def time_left(seconds: float) -> str:
    """Return ``0:10:20 left``."""
    return f"{timedelta(seconds=round(seconds))} left"


def step_state(done: int, steps: int, metrics: Mapping[str, float], seconds: float, pace: StepPace) -> str:
    """Return what is shown of a step: ``step 12/40  reward 0.45  3,456 tokens/s  0:10:20 left  entropy 0.50``.

    ``seconds`` are those of the step, 0 where they are not known. The entropy comes last: a narrow terminal cuts it.
    """
    parts = [f"step {done:>{len(str(steps))}}/{steps}"]
    parts += [f"reward {metrics['reward']:.2f}"] if "reward" in metrics else []
    parts += [f"{metrics['tokens'] / seconds:,.0f} tokens/s"] if seconds and "tokens" in metrics else []
    parts += [pace.left(steps - done)]
    parts += [f"entropy {metrics['rollout_entropy']:.2f}"] if "rollout_entropy" in metrics else []
    return "  ".join(filter(None, parts))


class CompareProgress(LiveDisplay):
    """Shows step, reward, tokens/s, time left and entropy of every run; as plain lines of those that run."""

    def __init__(
        self, jobs: Iterable[WatchedRun], finished: Container[str], interval: float = LINE_SECONDS,
        console: Console | None = None,
    ) -> None:  # fmt: skip
        super().__init__(interval, console)
        runs = list(jobs)
        width = max((len(job.title) for job in runs), default=0)
        self.tasks: dict[str, TaskID] = {}
        self.paces: dict[str, StepPace] = {}
        self.timed: dict[str, int] = {}
        self.ended = sum(job.title in finished for job in runs)
        for job in runs:
            done = max(1, job.steps) if job.title in finished else job.done_steps()
            self.paces[job.title], self.timed[job.title] = StepPace(), done
            self.tasks[job.title] = self.bars.add_task(
                job.title.ljust(width), total=max(1, job.steps), completed=done, start=False,
                state="done" if job.title in finished else "waiting",
            )  # fmt: skip

    def refresh(self, jobs: Iterable[WatchedRun]) -> None:
        """Read the running jobs' journals and redraw, or print a line of each."""
        due = self.due()
        for job in jobs:
            done, state = self.state(job)
            self.bars.start_task(self.tasks[job.title])
            self.bars.update(self.tasks[job.title], completed=min(done, job.steps), state=state)
            if due:
                self.say(f"{job.title}: {state}")

    def state(self, job: WatchedRun) -> tuple[int, str]:
        """Return a running job's steps done, and what is shown of it."""
        done, last = last_line(job.folder / "metrics.jsonl")
        if done >= job.steps:
            return done, "evaluating"
        if not done:
            return done, "starting"
        timed, timing = last_line(job.folder / "timings.jsonl")
        seconds = sum(value for key, value in timing.items() if key != "step")
        if timed > self.timed[job.title]:
            self.paces[job.title].add(seconds)
        self.timed[job.title] = timed
        # The timing of a step comes after its checkpoint, so it may be one step behind.
        return done, step_state(done, job.steps, last, seconds if timed == done else 0.0, self.paces[job.title])

    def finish(self, job: WatchedRun, state: str) -> None:
        """Mark a job as done or failed."""
        self.ended += 1
        self.bars.update(self.tasks[job.title], completed=max(1, job.steps), state=state)
        if self.plain:
            self.say(f"{job.title}: {state} ({self.ended} of {len(self.tasks)})")


class EvalProgress(LiveDisplay):
    """Shows samples done, tokens/s and time left of an evaluation's benchmarks."""

    def __init__(self, interval: float = LINE_SECONDS, console: Console | None = None) -> None:
        super().__init__(interval, console)
        self.task, self.name = TaskID(0), ""

    def begin(self, benchmark: str, stored: int, total: int) -> None:
        """Start a benchmark's line; samples that were stored before count as done."""
        self.name, self.stored, self.total = benchmark, stored, total
        self.fresh = self.tokens = 0
        self.began = self.told = time.monotonic()
        self.task = self.bars.add_task(benchmark.ljust(14), total=total, completed=stored, state="")
        if stored:
            self.say(f"{benchmark}: {stored} of {total} samples are stored, {total - stored} are drawn")

    def see(self, kept: StoredSample) -> None:
        """Count one sample."""
        self.fresh, self.tokens = self.fresh + 1, self.tokens + kept.tokens
        seconds = max(time.monotonic() - self.began, 1e-3)
        done = self.stored + self.fresh
        state = f"{done}/{self.total} samples  {self.tokens / seconds:,.0f} tokens/s"
        state += f"  {time_left(seconds / self.fresh * (self.total - done))}"
        self.bars.update(self.task, completed=done, state=state)
        if self.due() or (self.plain and done == self.total):
            self.say(f"{self.name}: {state}")


class TrainProgress(EvalProgress):
    """Shows a training run's steps, and the evaluations in it as :class:`EvalProgress` does.

    A plain line comes with the first step, then every ``interval`` seconds, with the last step and at the end.
    """

    def __init__(self, title: str, steps: int, interval: float = LINE_SECONDS, console: Console | None = None) -> None:
        super().__init__(interval, console)
        self.title, self.steps, self.pace, self.untold = title, steps, StepPace(), ""
        self.run = self.bars.add_task(title.ljust(14), total=max(1, steps), state="starting")

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        super().__exit__(kind)
        if self.plain:
            self.say(self.untold)
            took = timedelta(seconds=round(time.monotonic() - self.start))
            self.say(f"{self.title}: done in {took}" if kind is None else "")

    def step(self, step_done: int, metrics: Mapping[str, float], seconds: float) -> None:
        """Show a step: ``step_done`` steps of the run are done, the last one took ``seconds``.

        Of ``metrics`` it shows `reward`, `tokens` (a second) and `rollout_entropy`, those that are there.
        """
        self.pace.add(seconds)
        state = step_state(step_done, self.steps, metrics, seconds, self.pace)
        self.bars.update(self.run, completed=step_done, state=state)
        self.untold = f"{self.title}: {state}"
        if self.due() or (self.plain and step_done == self.steps):
            self.say(self.untold)
            self.untold = ""
