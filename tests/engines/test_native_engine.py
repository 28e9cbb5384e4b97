"""What the native engine draws: streams of their own, log-probs the policy agrees with, stops told apart."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.rollouts import ask, drawn_in_order
from transformers import GPT2Config

from archer.engines import open_engine
from archer.engines.base import sample_seed, stream_key
from archer.engines.native import NativeEngine
from archer.engines.sampling import draw, invert, truncate, uniforms
from archer.engines.spec import EngineSpec
from archer.errors import DataError, ModelError
from archer.models.loading import files_digests, load_model
from archer.models.prompts import PromptRenderer
from archer.models.spec import context_of
from archer.problems.lab import TASKS
from archer.recipe.reading import read_recipe
from archer.recipe.sections import ModelSection
from archer.types import Rollout, Sampling

PROBLEMS = [TASKS[name].problem("train", index) for index in range(3) for name in TASKS]
SHORT = Sampling(max_tokens=24)


@pytest.fixture(scope="module")
def parts(tiny: Path) -> tuple:
    return load_model(ModelSection(str(tiny)))


def engine(parts: tuple, slots: int) -> NativeEngine:
    model, tokenizer = parts
    return NativeEngine(model, tokenizer, PromptRenderer(tokenizer), slots)


def drawn(rollouts: list[Rollout]) -> dict:
    return {(rollout.problem.id, rollout.sample): tuple(rollout.tokens.tolist()) for rollout in rollouts}


def test_neither_batch_size_nor_order_nor_company_changes_what_is_drawn(parts: tuple) -> None:
    asks = ask(PROBLEMS, (0, 1, 2, 3), 5)
    whole = drawn(drawn_in_order(engine(parts, 64), asks, SHORT))
    assert drawn(drawn_in_order(engine(parts, 5), asks, SHORT)) == whole
    assert drawn(drawn_in_order(engine(parts, 64), asks[::-1], SHORT)) == whole
    alone = drawn(drawn_in_order(engine(parts, 1), ask([PROBLEMS[4]], (2,), 5), SHORT))
    assert alone == {(PROBLEMS[4].id, 2): whole[PROBLEMS[4].id, 2]}


def test_samples_and_seeds_differ(parts: tuple) -> None:
    first = drawn_in_order(engine(parts, 64), ask([PROBLEMS[0]], tuple(range(8)), 5), SHORT)
    again = drawn_in_order(engine(parts, 64), ask([PROBLEMS[0]], tuple(range(8)), 6), SHORT)
    assert len({tuple(rollout.tokens) for rollout in first + again}) == 16


def test_rollouts_come_in_the_order_asked(parts: tuple) -> None:
    asks = ask(PROBLEMS, (3, 1), 5)
    rollouts = drawn_in_order(engine(parts, 4), asks, SHORT)
    assert [(r.problem.id, r.sample) for r in rollouts] == [(p.id, s) for p in PROBLEMS for s in (3, 1)]


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_log_probs_and_entropies_equal_the_training_forward(parts: tuple, temperature: float) -> None:
    model, _ = parts
    asks = ask(PROBLEMS, (0, 1, 2), 9)
    for rollout in drawn_in_order(engine(parts, 7), asks, Sampling(temperature=temperature, max_tokens=40)):
        ids = torch.tensor([[*rollout.prompt_tokens, *rollout.tokens]])
        with torch.no_grad():
            logits = model(input_ids=ids).logits[0, len(rollout.prompt_tokens) - 1 : -1] / temperature
        logp_TV = torch.log_softmax(logits, dim=-1)
        expected = logp_TV.gather(1, torch.tensor(rollout.tokens.tolist())[:, None])[:, 0]
        torch.testing.assert_close(torch.tensor(rollout.logps), expected, atol=1e-4, rtol=0)
        entropy = -(logp_TV.exp() * logp_TV).sum(-1)
        torch.testing.assert_close(torch.tensor(rollout.entropies), entropy, atol=1e-4, rtol=0)


def test_a_response_ends_at_the_end_token_or_at_the_limit(parts: tuple) -> None:
    _, tokenizer = parts
    rollouts = drawn_in_order(engine(parts, 64), ask([PROBLEMS[0]], tuple(range(64)), 1), Sampling(max_tokens=300))
    assert {rollout.stop for rollout in rollouts} == {"end", "length"}
    for rollout in rollouts:
        assert (rollout.tokens[-1] == tokenizer.eos_token_id) == (rollout.stop == "end")
        assert tokenizer.eos_token_id not in rollout.tokens[:-1]
        assert rollout.stop == "end" or len(rollout.tokens) == 300


def test_a_prompt_too_long_for_the_model_is_refused(parts: tuple) -> None:
    with pytest.raises(DataError, match="the model holds 512; lower `max_tokens`"):
        drawn_in_order(engine(parts, 4), ask([PROBLEMS[0]], (0,), 1), Sampling(max_tokens=4096))


def test_a_stated_context_bounds_or_stretches_rotary_positions_only(parts: tuple) -> None:
    model, tokenizer = parts
    asks, long = ask([PROBLEMS[0]], (0,), 1), Sampling(max_tokens=600)
    wide, narrow = (NativeEngine(model, tokenizer, PromptRenderer(tokenizer), 4, context=most) for most in (1024, 64))
    [stretched] = drawn_in_order(wide, asks, long)
    assert len(stretched.tokens) <= 600
    with pytest.raises(DataError, match="the model holds 64"):
        drawn_in_order(narrow, asks, Sampling(max_tokens=60))
    table = GPT2Config(n_positions=256)
    assert (context_of(table, None), context_of(table, 128)) == (256, 128)
    with pytest.raises(ModelError, match="has a table of 256 positions and none beyond"):
        context_of(table, 257)


def test_an_evaluation_draws_the_rollouts_without_their_log_probs(parts: tuple) -> None:
    asks = ask(PROBLEMS, (0, 2), 5)
    answers = drawn_in_order(engine(parts, 4), asks, SHORT, logps=False)
    rollouts = drawn_in_order(engine(parts, 64), asks, SHORT)
    assert len(answers) == len(rollouts) == 2 * len(PROBLEMS)
    for one, rollout in zip(answers, rollouts, strict=True):
        assert (one.text, one.length, one.stop) == (rollout.text, len(rollout.tokens), rollout.stop)
        assert one.seed == sample_seed(5, rollout.problem.id, rollout.sample)
        assert (len(one.logps), len(one.entropies)) == (0, 0)


def test_the_recorded_seed_names_the_stream_that_is_drawn_from() -> None:
    assert stream_key(5, "p", 2) % 2**53 == sample_seed(5, "p", 2)
    stream = np.random.Generator(np.random.Philox(key=stream_key(5, "p", 2)))
    assert uniforms(5, "p", 2, 4).tolist() == stream.random(4, dtype=np.float32).tolist()


def test_the_engine_s_name_holds_the_digests_of_the_model_s_files(tiny: Path, parts: tuple) -> None:
    recipe = read_recipe("lab", [f"model.path={tiny}", "update.bf16=true"])
    said = open_engine(EngineSpec.of(recipe), parts[0]).describe()
    assert said == {"name": "native", "dtype": "bfloat16", "files": files_digests(ModelSection(str(tiny)))}
    assert {name: len(one) for name, one in said["files"].items()} == {"config": 64, "generation": 64, "tokenizer": 64}


def test_a_tokenizer_without_chat_template_is_refused(parts: tuple, tiny: Path) -> None:
    tokenizer = load_model(ModelSection(str(tiny)))[1]
    tokenizer.chat_template = None
    with pytest.raises(ModelError, match="no chat template; add chat_template.jinja"):
        PromptRenderer(tokenizer)


def test_greedy_takes_the_likeliest_token(parts: tuple) -> None:
    model, _ = parts
    rollout = drawn_in_order(engine(parts, 4), ask([PROBLEMS[0]], (0,), 1), Sampling(temperature=0, max_tokens=6))[0]
    ids = list(rollout.prompt_tokens)
    for token in rollout.tokens:
        assert model(input_ids=torch.tensor([ids])).logits[0, -1].argmax().item() == token
        ids.append(token)


def test_inversion_by_hand() -> None:
    weight_SV = torch.tensor([[0.0, 0.2, 0.0, 0.8, 0.0]]).expand(4, 5)
    uniform_S = torch.tensor([0.0, 0.19, 0.21, 0.9999999])
    assert invert(weight_SV, uniform_S).tolist() == [1, 1, 3, 3]


def test_truncation_by_hand() -> None:
    prob_SV = torch.tensor([[0.1, 0.5, 0.15, 0.25]])
    assert truncate(prob_SV, Sampling(top_k=2))[0].tolist() == pytest.approx([0, 0.5, 0, 0.25])
    assert truncate(prob_SV, Sampling(top_p=0.6))[0].tolist() == pytest.approx([0, 0.5, 0, 0.25])
    assert truncate(prob_SV, Sampling(top_p=0.1))[0].tolist() == pytest.approx([0, 0.5, 0, 0])


def test_draws_follow_the_distribution() -> None:
    logits_SV = torch.tensor([[0.0, 1.0, 2.0]]).expand(20000, 3)
    tokens, _, entropy = draw(logits_SV, uniforms(3, "problem", 0, 20000), Sampling())
    share = torch.bincount(tokens, minlength=3) / 20000
    assert share.tolist() == pytest.approx([0.0900, 0.2447, 0.6652], abs=0.01)
    assert entropy[0].item() == pytest.approx(0.8324, abs=1e-4)


def test_a_stream_depends_on_seed_problem_and_sample_alone() -> None:
    first = uniforms(3, "a", 0, 8)
    assert torch.equal(uniforms(3, "a", 0, 4), first[:4])
    for other in (uniforms(4, "a", 0, 8), uniforms(3, "b", 0, 8), uniforms(3, "a", 1, 8)):
        assert not torch.equal(first, other)


@pytest.mark.parametrize(
    ("template_ends", "opener"), [("<think>\n", "<think>"), ("<think>\n\n</think>\n\n", ""), ("", "")]
)
def test_a_thought_that_the_template_opens_is_part_of_the_text(parts: tuple, template_ends: str, opener: str) -> None:
    """As DeepSeek-R1's template does: a response cut off while thinking then holds no answer."""
    model, tokenizer = parts
    asking = copy.deepcopy(tokenizer)
    asking.chat_template += template_ends
    found = drawn_in_order(NativeEngine(model, asking, PromptRenderer(asking), 4), ask([PROBLEMS[0]], (0, 1), 5), SHORT)
    assert {one.text.startswith("<think>") for one in found} == {bool(opener)}
    assert [one.text for one in found] == [
        opener + tokenizer.decode(one.tokens, skip_special_tokens=True) for one in found
    ]
