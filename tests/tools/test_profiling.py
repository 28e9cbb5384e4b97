"""Profiles: costs worked out by hand and beside torch's own counter, parts of parts, and runs that stay the same."""

from __future__ import annotations

import gzip
import json
import shutil
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from archer.models.heads import log_probs
from archer.models.loading import load_model
from archer.recipe.reading import read_recipe
from archer.recipe.sections import ModelSection
from archer.system import PassWork, WorkCounter, listen, region
from archer.tools.profiling.costs import costs_of
from archer.tools.profiling.page import sentence, words
from archer.tools.profiling.rates import measure_rates
from archer.tools.profiling.roofline import MachineRates, ModelCosts, WorkNeed, backward, decode, forward, optimizer
from archer.tools.profiling.split import SplitRow, StepSplit, split_of
from archer.tools.profiling.trace import CALLS, StepTrace
from archer.tools.profiling.watch import ProfiledSteps, Stopwatch, TimedRegion, spans_of
from archer.train import train

COSTS = ModelCosts(layers=10, attention=2, head=6, cache=4, trained=16, width=2, activations=3.0)
WORK = PassWork(calls=2, tokens=5, pairs=7, rows=3)
RATES = MachineRates(flops=100.0, bytes=50.0, operator=0.1)
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def silence() -> Iterator[None]:
    """A test that fails must not go on measuring the next one."""
    yield
    listen(None)


@pytest.mark.parametrize(
    ("need", "flops", "again", "moved"),
    [
        # 2 * 10 * 5 of the layers, 4 * 2 * 7 of attention, 2 * 6 * 3 of the head; weights 2 * 2 * 16, keys and values
        # 2 * 2 * 4 * 5, activations 2 * 3 * 5
        (forward(COSTS, WORK), 100 + 56 + 36, 0, 64 + 80 + 30),
        (forward(COSTS, WORK, kept=True), 192, 0, 64 + 30),
        (decode(COSTS, WORK), 192, 0, 64 + 2 * 4 * (7 + 5)),
        # twice the forward pass; gradients 2 * 4 * 16 in each of two calls
        (backward(COSTS, WORK), 2 * 192, 0, 64 + 256 + 30),
        (backward(replace(COSTS, checkpointing=True), WORK), 384 + 156, 156, 2 * 2 * 26 + 256 + 45),
        # an adapter of 2 beside the layers, which pass gradients on alone
        (forward(replace(COSTS, adapter=2), WORK), 2 * 12 * 5 + 56 + 36, 0, 72 + 80 + 30),
        (backward(replace(COSTS, adapter=2, trained=2), WORK), 100 + 40 + 112 + 36, 0, 72 + 32 + 30),
        (optimizer(COSTS, 3), 0, 0, 8 * 4 * 16 * 3),
        (optimizer(replace(COSTS, share=2), 3), 0, 0, 768),
    ],
)
def test_needs_by_hand(need: WorkNeed, flops: float, again: float, moved: float) -> None:
    assert (need.flops, need.again, need.bytes) == (flops, again, moved)


def test_the_roofline_is_the_larger_of_two() -> None:
    assert (RATES.least(WorkNeed(400.0, 0.0, 50.0)), RATES.bound(WorkNeed(400.0, 0.0, 50.0))) == (4.0, "flops")
    assert (RATES.least(WorkNeed(100.0, 0.0, 150.0)), RATES.bound(WorkNeed(100.0, 0.0, 150.0))) == (3.0, "bytes")


def test_costs_of_the_lab_model() -> None:
    costs = costs_of(read_recipe("lab", []))
    # A layer: q, k, v, o of 96 x 96, three with a bias, gate, up and down of 96 x 256, two norms; then the last norm.
    layer = 4 * 96 * 96 + 3 * 96 + 3 * 96 * 256 + 2 * 96
    assert (costs.layers, costs.attention, costs.head) == (4 * layer + 96, 4 * 96, 344 * 96)
    assert (costs.cache, costs.trained, costs.width) == (2 * 4 * 96, 4 * layer + 96 + 344 * 96, 4)


def test_the_formula_counts_what_torch_counts() -> None:
    model, _ = load_model(ModelSection("lab"))
    costs = costs_of(read_recipe("lab", []))
    id_BT = torch.randint(5, 300, (3, 32), generator=torch.Generator().manual_seed(0))
    attention = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu

    def forwards(query: tuple, key: tuple, value: tuple, *_: object, out_shape: object, **__: object) -> int:
        return sdpa_flop_count(query, key, value)

    def backwards(
        grad: tuple, query: tuple, key: tuple, value: tuple, *_: object, out_shape: object, **__: object
    ) -> int:
        return sdpa_backward_flop_count(grad, query, key, value)

    counted = {attention: forwards, torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: backwards}
    with FlopCounterMode(display=False, custom_mapping=counted) as counter:
        hidden_NH = model.base_model(input_ids=id_BT, use_cache=False)[0].flatten(0, 1)
        logp_N, _ = log_probs(hidden_NH, model.get_output_embeddings().weight, id_BT.flatten())
        passed = counter.get_total_flops()
        logp_N.sum().backward()
    work = PassWork(calls=1, tokens=96, pairs=3 * 32 * 32, rows=96)  # torch counts every pair, seen or not
    assert forward(costs, work).flops == pytest.approx(passed, rel=0.01)
    # A fused attention makes its scores again in the backward pass: that is in torch's count, not in what is needed.
    assert backward(costs, work).flops == pytest.approx(counter.get_total_flops() - passed, rel=0.03)


def test_rates_are_those_of_a_machine_and_move_no_random_state() -> None:
    before = torch.random.get_rng_state()
    rates = measure_rates(CPU, torch.float32)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert 1e8 < rates.flops < 1e14
    assert 1e8 < rates.bytes < 1e13
    assert 1e-8 < rates.operator < 1e-3


def test_parts_within_parts_and_the_work_done_in_them() -> None:
    tally = WorkCounter()
    tally["decode"].add(100, 100, 100)  # before anybody looked
    watch = Stopwatch(CPU, [tally])
    listen(watch)
    for _ in range(2):
        watch.begin()
        with region("generate"):
            for rows in (4, 3):
                with region("decode"):
                    tally["decode"].add(rows, 10 * rows, rows)
        with region("update"):
            tally["update"].add(20, 50, 15)
        watch.end()
    calls = {path: stretch.calls for path, stretch in watch.seen.parts.items()}
    assert calls == {("generate", "decode"): 4, ("generate",): 2, ("update",): 2}
    assert watch.seen.work == {
        ("generate", "decode"): PassWork(4, 14, 140, 14),
        ("update", "update"): PassWork(2, 40, 100, 30),
    }
    assert all(len(stretch.each) == 2 for stretch in watch.seen.parts.values())
    assert sum(watch.seen.parts["generate",].each) == pytest.approx(watch.seen.parts["generate",].seconds)


def test_what_another_thread_does_is_no_part_of_the_step() -> None:
    watch = Stopwatch(CPU, [])
    listen(watch)

    def sample() -> None:
        with region("generate"), region("decode"):
            pass

    watch.begin()
    with region("update"):
        thread = threading.Thread(target=sample)
        thread.start()
        thread.join()
    watch.end()
    assert set(watch.seen.parts) == {("update",), ("beside: generate",), ("beside: generate", "decode")}
    split = split_of(watch.seen, RATES, COSTS, {})
    assert [row.path[0] for row in split.rows] == ["update", *["beside: generate"] * 3, "outside of parts"]
    assert sum(row.seconds for row in split.leaves) == pytest.approx(split.seconds)


def test_methods_are_stretches_while_somebody_looks() -> None:
    class Counted:
        def go(self) -> str:
            return "went"

    before, one = Counted.go, Counted()
    watch = Stopwatch(CPU, [])
    listen(watch)
    with spans_of(one, {"go": "going"}), spans_of(Counted, {"go": "inner"}):
        assert one.go() == "went"
        assert Counted().go() == "went"
    assert {path: part.calls for path, part in watch.seen.parts.items()} == {("going",): 1, ("inner",): 1}
    assert Counted.go is before
    assert vars(one) == {}


def test_a_split_is_of_an_average_step() -> None:
    seen = ProfiledSteps(steps=2, seconds=[3.0, 5.0])
    seen.parts |= {
        ("update", "forward"): TimedRegion(2.0, 4, [0.5, 1.5]),
        ("update", "backward"): TimedRegion(3.0, 4, [1.0, 2.0]),
        ("update",): TimedRegion(6.0, 2, [2.0, 4.0]),
        ("write",): TimedRegion(1.0, 2, [0.5, 0.5]),
    }
    seen.work["update", "update"] = PassWork(4, 10, 14, 6)
    split = split_of(seen, RATES, COSTS, {})
    assert [row.path for row in split.rows] == [
        ("update",), ("update", "forward"), ("update", "backward"), ("update", "the rest"), ("write",),
        ("outside of parts",),
    ]  # fmt: skip
    assert [row.seconds for row in split.rows] == [3.0, 1.0, 1.5, 0.5, 0.5, 0.5]
    assert split.rows[0].work == split.rows[1].work == WORK
    assert split.rows[1].need == WorkNeed(192.0, 0.0, 94.0)
    assert split.rows[0].need == WorkNeed(192.0 + 384.0, 0.0, 94.0 + 350.0)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (SplitRow(("update", "forward"), 2.0, need=WorkNeed(192.0, 0.0, 94.0), operators=5.0), "Update/forward takes 20%, 1.0x the 1.9200 s that arithmetic allows: it is bound by arithmetic."),
        (SplitRow(("generate", "decode"), 9.0, 10.0, need=WorkNeed(100.0, 0.0, 150.0), operators=6.0), "Generate/decode takes 90%, 3.0x the 3.0000 s that memory bandwidth allows: launching 6 operators a call, 6.000 s if they did nothing, bounds it; fewer and larger ones help, a faster device does not."),
        (SplitRow(("reward",), 5.0, each=(1.0, 9.0)), "Reward takes 50% (unevenly: 1.000 to 9.000 s); no work of the model is counted there."),
    ],
)  # fmt: skip
def test_words(row: SplitRow, said: str) -> None:
    assert sentence(row, StepSplit((row,), 10.0, RATES)) == said


def test_words_end_with_the_distance_of_the_whole_step() -> None:
    rows = (
        SplitRow(("a",), 6.0, need=WorkNeed(200.0, 0.0, 0.0), operators=1.0),
        SplitRow(("b",), 4.0, need=WorkNeed(0.0, 0.0, 25.0)),
    )
    assert words(StepSplit(rows, 10.0, RATES)).endswith(
        "All parts' work needs 2.500 s by the roofline: the step stands 4.0x from it."
    )


def test_a_trace_knows_operators_by_part_and_stays_small() -> None:
    one = torch.ones(8, 8)
    trace = StepTrace(CPU)
    listen(trace)
    with region("generate"):
        for _ in range(CALLS + 50):
            with region("decode"):
                one + one
    with region("update"), region("forward"):
        torch.nn.functional.linear(one, one)  # one operator that calls others
        one * one
    listen(None)
    trace.stop()
    found = trace.operators()
    assert (found["generate", "decode"].calls, found["generate", "decode"].operators) == (CALLS, CALLS)
    assert (found["update", "forward"].calls, found["update", "forward"].operators) == (1, 2)
    assert found["update", "forward"].counts["aten::mm"] == 1
    assert found["update", "forward"].microseconds["aten::mm"] > 0


RECIPE = """
name: profiled
steps: 4
model: {{path: {model}}}
data: [{{name: lab-arithmetic}}]
algorithms: {{archer: {{}}}}
rollout: {{prompts: 4, samples_per_prompt: 4, max_tokens: 24, max_concurrency: 8}}
update: {{lr: 1.0e-3, warmup: 2, mini_batch: 2, epochs: 2}}
evaluate: {{benchmarks: []}}
save: {{every: 1, keep: 4}}
"""


def content(out: Path) -> dict[str, bytes]:
    """All that a run writes but times and the profile."""
    parts = [out / "metrics.jsonl", *(out / "rollouts").iterdir(), *(out / "checkpoints").rglob("*")]
    return {str(path.relative_to(out)): path.read_bytes() for path in parts if path.is_file()}


def test_a_profiled_run_is_the_same_run(tmp_path: Path, tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text(RECIPE.format(model=tiny))
    recipe = read_recipe(str(file), [])
    plain, profiled, resumed = (tmp_path / name for name in ("plain", "profiled", "resumed"))
    train(recipe, "archer", 3, plain, threads=1)
    train(recipe, "archer", 3, profiled, threads=1, profile=1)
    assert content(profiled) == content(plain)

    shutil.copytree(profiled, resumed)
    shutil.rmtree(resumed / "profile")
    for step in (2, 3, 4):
        shutil.rmtree(resumed / "checkpoints" / f"step-{step:06d}")
    train(recipe, "archer", 3, resumed, threads=1, profile=1)
    assert content(resumed) == content(plain)

    printed = capsys.readouterr().out
    for folder in (profiled, resumed):
        assert f"one traced ({folder}/profile)" in printed.replace("\n", "")
        check_profile(folder / "profile")


def check_profile(folder: Path) -> None:
    """The record tells all parts, what their work needs, and the trace has their ranges."""
    record = json.loads((folder / "profile.json").read_text())
    parts = {part["part"]: part for part in record["parts"]}
    worked = {"generate/prefill", "generate/decode", "reference/forward", "update/forward", "update/backward"}
    assert {*worked, "update/optimizer", "reward", "sync", "write", "outside of parts"} <= set(parts)
    for name in worked:
        assert parts[name]["flops"] > 0
        assert parts[name]["operators_a_call"] > 0
        assert parts[name]["times_least"] == pytest.approx(parts[name]["seconds"] / parts[name]["least"])
    assert parts["update/optimizer"]["calls"] == 4
    assert len(record["seconds"]) == 1
    leaves = [part for name, part in parts.items() if not any(other.startswith(f"{name}/") for other in parts)]
    assert sum(part["seconds"] for part in leaves) == pytest.approx(sum(record["seconds"]), rel=0.01)
    with gzip.open(folder / "trace.json.gz", "rt") as file:
        names = {event.get("name") for event in json.load(file)["traceEvents"]}
    assert {"archer: generate/decode", "archer: update/backward", "archer: write", "aten::mm"} <= names


def test_a_run_too_short_says_so(tmp_path: Path, tiny: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text(RECIPE.format(model=tiny))
    train(file, "archer", 3, tmp_path / "out", changes=["steps=1"], threads=1, profile=1)
    assert "let the run go on for 2 steps or more" in caplog.text
    assert not (tmp_path / "out" / "profile").exists()
