"""``archer compare``: train several algorithms with several seeds from one base model, and compare them."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path

from archer.errors import ArcherError, MissingError, OurError, UserError
from archer.evaluation.benchmark import called, read_benchmark
from archer.evaluation.model import eval_digest
from archer.leaderboards.ranking import BASE, Standings
from archer.leaderboards.standings import read_standings
from archer.problems.streams import judges_programs
from archer.recipe.algorithm import build_algorithm
from archer.recipe.reading import as_recipe, recipe_yaml
from archer.recipe.sections import Recipe
from archer.rewards.opening import open_sandbox
from archer.runs.folder import RunWriter, last_line, read_manifest, refuse_other
from archer.runs.outside import outside_parts
from archer.runs.progress import CompareProgress
from archer.sandbox import Sandbox, open_executor
from archer.spec import resolve
from archer.system import PACKAGE, cores, gpu_count, provenance

POLL_SECONDS = 0.5
STOP_SECONDS = 20.0


@dataclass(frozen=True)
class CompareJob:
    """One child process: a training run, or the base model's evaluation (``algorithm`` "base")."""

    algorithm: str
    seed: int
    folder: Path
    steps: int

    @property
    def title(self) -> str:
        """The name in the progress display."""
        return BASE if self.algorithm == BASE else f"{self.algorithm} seed {self.seed}"

    def done_steps(self) -> int:
        """Return the training steps finished so far."""
        return last_line(self.folder / "metrics.jsonl")[0]


@dataclass(frozen=True)
class ComparePlan:
    """What to compare, in which folder, and how many processes of how many threads run at a time."""

    recipe: Recipe
    algorithms: tuple[str, ...]
    seeds: int
    out: Path
    parallel: int
    threads: int
    unisolated: bool = False

    def jobs(self) -> list[CompareJob]:
        """Return every job; the base model's evaluation is the shortest, so it comes last."""
        steps = self.recipe.steps
        trainings = [
            CompareJob(name, seed, self.out / name / f"seed-{seed}", steps)
            for seed in range(self.seeds)
            for name in self.algorithms
        ]
        return [*trainings, CompareJob(BASE, 0, self.out / BASE, 0)]

    def check_folder(self, job: CompareJob) -> None:
        """Raise RunFolderError if a job's folder holds a run of another recipe or number of threads."""
        existing = read_manifest(job.folder)
        if existing is not None:
            parts = outside_parts(self.recipe, [] if job.algorithm == BASE else [job.algorithm])
            digest = eval_digest(self.recipe) if job.algorithm == BASE else self.recipe.digest(job.algorithm, parts)
            refuse_other(job.folder, existing, {"parts": parts, "recipe_digest": digest, "threads": self.threads})

    @cached_property
    def benchmarks(self) -> tuple[str, ...]:
        """What results call the recipe's benchmarks."""
        return tuple(map(called, self.recipe.evaluate.benchmarks))

    def finished(self, job: CompareJob) -> bool:
        """Whether all of the job's final results exist."""
        return all((job.folder / "results" / f"{name}.json").exists() for name in self.benchmarks)

    def command(self, job: CompareJob) -> list[str]:
        """Return the command line of a job."""
        own = [sys.executable, "-m", "archer"]
        shared = ["--out", str(job.folder), "--threads", str(self.threads)]
        shared += ["--allow-unisolated"] if self.unisolated else []
        recipe = str(self.out / "recipe.yaml")
        if job.algorithm == BASE:
            return [*own, "eval", self.recipe.model.path, "--recipe", recipe, "--label", BASE, *shared]
        return [*own, "train", recipe, "--algorithm", job.algorithm, "--seed", str(job.seed), *shared]


def schedule(jobs: int, asked: int, cores: int, gpu: bool) -> tuple[int, int]:
    """Return (processes at a time, threads each).

    ``asked`` processes; 0: one on a GPU, else one per core, as small models gain more from parallel runs than from
    threads.
    """
    parallel = asked or (1 if gpu else max(1, min(jobs, cores)))
    return parallel, max(1, cores // parallel)


def without_programs(recipe: Recipe) -> tuple[Recipe, str]:
    """Return the recipe, without program problems if there is no sandbox, and a message if any were removed."""
    try:
        open_executor(Sandbox(recipe.reward.sandbox, 1, recipe.reward.docker_hosts)).close()
        return recipe, ""
    except MissingError as error:
        data = tuple(source for source in recipe.data if not judges_programs(source))
        names = recipe.evaluate.benchmarks
        benchmarks = tuple(name for name in names if not judges_programs(read_benchmark(name).data))
        evaluate = replace(recipe.evaluate, benchmarks=benchmarks)
        return replace(recipe, data=data, evaluate=evaluate), f"programs are left out: {error}"


def compare(
    recipe: str | Path | Recipe = "lab", algorithms: Sequence[str] = (), seeds: int = 2, out: str | Path | None = None,
    *, changes: Sequence[str] = (), parallel: int = 0, threads: int = 0, allow_unisolated: bool = False,
) -> Standings:  # fmt: skip
    """Train algorithms from one base model, each with several seeds, evaluate all, and return their standings.

    ``recipe`` is a shipped recipe's name, a YAML file or a :class:`~archer.recipe.sections.Recipe`; ``changes`` are
    ``key.key=value`` strings as of ``--set``. ``algorithms`` are names in the recipe (empty: all of them). ``out`` is
    the folder (None: ``runs/RECIPE``); a second call on the same folder resumes. ``parallel`` runs go at a time (0: one
    per core, or one on a GPU) with ``threads`` each (0: an equal share of the cores).

    Raises UserError or OurError with the first failing run's message, after the other runs have finished.
    """
    for part in algorithms:
        if not isinstance(part, str):
            raise UserError(
                f"compare: {part!r:.80}: runs are processes of their own, which find a part by its name: put it into a "
                "file and name that in the recipe, as in algorithms: {mine: {base: ./mine.py:MINE}}"
            )
    chosen = as_recipe(recipe, changes)
    names = tuple(dict.fromkeys(algorithms)) or tuple(chosen.algorithms)
    at_a_time, each = schedule(len(names) * seeds, parallel, cores(), gpu_count() > 0)
    folder = Path(out) if out else Path("runs") / chosen.name
    run_plan(ComparePlan(chosen, names, seeds, folder, at_a_time, threads or each, allow_unisolated))
    return read_standings(folder)


def run_plan(plan: ComparePlan) -> None:
    """Run every job that is not finished yet.

    Raises UserError or OurError with the first failing job's message, after the other jobs have finished.
    """
    for name in plan.algorithms:
        build_algorithm(plan.recipe, name)
    spec = resolve(plan.recipe, plan.algorithms[0])
    with contextlib.ExitStack() as stack:
        open_sandbox(plan.recipe.reward, spec.rewards, plan.unisolated, stack)
    for job in plan.jobs():
        plan.check_folder(job)
    parts = outside_parts(plan.recipe, plan.algorithms)
    manifest = {
        "recipe": asdict(plan.recipe), "recipe_digest": plan.recipe.digest(None, parts), "parts": parts,
        "algorithms": list(plan.algorithms), "benchmarks": list(plan.benchmarks),
        "seeds": list(range(plan.seeds)), "parallel": plan.parallel, "threads": plan.threads, **provenance(),
    }  # fmt: skip
    with contextlib.closing(RunWriter(plan.out, manifest)) as writer:
        writer.update(manifest)
        run_jobs(plan)


def run_jobs(plan: ComparePlan) -> None:
    """Run all unfinished jobs, ``plan.parallel`` at a time. Raises the first failing job's error at the end."""
    (plan.out / "recipe.yaml").write_text(recipe_yaml(plan.recipe))
    jobs = [job for job in plan.jobs() if not plan.finished(job)]
    done = {job.title for job in plan.jobs() if plan.finished(job)}
    failed: list[tuple[CompareJob, int]] = []
    with CompareProgress(plan.jobs(), done) as progress, children() as running:
        while jobs or running:
            while jobs and len(running) < plan.parallel:
                job = jobs.pop(0)
                running[job] = start(plan.command(job), job.folder)
            progress.refresh(running)
            for job, process in list(running.items()):
                if process.poll() is not None:
                    del running[job]
                    progress.finish(job, "done" if process.returncode == 0 else "failed")
                    failed += [(job, process.returncode)] if process.returncode else []
            time.sleep(POLL_SECONDS)
    if failed:  # raised last, so that the other jobs finish
        raise failure(*failed[0])


@contextlib.contextmanager
def children() -> Iterator[dict[CompareJob, subprocess.Popen[bytes]]]:
    """Yield a dict of running jobs; on exit, interrupt those left and wait for them, at most 20 seconds."""
    running: dict[CompareJob, subprocess.Popen[bytes]] = {}
    try:
        yield running
    finally:
        for process in running.values():
            process.send_signal(signal.SIGINT)
        deadline = time.monotonic() + STOP_SECONDS
        for process in running.values():
            try:
                process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def start(command: Sequence[str], folder: Path) -> subprocess.Popen[bytes]:
    """Start a job with its output in ``log.txt``, in its own session: `children` passes Ctrl-C on."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "log.txt").open("wb") as log:
        # The children must run this process's code, not that of the current folder.
        home = os.pathsep.join(filter(None, [str(PACKAGE.parent), os.environ.get("PYTHONPATH")]))
        own = {"ARCHER_PARENT": str(os.getpid()), "PYTHONSAFEPATH": "1", "PYTHONPATH": home}
        environment = {**os.environ, **own}
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, env=environment
        )


def failure(job: CompareJob, code: int) -> ArcherError:
    """Return the error of a failed job: its own message after ``archer:``, or its signal or exit code."""
    log = job.folder / "log.txt"
    output = log.read_text(errors="replace")
    if code < 0:
        return OurError(f"{job.title}: ended by signal {-code} (see {log}); the same command goes on")
    message = (
        output[output.rindex("archer: ") + len("archer: ") :].strip() if "archer: " in output else output.strip()[-500:]
    )
    return (UserError if code == 2 else OurError)(f"{job.title}: {message or f'ended with code {code}'} (see {log})")
