"""What several tests share: where the real data lies, and a tiny untrained model."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

SHARED = Path(__file__).parent.parent.parent / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real benchmark data and golden losses, which only the project's own machines have."""
    if not SHARED.is_dir():
        pytest.skip("the folder of golden losses and benchmark data is not beside this checkout")
    return SHARED


@pytest.fixture(scope="session", autouse=True)
def _offline() -> None:
    os.environ["HF_HUB_OFFLINE"] = "1"


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an untrained model of the lab's architecture and the lab's tokenizer."""
    from archer.lab.pretrain import Pretrain, build_model
    from archer.lab.tokenizer import build_tokenizer

    folder = tmp_path_factory.mktemp("tiny")
    tokenizer = build_tokenizer()
    recipe = Pretrain(hidden=32, layers=2, heads=2, intermediate=64, seed=7)
    model = build_model(recipe, len(tokenizer), tokenizer.eos_token_id, tokenizer.pad_token_id)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
