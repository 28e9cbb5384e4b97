"""Grades rollouts: cheap answers in this process, other answers in workers that can be killed, programs in a sandbox.

An answer that exceeds a limit gets the reason ``timeout`` or ``memory``: it earns what a wrong answer does and is
counted separately. Only broken workers, a reward that raises and a service that fails raise an error.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from types import TracebackType
from typing import Any, Self

from archer.errors import EngineError, MissingError, SandboxError, UserError
from archer.parts import part_digests
from archer.recipe.rewards import first_reward
from archer.rewards import REWARDS, find_reward, math, reward_parts
from archer.rewards.base import AnyReward, Gradable, RewardSum, runs_in
from archer.rewards.batches import Asked, Started, begin_early, grade_batches
from archer.rewards.questions import (
    ProgramQuestion,
    Question,
    TextQuestion,
    for_worker,
    is_plain,
    judge_text,
    question_of,
    reward_of_question,
)
from archer.rewards.services import ServiceThreads
from archer.rewards.workers import Killed, Workers
from archer.sandbox.base import Executor, Outcome
from archer.sandbox.limits import default_limits
from archer.system import cores, installed
from archer.types import Json, Verdict

# Packages whose versions affect verdicts.
LIBRARIES = {"math": ("math-verify", "latex2sympy2-extended", "sympy", "python-flint")}


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
        self._services: ServiceThreads[list[Verdict]] = ServiceThreads()
        self.counted: list[Any] = []
        """Rewards that count what their service is asked."""
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
        """End every worker process, and what waits for a service."""
        self._services.close()
        self._workers.close()

    @property
    def sandbox(self) -> dict[str, Json] | None:
        """What verdicts on programs depend on: the executor, its Python, the limits; None without a sandbox."""
        return where_programs_ran(self._executor)

    def begin(self) -> RunsUnderWay:
        """Return a collector that runs programs and asks services about finished rollouts while others are sampled."""
        return RunsUnderWay(self._executor, self._services)

    def grade(self, rollouts: Sequence[Gradable], started: RunsUnderWay | None = None) -> list[Verdict]:
        """Return one verdict per rollout, in order. Equal answers to equal golds are judged once.

        Of a sum of rewards each part judges by itself. Programs and services in ``started`` are waited for, others are
        asked now. Truncated rollouts are judged like others.
        Raises :class:`~archer.errors.EngineError` for a rollout that an engine error ended,
        :class:`~archer.errors.MissingError` if a program has no sandbox to run in,
        :class:`~archer.errors.DataError` for a malformed gold, and GraderError, SandboxError or JudgeError if a reward,
        the workers, the sandbox or a judge's server breaks.
        """
        asked = [_questions(rollout) for rollout in rollouts]
        verdicts = self._answers(list(dict.fromkeys(one for _, questions in asked for one in questions)), started)
        return [
            found.verdict([verdicts[one] for one in questions])
            if isinstance(found, RewardSum)
            else verdicts[questions[0]]
            for found, questions in asked
        ]

    def _answers(self, unique: Sequence[Question], started: RunsUnderWay | None) -> dict[Question, Verdict]:
        verdicts: dict[Question, Verdict] = {item: item for item in unique if isinstance(item, Verdict)}
        texts = [item for item in unique if isinstance(item, TextQuestion)]
        verdicts |= {item: judge_text(item) for item in texts if is_plain(item)}
        verdicts |= self._judge_in_workers([item for item in texts if item not in verdicts])
        programs = [item for item in unique if isinstance(item, ProgramQuestion)]
        verdicts |= self._run_programs(programs, started.runs if started else {})
        batches = [item for item in unique if isinstance(item, Asked)]
        return verdicts | grade_batches(batches, self._workers, self._services, started.asked if started else {})

    __call__ = grade

    def versions(self, rewards: Iterable[str]) -> dict[str, Json]:
        """Return for each reward what its verdicts depend on beside the answer; equal versions give equal verdicts.

        ``rules`` counts the changes of this project's code that may change a verdict.
        """
        parts = {part.spec: part.reward for spec in set(rewards) for part in reward_parts(spec)}
        return {spec: self._version(spec, parts[spec]) for spec in sorted(parts)}

    def usage(self) -> dict[str, float]:
        """Return what services were asked since the last call of this, as metrics; empty without such a reward."""
        total: Counter[str] = Counter()
        for reward in self.counted:
            total.update(reward.usage.take())
        return dict(total)

    def _version(self, spec: str, reward: AnyReward) -> dict[str, Json]:
        where, name = runs_in(reward), first_reward(spec)
        version = {"rules": getattr(reward, "rules", 1), **getattr(reward, "describe", dict)()}
        if where == "sandbox":
            version |= where_programs_ran(self._executor) or {}
        if where == "worker":
            version |= {
                "seconds": self._seconds,
                **{package: installed(package) for package in LIBRARIES.get(name, ())},
            }
        if name not in REWARDS:
            version["sha256"] = part_digests([("rewards", name)], {})[f"rewards: {name}"]
        return version

    def _judge_in_workers(self, texts: list[TextQuestion]) -> dict[Question, Verdict]:
        results = self._workers.run(judge_text, [(for_worker(text),) for text in texts])
        return {
            text: reward_of_question(text).verdict(result.reason, text.answer or "")
            if isinstance(result, Killed)
            else result
            for text, result in zip(texts, results, strict=True)
        }

    def _run_programs(
        self, programs: list[ProgramQuestion], started: Mapping[ProgramQuestion, _Runs]
    ) -> dict[Question, Verdict]:
        if not programs:
            return {}
        if self._executor is None:
            raise MissingError(
                f"problem {programs[0].problem.id}: its reward {programs[0].problem.reward!r} runs programs, and "
                "there is no sandbox; install bubblewrap (`apt install bubblewrap`) or choose with `sandbox`"
            )
        verdicts: dict[Question, Verdict] = {}
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
    """Runs the programs of finished rollouts, and asks services, before their batch is complete. Not thread-safe."""

    def __init__(self, executor: Executor | None, services: ServiceThreads[list[Verdict]]) -> None:
        self._executor, self._services = executor, services
        self.runs: dict[ProgramQuestion, _Runs] = {}
        self.asked: Started = {}

    def put(self, rollout: Gradable) -> None:
        """Start what can be: a program that is not running yet, a question to a service. Texts wait for the batch.

        Raises :class:`~archer.errors.DataError` for a malformed gold.
        """
        _, parts = _parts(rollout.problem.reward)
        wanted = ("service",) if self._executor is None else ("sandbox", "service")
        for spec, reward in parts:
            if runs_in(reward) in wanted:
                self._begin(_question(rollout, spec, reward))

    def _begin(self, question: Question) -> None:
        if isinstance(question, Asked):
            begin_early(question, self._services, self.asked)
        elif isinstance(question, ProgramQuestion) and self._executor is not None and question not in self.runs:
            self.runs[question] = self._executor.execute([question.job])


_Runs = Iterator[tuple[int, Outcome]]


def _questions(rollout: Gradable) -> tuple[AnyReward | RewardSum, list[Question]]:
    """Return the reward of a rollout's problem, and what each of its parts is asked."""
    found, parts = _parts(rollout.problem.reward)
    return found, [_question(rollout, spec, reward) for spec, reward in parts]


def _parts(spec: str) -> tuple[AnyReward | RewardSum, list[tuple[str, AnyReward]]]:
    found = find_reward(spec)
    if isinstance(found, RewardSum):
        return found, [(part.spec, part.reward) for part in found.parts]
    return found, [(spec, found)]


def _question(rollout: Gradable, name: str, reward: AnyReward) -> Question:
    if rollout.stop == "error":
        raise EngineError(
            f"problem {rollout.problem.id}, sample {rollout.sample}: the engine did not finish this rollout: "
            "it is not scored"
        )
    return question_of(rollout, name, reward)
