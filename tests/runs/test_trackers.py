"""Metrics reach TensorBoard and Weights & Biases through their own packages."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest

from archer.errors import MissingError, UserError
from archer.runs.trackers import check_trackers, open_trackers

MANIFEST = {"algorithm": "archer", "seed": 3, "recipe_digest": "abc"}


def test_tensorboard_holds_what_was_logged(tmp_path: Path) -> None:
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    with ExitStack() as stack:
        (sink,) = open_trackers(["tensorboard"], tmp_path, MANIFEST, stack)
        for step in range(3):
            sink.log(step, {"reward": 0.25 * step, "entropy": 1.0})
    found = events.EventAccumulator(str(tmp_path / "tensorboard"))
    found.Reload()
    assert [(one.step, one.value) for one in found.Scalars("reward")] == [(0, 0.0), (1, 0.25), (2, 0.5)]


def test_wandb_writes_an_offline_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    with ExitStack() as stack:
        (sink,) = open_trackers(["wandb"], tmp_path, MANIFEST, stack)
        sink.log(0, {"reward": 0.25})
    assert list(tmp_path.glob("wandb/offline-run-*/*.wandb"))


def test_a_sink_without_its_package_is_one_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("archer.runs.trackers.find_spec", lambda name: None)
    with pytest.raises(MissingError, match="log: wandb needs `pip install 'archer-rlvr"):
        check_trackers(["wandb"])


def test_a_tracker_that_cannot_be_closed_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("class Lines:\n    def __init__(self, folder, manifest): self.log = print\n")
    with (
        ExitStack() as stack,
        pytest.raises(UserError, match=r"mine.py:Lines: gave .*lacks log\(step, metrics\) or close"),
    ):
        open_trackers([f"{tmp_path}/mine.py:Lines"], tmp_path, {}, stack)
