"""Checkpoints: what they hold, that a policy goes on from them bitwise, and that a damaged one is refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from helpers.on_ranks import NAMES, opened, trained, weights
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen3MoeConfig, Qwen3MoeForCausalLM

from archer.distributed import Ranks
from archer.errors import RunFolderError
from archer.runs import checkpoints as checkpoint
from archer.trainer import Trainer
from archer.trainer import state as stored

STATE = {"step": 2, "queue": [7, [1, 2]], "ahead": None}


def saved(policy: Trainer, tiny: Path, folder: Path, step: int = 2, keep: int = 2) -> Path:
    checkpoint.save_checkpoint(folder, step, policy, AutoTokenizer.from_pretrained(tiny), STATE, keep, Ranks())
    return checkpoint.complete_checkpoints(folder)[-1]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("update", [{}, {"bf16": True}])
def test_a_policy_goes_on_bitwise(tiny: Path, tmp_path: Path, name: str, update: dict) -> None:
    unbroken = opened(tiny, **update)
    unbroken.keep_reference()
    trained(unbroken, name, range(2))
    path = saved(unbroken, tiny, tmp_path)
    expected = trained(unbroken, name, range(2, 4))
    resumed = opened(tiny, **update)
    resumed.keep_reference()
    assert checkpoint.load_checkpoint(path, resumed) == STATE
    assert resumed.version == 2
    assert trained(resumed, name, range(2, 4)) == expected
    left, right = weights(unbroken), weights(resumed)
    assert left.keys() == right.keys()
    assert all(torch.equal(left[key], right[key]) for key in left)


def test_a_checkpoint_is_a_hugging_face_model(tiny: Path, tmp_path: Path) -> None:
    policy = opened(tiny)
    trained(policy, "dapo", range(1))
    path = saved(policy, tiny, tmp_path)
    loaded = dict(AutoModelForCausalLM.from_pretrained(path).named_parameters())
    own = weights(policy)
    assert loaded.keys() == own.keys()
    assert all(torch.equal(loaded[key], own[key]) for key in own)


def test_a_checkpoint_before_the_first_step_has_no_optimizer_state(tiny: Path, tmp_path: Path) -> None:
    path = saved(opened(tiny), tiny, tmp_path)
    resumed = opened(tiny)
    checkpoint.load_checkpoint(path, resumed)
    expected = opened(tiny)
    assert trained(resumed, "dapo", range(1)) == trained(expected, "dapo", range(1))


def test_optimizer_state_in_several_files_is_the_same(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = opened(tiny)
    trained(policy, "dapo", range(1))
    monkeypatch.setattr(stored, "SHARD_BYTES", 1 << 14)
    path = saved(policy, tiny, tmp_path)
    assert len(list((path / "optimizer").iterdir())) > 3
    resumed = opened(tiny)
    checkpoint.load_checkpoint(path, resumed)
    assert trained(resumed, "dapo", range(1, 2)) == trained(policy, "dapo", range(1, 2))


def test_every_file_cut_short_or_gone_is_an_error(tiny: Path, tmp_path: Path) -> None:
    policy = opened(tiny)
    trained(policy, "dapo", range(1))
    path = saved(policy, tiny, tmp_path / "run")
    names = [str(file.relative_to(path)) for file in sorted(path.rglob("*")) if file.is_file()]
    assert {"model.safetensors", "optimizer/00000.safetensors", "policy.json", "trainer.json", "config.json"} <= {
        *names
    }
    for name in names:
        for cut in (0, -1, None):
            broken = tmp_path / "broken"
            shutil.copytree(path, broken)
            if cut is None:
                (broken / name).unlink()
            else:
                (broken / name).write_bytes((broken / name).read_bytes()[:cut])
            with pytest.raises(
                RunFolderError, match="damaged checkpoint .*; delete it to go on from an older one"
            ) as e:
                checkpoint.load_checkpoint(broken, opened(tiny))
            assert name in str(e.value)
            shutil.rmtree(broken)


def test_a_checkpoint_of_another_model_is_refused(tiny: Path, tmp_path: Path) -> None:
    path = saved(opened(tiny), tiny, tmp_path)
    other = opened(Path("lab"))
    with pytest.raises(RunFolderError, match="weights do not fit the model|where the model has"):
        checkpoint.load_checkpoint(path, other)


def test_what_a_killed_save_left_is_cleared_and_the_older_one_stays(tiny: Path, tmp_path: Path) -> None:
    policy = opened(tiny)
    first = saved(policy, tiny, tmp_path, step=1, keep=1)
    left = tmp_path / ".step-000002.tmp"
    shutil.copytree(first, left)
    (left / "trainer.json").unlink()  # killed before the rename
    assert checkpoint.complete_checkpoints(tmp_path) == [first]
    checkpoint.load_checkpoint(first, opened(tiny))
    assert saved(policy, tiny, tmp_path, step=3, keep=1) == tmp_path / "step-000003"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-000003"]


def test_a_full_disk_is_an_error_and_leaves_the_older_checkpoint(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = opened(tiny)
    first = saved(policy, tiny, tmp_path, step=1)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(stored, "save_file", full)
    trained(policy, "dapo", range(1))
    with pytest.raises(RunFolderError, match="step 2 could not be written .*No space left on device.*free some space"):
        saved(policy, tiny, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [first.name]


def test_a_longer_run_s_checkpoint_makes_way(tiny: Path, tmp_path: Path) -> None:
    policy = opened(tiny)
    saved(policy, tiny, tmp_path)
    trained(policy, "dapo", range(1))
    again = saved(policy, tiny, tmp_path)
    resumed = opened(tiny)
    checkpoint.load_checkpoint(again, resumed)
    assert resumed.version == 1


def test_experts_held_in_one_tensor_are_stored_apart_and_come_back(tiny: Path, tmp_path: Path) -> None:
    config = Qwen3MoeConfig(
        vocab_size=344, hidden_size=32, intermediate_size=64, moe_intermediate_size=16, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=2, head_dim=16, num_experts=4, num_experts_per_tok=2,
        tie_word_embeddings=False, eos_token_id=1, pad_token_id=2,
    )  # fmt: skip
    base = tmp_path / "base"
    shutil.copytree(tiny, base, ignore=shutil.ignore_patterns("model.safetensors", "config.json"))
    Qwen3MoeForCausalLM(config).save_pretrained(base)
    policy = opened(base)
    trained(policy, "dapo", range(1))
    path = saved(policy, base, tmp_path / "run")
    on_disk, whole = load_file(path / "model.safetensors"), weights(policy)
    assert "model.layers.1.mlp.experts.3.up_proj.weight" in whole  # as engines know it
    assert on_disk.keys() == whole.keys()
    assert all(torch.equal(on_disk[name], whole[name]) for name in whole)
    resumed = opened(base)
    checkpoint.load_checkpoint(path, resumed)
    assert trained(resumed, "dapo", range(1, 2)) == trained(policy, "dapo", range(1, 2))
    assert all(
        torch.equal(one, other) for one, other in zip(weights(policy).values(), weights(resumed).values(), strict=True)
    )
