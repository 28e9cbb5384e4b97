"""Two ranks of DeepSpeed against one process: the same update, the same scores, checkpoints that go both ways."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.on_ranks import CASES, NAMES, VARIANTS, groups, opened, trained, weights
from transformers import AutoModelForCausalLM, AutoTokenizer

from archer.algorithms import ALGORITHMS
from archer.distributed import Ranks
from archer.errors import RecipeError
from archer.runs import checkpoints as checkpoint

pytestmark = pytest.mark.deepspeed
HELPERS = Path(__file__).parents[1] / "helpers"
STAGES = (0, 1, 2, 3)
SAME = 1e-6  # of weights in float32


def on_two_ranks(task: str, tiny: Path, out: Path, *rest: object) -> Any:
    """Run a task of on_ranks.py by torchrun; return what rank 0 found."""
    pytest.importorskip("deepspeed", reason="deepspeed is not installed: pip install 'archer-rlvr[deepspeed]'")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command = [*launcher, str(HELPERS / "on_ranks.py"), task, str(tiny), str(out / "found.pt"), *map(str, rest)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=400, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return torch.load(out / "found.pt", weights_only=False)


def largest(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> float:
    """The largest difference between two sets of weights."""
    assert left.keys() == right.keys()
    return max(float((left[name] - right[name]).abs().max()) for name in left)


def alike(left: list[dict[str, float]], right: list[dict[str, float]]) -> bool:
    """Say whether metrics have the same names and, but for rounding, values."""
    return all(one == pytest.approx(other, rel=1e-5, abs=1e-6) for one, other in zip(left, right, strict=True))


def test_two_ranks_make_the_update_of_one_process(tiny: Path, tmp_path: Path) -> None:
    found = on_two_ranks("equal", tiny, tmp_path, *STAGES)
    start = weights(opened(tiny))
    print("\nlargest difference of a weight after 10 steps, two ranks and one process (moved: the largest move)")
    print("algorithm", *(f"ZeRO {stage}" for stage in STAGES), "moved", sep="\t")
    for name in NAMES:
        alone = opened(tiny)
        alone.keep_reference()
        metrics = trained(alone, name, range(10))
        norms = [step["gradient_norm"] for step in metrics]
        assert min(norms) < 1.15 < max(norms)  # clipped and not
        whole = weights(alone)
        apart = [largest(found[stage, name][0], whole) for stage in STAGES]
        moved = largest(start, whole)
        print(name, *(f"{value:.1e}" for value in apart), f"{moved:.1e}", sep="\t")
        assert max(apart) < SAME
        assert moved > 100 * SAME
        assert all(alike(found[stage, name][1], metrics) for stage in STAGES)


def test_an_algorithm_from_outside_makes_the_update_of_one_process(tiny: Path, tmp_path: Path) -> None:
    found = on_two_ranks("outside", tiny, tmp_path, 0, 2, 3)
    start, alone = weights(opened(tiny)), opened(tiny)
    metrics = trained(alone, "outside", range(3))
    for stage in (0, 2, 3):
        assert alike(found[stage][1], metrics)
        assert largest(found[stage][0], weights(alone)) < SAME
    assert largest(start, weights(alone)) > 100 * SAME


def test_variants_make_the_update_of_one_process(tiny: Path, tmp_path: Path) -> None:
    found = on_two_ranks("variants", tiny, tmp_path)
    for name, update in VARIANTS.items():
        alone = opened(tiny, **{key: value for key, value in update.items() if key != "deepspeed"})
        alone.keep_reference()
        metrics = trained(alone, "archer", range(3))
        assert alike(found[name][1], metrics), name
        assert largest(found[name][0], weights(alone)) < SAME, name


def test_scores_of_policy_and_reference_are_those_of_one_process(tiny: Path, tmp_path: Path) -> None:
    found = on_two_ranks("scores", tiny, tmp_path, *STAGES)
    alone = opened(tiny)
    alone.keep_reference()
    trained(alone, "archer", range(2))
    expected = [*alone.score(groups(9)), *alone.add_reference(groups(9), ALGORITHMS["grpo"]), *alone.score(groups(9))]
    for stage in STAGES:
        for ours, theirs in zip(expected, found[stage], strict=True):
            for one, other in zip(ours, theirs, strict=True):
                assert one.tokens.tolist() == other.tokens.tolist()
                for column in ("old_logp", "entropy", "ref_logp", "engine_logp"):
                    left, right = one.columns.get(column), other.columns.get(column)
                    assert (left is None) == (right is None)
                    if left is not None:
                        torch.testing.assert_close(left, right, atol=1e-5, rtol=0)


def test_two_ranks_go_on_bitwise_and_one_process_goes_on_alike(tiny: Path, tmp_path: Path) -> None:
    found = on_two_ranks("resumed", tiny, tmp_path, tmp_path / "runs")
    for name, update in CASES.items():
        masters, back, metrics, after, whole, again = found[name]
        assert largest(masters, back) == 0.0, name  # in bf16 too: float32 masters
        assert metrics == after, name
        assert largest(whole, again) == 0.0, name
        path = tmp_path / "runs" / name / "step-000002"
        loaded = dict(AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).named_parameters())
        assert largest(loaded, masters) == 0.0, name
        if not update.get("bf16"):
            alone = opened(tiny, **{key: value for key, value in update.items() if key != "deepspeed"})
            alone.keep_reference()
            assert checkpoint.load_checkpoint(path, alone) == {"step": 2}
            assert alike(trained(alone, "archer", range(2, 4)), metrics), name
            assert largest(weights(alone), whole) < SAME, name

    norms = [found[name][2][0]["gradient_norm"] for name in ("bf16-0", "bf16-2", "bf16-3", "zero-2")]
    assert norms == pytest.approx([norms[-1]] * 4, rel=0.02)


def test_two_ranks_go_on_from_one_process(tiny: Path, tmp_path: Path) -> None:
    alone = opened(tiny)
    alone.keep_reference()
    trained(alone, "archer", range(2))
    checkpoint.save_checkpoint(tmp_path, 2, alone, AutoTokenizer.from_pretrained(tiny), {"step": 2}, 1, Ranks())
    metrics = trained(alone, "archer", range(2, 4))
    found = on_two_ranks("taken_over", tiny, tmp_path, tmp_path / "step-000002", *STAGES)
    for stage in STAGES:
        assert alike(found[stage][0], metrics), stage
        assert largest(found[stage][1], weights(alone)) < SAME, stage


def test_what_breaks_on_one_rank_is_said_on_all(tiny: Path, tmp_path: Path) -> None:
    found = on_two_ranks("faults", tiny, tmp_path, *STAGES)
    for stage in STAGES:
        assert all(re.search("training diverged: .* step 0 is (nan|inf); lower", said) for said in found[stage])
        assert len(found[stage]) == 2
    assert len(found["disk"]) == 2
    assert all("/proc/archer: the checkpoint of step 1 could not be written" in said for said in found["disk"])


@pytest.mark.parametrize("stage", [0, 3])
def test_one_rank_needs_no_launcher(tiny: Path, stage: int) -> None:
    pytest.importorskip("deepspeed", reason="deepspeed is not installed: pip install 'archer-rlvr[deepspeed]'")
    policy, alone = opened(tiny, deepspeed={"stage": stage}), opened(tiny)
    assert alike(trained(policy, "dapo", range(2)), trained(alone, "dapo", range(2)))
    assert largest(weights(policy), weights(alone)) < SAME


def test_offload_without_shards_is_refused(tiny: Path) -> None:
    with pytest.raises(RecipeError, match="offload: stage 0 has nothing to offload"):
        opened(tiny, deepspeed={"stage": 0, "offload": True})
