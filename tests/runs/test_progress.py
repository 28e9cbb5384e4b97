"""What is said of a run's progress: plain lines where there is no terminal, bars on one."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from pathlib import Path

import pytest
from rich.console import Console

from archer.runs.progress import CompareProgress, EvalProgress, StepPace, TrainProgress, step_state
from archer.runs.samples import StoredSample

NEVER = 1e9  # seconds between plain lines: only the first and those that are always told
METRICS = {"reward": 0.454, "tokens": 6912.0, "rollout_entropy": 0.5, "length": 36.0}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@dataclass(frozen=True)
class Job:
    title: str
    folder: Path
    steps: int

    def done_steps(self) -> int:
        return 0


def console(file: io.StringIO, width: int = 200, terminal: bool = False) -> Console:
    return Console(file=file, width=width, force_terminal=terminal)


def journal(job: Job, seconds: float) -> None:
    job.folder.mkdir(exist_ok=True)
    for name, line in (("metrics", METRICS), ("timings", {"step": 7, "generate": seconds - 0.5, "update": 0.5})):
        with (job.folder / f"{name}.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")


def sample(tokens: int) -> StoredSample:
    return StoredSample("key", "sums-1", 0, 5, "7", tokens, "end", 1.0)


def test_a_step_in_words_by_hand() -> None:
    pace = StepPace()
    pace.add(2.0)
    pace.add(4.0)
    expected = "step  12/400  reward 0.45  1,728 tokens/s  0:19:24 left  entropy 0.50"  # 388 steps of 3 s
    assert step_state(12, 400, METRICS, 4.0, pace) == expected
    assert step_state(5, 9, {}, 0.0, StepPace()) == "step 5/9"


def test_training_tells_the_first_step_the_last_and_the_end() -> None:
    file = io.StringIO()
    with TrainProgress("grpo seed 0", 4, NEVER, console(file)) as progress:
        for step in (1, 2, 3, 4):
            progress.step(step, METRICS, 2.0)
    assert file.getvalue().splitlines() == [
        "grpo seed 0: step 1/4  reward 0.45  3,456 tokens/s  0:00:06 left  entropy 0.50",
        "grpo seed 0: step 4/4  reward 0.45  3,456 tokens/s  0:00:00 left  entropy 0.50",
        "grpo seed 0: done in 0:00:00",
    ]


def test_training_tells_every_step_that_comes_an_interval_after_the_last_line() -> None:
    file = io.StringIO()
    with TrainProgress("grpo seed 0", 9, 30.0, console(file)) as progress:
        progress.step(1, {}, 2.0)
        progress.step(2, {}, 2.0)
        progress.told -= 31.0
        progress.step(3, {}, 2.0)
        progress.say("a [remark]")
        progress.step(4, {}, 2.0)
    assert file.getvalue().splitlines() == [
        "grpo seed 0: step 1/9  0:00:16 left",
        "grpo seed 0: step 3/9  0:00:12 left",
        "a [remark]",
        "grpo seed 0: step 4/9  0:00:10 left",  # untold until the end
        "grpo seed 0: done in 0:00:00",
    ]


def test_training_that_breaks_off_tells_its_last_step_and_no_end() -> None:
    file = io.StringIO()
    progress = TrainProgress("grpo seed 0", 9, NEVER, console(file))
    progress.step(1, {}, 2.0)
    progress.step(2, {}, 2.0)
    with pytest.raises(ValueError, match="broken"), progress:
        raise ValueError("broken")
    assert file.getvalue().splitlines() == [
        "grpo seed 0: step 1/9  0:00:16 left",
        "grpo seed 0: step 2/9  0:00:14 left",
    ]


def test_training_shows_the_evaluations_in_it() -> None:
    file = io.StringIO()
    with TrainProgress("grpo seed 0", 1, NEVER, console(file)) as progress:
        progress.step(1, {}, 2.0)
        progress.begin("lab-sums", 1, 3)
        progress.see(sample(20))
        progress.see(sample(20))
    lines = file.getvalue().splitlines()
    assert lines[1] == "lab-sums: 1 of 3 samples are stored, 2 are drawn"
    assert lines[2].startswith("lab-sums: 3/3 samples  ")
    assert lines[2].endswith("tokens/s  0:00:00 left")
    assert lines[3] == "grpo seed 0: done in 0:00:00"


def test_a_comparison_tells_a_line_of_each_running_run(tmp_path: Path) -> None:
    file = io.StringIO()
    jobs = [
        Job(name, tmp_path / name[:3], steps) for name, steps in (("grpo seed 0", 9), ("dapo seed 0", 9), ("base", 0))
    ]
    with CompareProgress(jobs, {"dapo seed 0"}, 0.0, console(file)) as progress:
        running = [jobs[0], jobs[2]]
        progress.refresh(running)
        journal(jobs[0], 2.0)
        progress.refresh(running)
        journal(jobs[0], 4.0)
        progress.interval = NEVER
        progress.refresh(running)
        progress.finish(jobs[2], "done")
        progress.interval = 0.0
        progress.refresh(running[:1])
    assert file.getvalue().splitlines() == [
        "grpo seed 0: starting",
        "base: evaluating",
        "grpo seed 0: step 1/9  reward 0.45  3,456 tokens/s  0:00:16 left  entropy 0.50",
        "base: evaluating",
        "base: done (2 of 3)",
        "grpo seed 0: step 2/9  reward 0.45  1,728 tokens/s  0:00:21 left  entropy 0.50",
    ]


def test_a_step_that_is_not_timed_yet_has_no_speed(tmp_path: Path) -> None:
    file, job = io.StringIO(), Job("grpo seed 0", tmp_path, 9)
    with CompareProgress([job], (), 0.0, console(file)) as progress:
        (tmp_path / "metrics.jsonl").write_text(json.dumps(METRICS) + "\n")
        progress.refresh([job])
    assert file.getvalue() == "grpo seed 0: step 1/9  reward 0.45  entropy 0.50\n"


def test_a_terminal_of_80_columns_shows_a_bar_with_reward_speed_and_time_left() -> None:
    file = Terminal()
    with TrainProgress("archer seed 0", 400, NEVER, console(file, 80, terminal=True)) as progress:
        progress.step(12, METRICS, 0.5)
        progress.bars.refresh()
    text = file.getvalue()
    assert "━━━" in text
    assert "step  12/400  reward 0.45  13,824 tokens/s  0:03:14 left" in text
    assert "done in" not in text


def test_a_file_gets_no_bars_even_where_colours_are_forced() -> None:
    file = io.StringIO()
    with EvalProgress(NEVER, console(file, terminal=True)) as progress:
        progress.begin("lab-sums", 0, 2)
        progress.see(sample(20))
        progress.see(sample(20))
    (line,) = file.getvalue().splitlines()
    assert line.startswith("lab-sums: 2/2 samples  ")


def test_a_quiet_console_shows_nothing() -> None:
    file = Terminal()
    with TrainProgress("grpo seed 0", 1, 0.0, Console(file=file, force_terminal=True, quiet=True)) as progress:
        progress.step(1, METRICS, 2.0)
        progress.say("a remark")
    assert file.getvalue() == ""
