"""Two hosts, as network namespaces joined by a cable: it is pulled out, a rank is killed, and the run goes on."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from archer.runs.folder import read_lines

pytestmark = pytest.mark.deepspeed
SECONDS = 20  # that a collective call may take
RECIPE = """
name: hosts
steps: 6
model: {{path: {model}}}
data: [{{name: lab-arithmetic}}]
algorithms: {{archer: {{group_filter: none}}}}
rollout: {{prompts: 4, samples_per_prompt: 4, max_tokens: 24}}
update: {{lr: 1.0e-3, warmup: 2, mini_batch: 2, deepspeed: {{stage: {stage}, seconds: {seconds}}}}}
reward: {{workers: 1}}
save: {{every: 1, keep: 1}}
"""


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


@pytest.fixture
def hosts() -> Iterator[tuple[str, str]]:
    """The names of two hosts, 10.77.0.1 and 10.77.0.2, each with its own loopback, joined by a cable."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        assert not os.environ.get("CI"), "network namespaces need root and iproute2: apt-get install iproute2"
        pytest.skip("network namespaces need root and iproute2: apt-get install iproute2")
    pytest.importorskip("deepspeed", reason="deepspeed is not installed: pip install 'archer-rlvr[deepspeed]'")
    names = (f"archer-{os.getpid()}-a", f"archer-{os.getpid()}-b")
    try:
        for name in names:
            ip("netns", "add", name)
        ip("-n", names[0], "link", "add", "wire", "type", "veth", "peer", "name", "wire", "netns", names[1])
        for place, name in enumerate(names):
            ip("-n", name, "addr", "add", f"10.77.0.{place + 1}/24", "dev", "wire")
            ip("-n", name, "link", "set", "wire", "up")
            ip("-n", name, "link", "set", "lo", "up")
        yield names
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], check=False)


def start(hosts: tuple[str, str], recipe: Path, out: Path, port: int) -> list[subprocess.Popen[str]]:
    """Start the same command on both hosts, a rank on each."""
    command = [sys.executable, "-m", "archer", "train", str(recipe), "--seed", "3", "--out", str(out), "--threads", "1"]
    shared = {
        "WORLD_SIZE": "2", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1", "MASTER_ADDR": "10.77.0.1", "MASTER_PORT": str(port),
        "GLOO_SOCKET_IFNAME": "wire", "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    return [
        subprocess.Popen(
            ["ip", "netns", "exec", host, *command],
            env={**os.environ, **shared, "RANK": str(rank)}, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )
        for rank, host in enumerate(hosts)
    ]  # fmt: skip


def wait_for(out: Path, steps: int, processes: list[subprocess.Popen[str]]) -> None:
    """Wait until a run has recorded ``steps`` steps."""
    deadline = time.monotonic() + 240
    while len(read_lines(out / "metrics.jsonl")) < steps:
        for process in processes:
            assert process.poll() is None, process.stderr.read()[-3000:] if process.stderr else ""
        assert time.monotonic() < deadline
        time.sleep(0.02)


def ended(processes: list[subprocess.Popen[str]]) -> list[tuple[int, str]]:
    """Wait for processes; return their exit codes and what they said last."""
    told = []
    for process in processes:
        said = process.communicate(timeout=300)[1]
        told.append((process.returncode, said))
    return told


def content(out: Path) -> dict[str, bytes]:
    """Every file of a run that must not depend on its history."""
    files = [out / "metrics.jsonl", *sorted((out / "rollouts").iterdir())]
    files += sorted(path for path in (out / "checkpoints").rglob("*") if path.is_file())
    return {str(path.relative_to(out)): path.read_bytes() for path in files}


def finish(hosts: tuple[str, str], recipe: Path, out: Path, port: int) -> None:
    """Run to the end."""
    for code, said in ended(start(hosts, recipe, out, port)):
        assert code == 0, said[-3000:]


@pytest.mark.parametrize("stage", [2, 3])
def test_a_cable_pulled_out_and_a_killed_rank(hosts: tuple[str, str], tiny: Path, tmp_path: Path, stage: int) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(RECIPE.format(model=tiny, seconds=SECONDS, stage=stage))
    unbroken, broken = tmp_path / "unbroken", tmp_path / "broken"
    finish(hosts, recipe, unbroken, 29701)

    processes = start(hosts, recipe, broken, 29702)
    wait_for(broken, 1, processes)
    ip("-n", hosts[0], "link", "set", "wire", "down")
    started = time.monotonic()
    told = ended(processes)
    print(f"\ncable out: both ended after {time.monotonic() - started:.1f} s, deadline {SECONDS} s")
    for rank, (code, said) in enumerate(told):
        print(said.strip().splitlines()[-1])
        assert code == 1, said
        assert f"rank {rank} of 2: step " in said
        assert f"of at most {SECONDS} s" in said
        assert "Where each stands" in said
    assert len(read_lines(broken / "metrics.jsonl")) < 6
    ip("-n", hosts[0], "link", "set", "wire", "up")

    for place, victim in enumerate((1, 0)):
        done = len(read_lines(broken / "metrics.jsonl"))
        processes = start(hosts, recipe, broken, 29703 + place)
        wait_for(broken, done + 1, processes)
        processes[victim].send_signal(signal.SIGKILL)
        started = time.monotonic()
        told = ended(processes)
        code, said = told[1 - victim]
        print(f"rank {victim} killed: the other ended after {time.monotonic() - started:.1f} s")
        print(said.strip().splitlines()[-1])
        assert told[victim][0] == -signal.SIGKILL
        assert code == 1, said
        assert f"rank {1 - victim} of 2: step " in said
        assert "The same command goes on from the last checkpoint" in said
    finish(hosts, recipe, broken, 29705)
    assert content(broken) == content(unbroken)
