"""The work of a small fixed step, counted: what a change makes it cost shows here, on any machine, without seconds.

``COUNTED`` holds what a step of the lab model costs today. A count that grew is a regression, unless it was meant; then
the literal is changed on purpose, and the change says why.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple
from typing import Any

import pytest
import torch
from helpers.rollouts import ask, drawn_in_order
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from archer.algorithms import ALGORITHMS
from archer.distributed import Ranks
from archer.engines.native import NativeEngine
from archer.models.loading import load_model
from archer.models.prompts import PromptRenderer
from archer.problems.lab import TASKS
from archer.recipe.reading import read_recipe
from archer.recipe.sections import ModelSection, UpdateSection
from archer.system import WorkCounter
from archer.tools.planning.metered import Levels, metered
from archer.tools.profiling.costs import costs_of
from archer.tools.profiling.roofline import backward, decode, forward
from archer.trainer.batch import Group, TrainSample
from archer.trainer.torch_backend import TorchBackend
from archer.trainer.trainer import Trainer
from archer.types import Sampling

ARCHER = ALGORITHMS["archer"]
LENGTHS = (9, 14, 14, 30)  # of each group's responses
CPU = torch.device("cpu")
Found = dict[str, Any]

# Work is calls, tokens, pairs, rows. Two groups of four ragged responses in one update of one micro-batch, after a
# reference pass; and two prompts of four samples each, sampled for 13 tokens. Bytes may differ
# by 2 %.
COUNTED: Found = {
    "reference": (1, 151, 3050, 106),
    "update": (1, 151, 3050, 134),
    "prefill": (1, 22, 132, 2),
    "decode": (12, 96, 1488, 96),
    "operators of an update's micro-batch": 2042,
    "operators of a decode step": 270,
    "bytes held at the peak of an update": 5_763_396,
}


class Operators(TorchDispatchMode):
    """Counts the operators that run inside, those of backward passes too."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(
        self, operator: Callable, types: Sequence[type], args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        self.counts[str(operator)] += 1
        return operator(*args, **(kwargs or {}))


def groups(count: int, lengths: Sequence[int] = LENGTHS) -> list[Group]:
    """Groups with prompts of 12, 13, ... tokens and responses of ``lengths``, of made-up tokens and log-probs."""
    make = torch.Generator().manual_seed(0)

    def one(prompt: tuple[int, ...], place: int) -> TrainSample:
        tokens = tuple(torch.randint(5, 300, (lengths[place],), generator=make).tolist())
        old, entropy = (torch.rand(lengths[place], generator=make) for _ in range(2))
        return TrainSample.of(prompt, tokens, advantage=(-1.0) ** place, old_logp=-old - 1, entropy=entropy)

    prompts = [tuple(range(20, 32 + number)) for number in range(count)]
    return [tuple(one(prompt, place) for place in range(len(lengths))) for prompt in prompts]


def policy(tokens: int = 2048) -> Trainer:
    """The lab's model, whose micro-batches hold ``tokens`` at most."""
    model, _ = load_model(ModelSection("lab"))
    update = UpdateSection(lr=1e-4, mini_batch=2, micro_batch_tokens=tokens)
    made = Trainer(TorchBackend(model, update, temperature=1.0), update, optimizer_steps=100, longest=32, ranks=Ranks())
    made.keep_reference()
    return made


def sampler() -> NativeEngine:
    """The native engine over the lab's model, whose responses are all as long as may be."""
    model, tokenizer = load_model(ModelSection("lab"))
    engine = NativeEngine(model, tokenizer, PromptRenderer(tokenizer), slots=64)
    engine.stops = (len(tokenizer) + 1000,)  # what no model says
    return engine


def sample(engine: NativeEngine, rows: int, tokens: int) -> NativeEngine:
    """Sample two prompts, each ``rows`` / 2 times."""
    problems = [TASKS["lab-arithmetic"].problem("train", index) for index in range(2)]
    drawn_in_order(engine, ask(problems, range(rows // 2), 1), Sampling(max_tokens=tokens))
    return engine


def tallied(tally: WorkCounter) -> Found:
    return {name: astuple(work) for name, work in tally.items()}


def update_operators(micro_batches: int) -> int:
    """How many operators an update of so many micro-batches runs, one group each."""
    made = policy(tokens=100)
    trained = made.add_reference(groups(micro_batches), ARCHER)
    with Operators() as seen:
        made.update(trained, ARCHER)
    assert made.tally["update"].calls == micro_batches
    return seen.counts.total()


def decode_operators(rows: int) -> float:
    """How many operators one more decode step of ``rows`` rows runs."""
    found, engine = [], sample(sampler(), rows, 2)  # what is done once is done
    for tokens in (8, 24):
        with Operators() as seen:
            sample(engine, rows, tokens)
        found.append(seen.counts.total())
    return (found[1] - found[0]) / 16


def peak() -> int:
    """The most bytes that an update holds beyond what was there before: gradients, activations, and what comes and goes."""
    made = policy()
    trained = made.add_reference(groups(2), ARCHER)
    made.update(trained, ARCHER)  # makes the optimizer's state
    levels: Levels = {}
    with metered(levels, CPU) as mark:
        mark("before")
        made.update(trained, ARCHER)
        mark("after")
    return int(levels["after"][1] - levels["before"][0])


@pytest.fixture(scope="module")
def found() -> Found:
    """Every count, measured."""
    made = policy()
    made.update(made.add_reference(groups(2), ARCHER), ARCHER)
    return {
        **tallied(made.tally), **tallied(sample(sampler(), 8, 13).tally), "bytes held at the peak of an update": peak(),
        "operators of an update's micro-batch": update_operators(2) - update_operators(1),
        "operators of a decode step": decode_operators(8),
    }  # fmt: skip


@pytest.mark.parametrize("name", COUNTED)
def test_a_step_costs_what_it_did(found: Found, name: str) -> None:
    expected = pytest.approx(COUNTED[name], rel=0.02) if name.startswith("bytes") else COUNTED[name]
    assert found[name] == expected, (
        f"{name}: {COUNTED[name]} became {found[name]} for the same step. If that is meant, change the literal in COUNTED "
        "of tests/end_to_end/test_work.py, and say why in the commit; if not, find what does more"
    )


def test_nothing_is_counted_that_the_table_does_not_hold(found: Found) -> None:
    assert set(found) == set(COUNTED)


def test_a_decode_step_runs_as_many_operators_for_many_rows_as_for_few() -> None:
    assert decode_operators(64) == decode_operators(8)


def product_in_place(_: Any, left: Any, right: Any, *__: object, out_shape: object, **___: object) -> int:
    return 2 * left[0] * left[1] * right[1]


def fused_forward(query: Any, key: Any, value: Any, *_: object, out_shape: object, **__: object) -> int:
    return sdpa_flop_count(query, key, value)


def fused_backward(slope: Any, query: Any, key: Any, value: Any, *_: object, out_shape: object, **__: object) -> int:
    return sdpa_backward_flop_count(slope, query, key, value)


def flops(work: Callable[[], object]) -> int:
    """What torch counts, with the operators that it does not know of: a product in place, the CPU's fused attention."""
    aten = torch.ops.aten
    more = {
        aten.addmm_: product_in_place,
        aten._scaled_dot_product_flash_attention_for_cpu: fused_forward,
        aten._scaled_dot_product_flash_attention_for_cpu_backward: fused_backward,
    }
    with FlopCounterMode(display=False, custom_mapping=more) as counter:
        work()
    return counter.get_total_flops()


def test_a_step_computes_what_the_formulas_say() -> None:
    costs = costs_of(read_recipe("lab", []))
    made = policy()
    trained = made.add_reference(groups(2), ARCHER)
    counted = flops(lambda: made.update(trained, ARCHER))
    work = made.tally["update"]
    assert forward(costs, work).flops + backward(costs, work).flops == pytest.approx(counted, rel=0.05)


def test_sampling_computes_what_the_formulas_say() -> None:
    costs, engine = costs_of(read_recipe("lab", [])), sample(sampler(), 8, 13)
    needed = forward(costs, engine.tally["prefill"]).flops + decode(costs, engine.tally["decode"]).flops
    assert needed == pytest.approx(flops(lambda: sample(engine, 8, 13)), rel=0.05)
