"""Grades rollouts: cheap answers in this process, other answers in workers that can be killed, programs in a sandbox.

An answer that exceeds a limit gets the reason ``timeout`` or ``memory``: it earns what a wrong answer does and is
counted separately. Only broken workers raise an error.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from types import TracebackType
from typing import Protocol, Self

from archer.errors import ArcherError, DataError, EngineError, GraderError, MissingError, SandboxError, UserError
from archer.rewards import ProgramReward, TextReward, find_reward, math
from archer.rewards.workers import Killed, Workers
from archer.sandbox.base import Executor, Outcome, ProgramJob
from archer.sandbox.limits import default_limits
from archer.system import cores, installed
from archer.types import Json, Problem, Stop, Verdict

# Packages whose versions affect verdicts.
LIBRARIES = {"math": ("math-verify", "latex2sympy2-extended", "sympy", "python-flint")}


class Gradable(Protocol):
    """What the grader reads of a response, in training or evaluation."""

    @property
    def problem(self) -> Problem: ...
    @property
    def sample(self) -> int: ...
    @property
    def text(self) -> str: ...
    @property
    def stop(self) -> Stop: ...


class Grader:
    """Turns rollouts into verdicts; a context manager, and thread-safe. The caller closes the executor.

    ``workers`` processes grade at once (0: one per core). ``seconds`` limits the CPU time of one answer,
    2 x ``seconds`` + 1 its elapsed time, and ``memory_bytes`` what it may map beyond a worker's own 200 MiB.
    Workers start with the first answer that needs one; plain numbers never do.
    """

    def __init__(
        self, workers: int, seconds: float, executor: Executor | None = None, memory_bytes: int = 3 * 2**28
    ) -> None:
        if workers < 0 or seconds <= 0:
            raise UserError(f"grader: expected workers >= 0 and seconds > 0, found {workers} and {seconds}")
        self._executor, self._seconds = executor, seconds
        self._workers = Workers(
            workers or cores(),
            seconds,
            memory_bytes,
            warm=math.load,
            preload=("archer.rewards.mathematics.warmed", "archer.rewards.grading"),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End every worker process."""
        self._workers.close()

    @property
    def sandbox(self) -> dict[str, Json] | None:
        """What verdicts on programs depend on: the executor, its Python, the limits; None without a sandbox."""
        return where_programs_ran(self._executor)

    def begin(self) -> RunsUnderWay:
        """Return a collector that runs the programs of finished rollouts while others are still sampled."""
        return RunsUnderWay(self._executor)

    def grade(self, rollouts: Sequence[Gradable], started: RunsUnderWay | None = None) -> list[Verdict]:
        """Return one verdict per rollout, in order. Equal answers to equal golds are judged once.

        Programs in ``started`` are waited for, others run now. Truncated rollouts are judged like others.
        Raises :class:`~archer.errors.EngineError` for a rollout that an engine error ended,
        :class:`~archer.errors.MissingError` if a program has no sandbox to run in,
        :class:`~archer.errors.DataError` for a malformed gold, and GraderError or SandboxError if the workers
        or the sandbox break.
        """
        questions = [_question(rollout) for rollout in rollouts]
        unique = dict.fromkeys(questions)
        verdicts: dict[_Question, Verdict] = {item: item for item in unique if isinstance(item, Verdict)}
        texts = [item for item in unique if isinstance(item, _Text)]
        verdicts |= {item: _judge(item) for item in texts if _is_plain(item)}
        verdicts |= self._judge_in_workers([item for item in texts if item not in verdicts])
        programs = [item for item in unique if isinstance(item, _Program)]
        verdicts |= self._run_programs(programs, started.runs if started else {})
        return [verdicts[question] for question in questions]

    __call__ = grade

    def versions(self, rewards: Iterable[str]) -> dict[str, Json]:
        """Return for each reward what its verdicts depend on beside the answer; equal versions give equal verdicts.

        ``rules`` counts the changes of this project's code that may change a verdict.
        """
        return {name: self._version(name) for name in sorted(set(rewards))}

    def _version(self, name: str) -> dict[str, Json]:
        reward = find_reward(name)
        if isinstance(reward, ProgramReward):
            return {"rules": reward.rules, **(where_programs_ran(self._executor) or {})}
        libraries = {package: installed(package) for package in LIBRARIES.get(name, ())}
        return {"rules": reward.rules, "seconds": self._seconds, **libraries}

    def _judge_in_workers(self, texts: list[_Text]) -> dict[_Question, Verdict]:
        results = self._workers.run(_judge, [(text,) for text in texts])
        return {
            text: text.reward.verdict(result.reason, text.answer or "") if isinstance(result, Killed) else result
            for text, result in zip(texts, results, strict=True)
        }

    def _run_programs(self, programs: list[_Program], started: Mapping[_Program, _Runs]) -> dict[_Question, Verdict]:
        if not programs:
            return {}
        if self._executor is None:
            raise MissingError(
                f"problem {programs[0].problem.id}: its reward {programs[0].problem.reward!r} runs programs, and "
                "there is no sandbox; install bubblewrap (`apt install bubblewrap`) or choose with `sandbox`"
            )
        verdicts: dict[_Question, Verdict] = {}
        rest = [program for program in programs if program not in started]
        runs = [([program], started[program]) for program in programs if program in started]
        runs.append((rest, self._executor.execute([program.job for program in rest])))
        for asked, outcomes in runs:
            for index, outcome in outcomes:
                verdicts[asked[index]] = asked[index].reward.judge(asked[index].problem, outcome)
        if len(verdicts) != len(programs):
            raise SandboxError(
                f"executor {self._executor.name}: {len(programs)} programs went in, {len(verdicts)} outcomes came back"
            )
        return verdicts


def where_programs_ran(executor: Executor | None) -> dict[str, Json] | None:
    """Return what verdicts on programs depend on: executor, Python, limits. None without an executor."""
    if executor is None:
        return None
    return {"executor": executor.name, "python": executor.python, "limits": asdict(default_limits())}


class RunsUnderWay:
    """Runs the programs of finished rollouts before their batch is complete. Not thread-safe."""

    def __init__(self, executor: Executor | None) -> None:
        self._executor = executor
        self.runs: dict[_Program, _Runs] = {}

    def put(self, rollout: Gradable) -> None:
        """Start the rollout's program, if it has one that is not running yet; text is judged with the batch.

        Raises :class:`~archer.errors.DataError` for a malformed gold.
        """
        if self._executor is None or not isinstance(find_reward(rollout.problem.reward), ProgramReward):
            return
        question = _question(rollout)
        if isinstance(question, _Program) and question not in self.runs:
            self.runs[question] = self._executor.execute([question.job])


@dataclass(frozen=True)
class _Text:
    """An answer to judge; equal ones earn the same verdict."""

    name: str
    key: str  # the gold as JSON: golds may be lists, which do not hash
    answer: str | None
    gold: Json = field(compare=False)
    reward: TextReward = field(compare=False)
    problem_id: str = field(compare=False)


@dataclass(frozen=True)
class _Program:
    """A program to run; equal ones run once."""

    source: str
    problem_id: str
    gold: int  # the object's identity: a problem that comes again may come with other tests
    program: str
    job: ProgramJob = field(compare=False)
    reward: ProgramReward = field(compare=False)
    problem: Problem = field(compare=False)


_Question = _Text | _Program | Verdict
_Runs = Iterator[tuple[int, Outcome]]


def _question(rollout: Gradable) -> _Question:
    problem = rollout.problem
    if rollout.stop == "error":
        raise EngineError(
            f"problem {problem.id}, sample {rollout.sample}: the engine did not finish this rollout: it is not scored"
        )
    reward = find_reward(problem.reward)
    if isinstance(reward, ProgramReward):
        job = reward.job(problem, rollout.text)
        if isinstance(job, Verdict):
            return job
        return _Program(problem.source, problem.id, id(problem.gold), job.program, job, reward, problem)
    key, answer = json.dumps(problem.gold, sort_keys=True), reward.extract(rollout.text)
    return _Text(problem.reward, key, answer, problem.gold, reward, problem.id)


def _is_plain(text: _Text) -> bool:
    try:
        return text.reward.is_plain(text.gold, text.answer)
    except DataError as error:
        raise DataError(f"problem {text.problem_id}: {error}") from error


def _judge(text: _Text) -> Verdict:
    """Judge here or in a worker, where MemoryError has a meaning of its own (``archer.rewards.workers``)."""
    try:
        return text.reward.judge(text.gold, text.answer)
    except (ArcherError, MemoryError):
        raise
    except Exception as error:
        raise GraderError(
            f"problem {text.problem_id}: reward {text.name!r} raised {error!r} on {(text.answer or '')[:200]!r}"
        ) from error
