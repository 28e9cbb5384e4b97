"""The lean forward beside the model's own modules: the same hidden states, or the modules and a reason."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers.rollouts import Growing, ask, drawn_in_order
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, LlamaConfig, MistralConfig, PreTrainedModel, Qwen2Config, Qwen3Config

from archer.engines.base import in_order
from archer.engines.decode_buffer import new_buffer
from archer.engines.native import NativeEngine
from archer.engines.native.forward import misfit, open_forward, states
from archer.engines.native.graphs import Graphs, rounded
from archer.engines.native.slots import Slots
from archer.engines.native.weights import paired
from archer.engines.sampling import invert
from archer.models.loading import load_model
from archer.models.prompts import PromptRenderer
from archer.problems.lab import TASKS
from archer.problems.streams import open_stream
from archer.recipe.reading import read_recipe
from archer.recipe.sections import ModelSection
from archer.trainer.batch import to_sample
from archer.trainer.scoring import inputs
from archer.trainer.torch_backend import TorchBackend
from archer.types import Problem, Request, Rollout, Sampling

SHAPE = {
    "vocab_size": 96, "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 64, "eos_token_id": 0,
}  # fmt: skip
FAMILY = {
    "llama3 turns": LlamaConfig(
        **SHAPE, rope_parameters={"rope_type": "llama3", "rope_theta": 1e4, "factor": 4.0, "low_freq_factor": 1.0,
        "high_freq_factor": 4.0, "original_max_position_embeddings": 16},
    ),
    "llama with every bias": LlamaConfig(**SHAPE, attention_bias=True, mlp_bias=True, head_dim=8),
    "mistral": MistralConfig(**SHAPE, sliding_window=None, hidden_act="gelu"),
    "qwen2 by yarn": Qwen2Config(
        **SHAPE, rope_parameters={"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0,
        "original_max_position_embeddings": 16},
    ),
    "qwen3": Qwen3Config(**SHAPE, head_dim=10, tie_word_embeddings=True),
}  # fmt: skip
OTHERS = {
    "sliding_window 8": MistralConfig(**SHAPE, sliding_window=8),
    "rope_type dynamic": LlamaConfig(
        **SHAPE, rope_parameters={"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}
    ),
}
SHORT = Sampling(max_tokens=16)


def built(config: object) -> PreTrainedModel:
    """A random model whose biases and norms are no zeros and ones."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).eval()
    for parameter in model.parameters():
        if parameter.ndim == 1:
            nn.init.uniform_(parameter, 0.5, 1.5)
        else:
            nn.init.normal_(parameter, std=parameter.shape[1] ** -0.5)
    return model


@pytest.fixture
def parts(tiny: Path) -> tuple:
    return load_model(ModelSection(str(tiny)))


def native(parts: tuple, slots: int = 64) -> NativeEngine:
    return NativeEngine(*parts, PromptRenderer(parts[1]), slots)


def asks(seed: int = 5, samples: int = 4) -> list[Request]:
    problems = [TASKS[name].problem("train", index) for index in range(2) for name in TASKS]
    return ask(problems, range(samples), seed)


def drawn(rollouts: list[Rollout]) -> list[tuple[int, ...]]:
    return [tuple(rollout.tokens.tolist()) for rollout in rollouts]


@pytest.mark.parametrize("name", FAMILY)
def test_the_lean_forward_gives_the_modules_hidden_states(name: str) -> None:
    model = built(FAMILY[name])
    assert misfit(model, None) is None
    with torch.inference_mode():
        found, expected = (states(open_forward(model, None, lean), model) for lean in (True, False))
    assert expected.std() > 0.3
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=0)


@pytest.mark.parametrize("name", ["qwen2 by yarn", "qwen3"])
def test_in_bfloat16_it_rounds_where_the_modules_do(name: str) -> None:
    model = built(FAMILY[name])
    assert misfit(model, torch.bfloat16) is None
    assert misfit(model.to(torch.bfloat16), torch.bfloat16) is None


@pytest.mark.parametrize("reason", OTHERS)
def test_a_model_of_another_kind_keeps_its_modules(reason: str) -> None:
    assert misfit(built(OTHERS[reason]), None) == reason


class OffByOne(nn.Module):
    """A norm as Gemma has it: nothing shows it but its results."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.weight, self.variance_epsilon = norm.weight, norm.variance_epsilon

    def forward(self, hidden_NH: Tensor) -> Tensor:
        return nn.functional.rms_norm(hidden_NH, self.weight.shape, self.weight + 1.0, self.variance_epsilon)


def test_a_model_that_computes_otherwise_keeps_its_modules_and_the_log_says_why(
    parts: tuple, caplog: pytest.LogCaptureFixture
) -> None:
    model = parts[0]
    model.model.layers[0].input_layernorm = OffByOne(model.model.layers[0].input_layernorm)
    engine = native(parts)
    with caplog.at_level(logging.INFO):
        drawn_in_order(engine, asks(), SHORT)
    assert "by its own modules: its lean hidden states are" in caplog.text
    assert engine.why_modules is not None
    assert "from its own" in engine.why_modules


def test_an_adapter_put_on_later_is_not_overlooked(parts: tuple) -> None:
    peft = pytest.importorskip("peft", reason="peft is not installed: pip install 'archer-rlvr[lora]'")
    engine = native(parts)
    before = drawn(drawn_in_order(engine, asks(), SHORT))
    adapter = peft.LoraConfig(target_modules=["v_proj"], r=2, init_lora_weights=False)
    peft.inject_adapter_in_model(adapter, parts[0])
    assert drawn(drawn_in_order(engine, asks(), SHORT)) != before


def test_both_forwards_draw_the_same(parts: tuple) -> None:
    lean, modules = native(parts, 7), native(parts, 7)
    modules.why_modules = "to compare"
    for temperature in (1.0, 0.6):
        sampling = Sampling(temperature=temperature, max_tokens=32)
        found, expected = drawn_in_order(lean, asks(), sampling), drawn_in_order(modules, asks(), sampling)
        assert lean.why_modules == ""
        assert drawn(found) == drawn(expected)
        for one, other in zip(found, expected, strict=True):
            assert one.logps == pytest.approx(other.logps, abs=1e-5)
            assert one.entropies == pytest.approx(other.entropies, abs=1e-5)


def test_weights_that_a_policy_moved_meanwhile_are_the_ones_sampled_from(parts: tuple) -> None:
    engine, moved = native(parts), native(parts)
    first = drawn(drawn_in_order(engine, asks(), SHORT))
    with torch.no_grad():
        for parameter in parts[0].parameters():
            parameter.add_(0.05 * torch.sin(torch.arange(parameter.numel())).view(parameter.shape))
    again = drawn(drawn_in_order(engine, asks(), SHORT))
    assert again != first
    assert again == drawn(drawn_in_order(moved, asks(), SHORT))


def test_how_often_ended_rows_are_looked_for_changes_nothing(parts: tuple) -> None:
    """On a GPU a row may decode on for a few steps; what it draws then is nobody's."""
    often, seldom = native(parts, 9), native(parts, 9)
    seldom.look = 7
    sampling = Sampling(max_tokens=40)
    found, expected = drawn_in_order(seldom, asks(), sampling), drawn_in_order(often, asks(), sampling)
    assert drawn(found) == drawn(expected)
    assert [one.stop for one in found] == [one.stop for one in expected]
    assert max(len(one.tokens) for one in found) <= 40


def test_further_asks_come_in_while_others_decode(parts: tuple) -> None:
    first, later = asks()[:8], asks()[8:]
    queue = Growing(first, {4 + number: [request] for number, request in enumerate(later)})
    found = in_order([*first, *later], native(parts, 6).generate(queue, SHORT))
    assert drawn(found) == drawn(drawn_in_order(native(parts), [*first, *later], SHORT))
    assert queue.idle[0] is False
    assert queue.idle[-1]


def test_work_is_counted(parts: tuple) -> None:
    engine = native(parts)
    engine.stops = ()
    problem = TASKS["lab-arithmetic"].problem("train", 0)
    length = len(engine.prompts.encode(problem))
    drawn_in_order(engine, ask([problem], (0, 1, 2), 5), Sampling(max_tokens=4))
    prefill, decode = engine.tally["prefill"], engine.tally["decode"]
    assert (prefill.calls, prefill.tokens, prefill.rows) == (1, length, 1)
    assert prefill.pairs == length * (length + 1) // 2
    assert (decode.calls, decode.tokens, decode.rows) == (3, 9, 9)
    assert decode.pairs == 3 * (3 * length + 1 + 2 + 3)


def test_free_places_are_filled_together(parts: tuple) -> None:
    """32 places, 64 rows of one prompt: two must be free before others are admitted, as a prefill stops all rows."""
    engine = native(parts, 32)
    problem = TASKS["lab-countdown"].problem("train", 0)
    rollouts = drawn_in_order(engine, ask([problem], tuple(range(64)), 3), Sampling(max_tokens=64))
    ends = len({len(rollout.tokens) for rollout in rollouts})
    assert ends > 4  # they do not end together
    assert 2 <= engine.tally["prefill"].calls <= 1 + 32 // 2


def test_captured_steps_draw_the_same(parts: tuple) -> None:
    """On a GPU a step is captured for a few sizes; here what is captured is the step itself."""
    engine, captured = native(parts, 11), []
    expected = drawn(drawn_in_order(engine, asks(samples=5), Sampling(max_tokens=30)))
    plainly = engine._context

    def capture(run):
        captured.append(run)
        return run

    engine._context = lambda *call: replace(plainly(*call), capture=capture, look=3)
    assert drawn(drawn_in_order(engine, asks(samples=5), Sampling(max_tokens=30))) == expected
    assert len(captured) >= 2


def test_a_size_is_captured_at_its_second_step_and_run_from_then_on() -> None:
    steps: list[tuple[int, int]] = []
    log: list[str] = []

    def capture(run):
        log.append("captured")
        return lambda: log.append("replayed")

    graphs = Graphs(lambda rows, span: steps.append((rows, span)), 50, 1000, capture)
    for rows, span in ((50, 3), (49, 120), (49, 125), (48, 125), (7, 1000)):
        graphs(rows, span)
    assert steps == [(50, 128), (48, 128), (8, 1000)]
    assert log == ["captured", "replayed", "replayed"]


def test_where_nothing_can_be_captured_every_step_runs_by_itself(caplog: pytest.LogCaptureFixture) -> None:
    steps: list[tuple[int, int]] = []

    def capture(run):
        raise RuntimeError("operation not permitted when stream is capturing")

    graphs = Graphs(lambda rows, span: steps.append((rows, span)), 4, 100, capture)
    for _ in range(3):
        graphs(4, 100)
    assert steps == [(4, 100)] * 3
    assert caplog.text.count("not captured as CUDA graphs") == 1


def test_sizes_are_rounded_up() -> None:
    assert [rounded(rows, 100) for rows in (1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 97)] == [
        1,
        2,
        3,
        4,
        6,
        8,
        12,
        16,
        24,
        32,
        100,
    ]


def test_pairs_that_one_angle_turns_stand_together() -> None:
    assert paired(torch.arange(12), 6).tolist() == [0, 3, 1, 4, 2, 5, 6, 9, 7, 10, 8, 11]


def test_the_last_row_takes_a_dropped_one_s_place() -> None:
    slots = Slots(layers=1, capacity=4, width=3, device=torch.device("cpu"))
    rows = slots.take(torch.tensor([1, 2, 1]))
    prompt_PKTD = torch.tensor([[5.0, 6.0], [7.0, 8.0]]).view(2, 1, 2, 1)
    slots.fill(0, rows, torch.tensor([0, 1, 1]), prompt_PKTD, -prompt_PKTD)
    slots.append(0, torch.tensor([1.0, 2.0, 3.0]).view(3, 1, 1), torch.zeros(3, 1, 1))
    assert slots.of(0)[0][:3, 0, :, 0].tolist() == [[5, 1, 0], [7, 8, 2], [7, 3, 0]]
    slots.length_S[:3] += 1
    slots.advance()
    assert (slots.longest, slots.held) == (3, 7)
    slots.drop(torch.tensor([0]), torch.tensor([2]), 2)
    assert slots.of(0)[0][:2, 0, :, 0].tolist() == [[7, 3, 0], [7, 8, 2]]
    assert (slots.active, slots.longest, slots.held) == (2, 3, 5)
    assert slots.seen(2, 3).tolist() == [[True, True, True], [True, True, True]]
    assert slots.widen(5)
    assert not slots.widen(4)
    assert slots.of(0)[0][0, 0, :, 0].tolist() == [7, 3, 0, 0, 0]


def test_a_done_row_counts_no_further() -> None:
    board = new_buffer(3, 4, torch.device("cpu"))
    rows = [Request(Problem("p", "q", "1", "math", "s"), sample, 0) for sample in range(2)]
    board.place(slice(0, 2), rows, torch.zeros(2, 4))
    stop_E = torch.tensor([9])
    for first in (3, 9, 4):
        drawn_S = torch.tensor([first, 5])
        board.record(slice(0, 2), (drawn_S, -drawn_S.float(), drawn_S.float()), stop_E)
    assert board.done_S.tolist() == [True, False, True]
    ended, other = board.columns([0, 1])
    assert ended[0].tolist() == [3, 9]
    assert other[1].tolist() == [-5, -5, -5]
    assert board.drop([0])[2] == 1
    assert board.rows == rows[1:]
    assert board.count_S[0] == 3


@pytest.mark.parametrize("vocabulary", [4096, 5000, 5120, 9999])
def test_a_large_vocabulary_is_inverted_block_by_block(vocabulary: int) -> None:
    generator = torch.Generator().manual_seed(1)
    weight_SV = torch.rand(40, vocabulary, generator=generator) ** 8
    weight_SV[:, ::3] = 0
    weight_SV[0] = 0
    weight_SV[0, -2] = 0.5
    uniform_S = torch.rand(40, generator=generator)
    uniform_S[1:4] = torch.tensor([0.0, 1 - 2**-24, 1 - 2**-24])
    index_S = invert(weight_SV, uniform_S)
    assert (weight_SV.gather(1, index_S[:, None]) > 0).all()
    assert index_S[0] == vocabulary - 2
    exact_SV = weight_SV.double().cumsum(-1)
    target_S = uniform_S.double() * exact_SV[:, -1]
    above_S = exact_SV.gather(1, index_S[:, None])[:, 0] - target_S
    below_S = above_S - weight_SV.gather(1, index_S[:, None])[:, 0]
    total_S = exact_SV[:, -1]
    assert (above_S > -1e-6 * total_S).all()
    assert (below_S <= 1e-6 * total_S).all()


def test_under_autocast_engine_and_policy_round_alike(tiny: Path) -> None:
    recipe = read_recipe("lab", [f"model.path={tiny}", "update.bf16=true", "rollout.max_tokens=12"])
    model, tokenizer = load_model(recipe.model)
    asks = ask(open_stream(recipe.data, 0).take(0, 6), (0, 1), 7)
    engine = NativeEngine(model, tokenizer, PromptRenderer(tokenizer), 12, torch.bfloat16)
    rollouts = drawn_in_order(engine, asks, recipe.rollout.sampling)
    mechanics = TorchBackend(model, recipe.update, 1.0)
    made = inputs([to_sample(one, 1.0) for one in rollouts], mechanics.sharing)
    with torch.no_grad():
        logp_N, _ = mechanics.forward(made)
    gap_N = logp_N - torch.cat([torch.tensor(one.logps) for one in rollouts])
    assert float(gap_N.abs().mean()) < 0.01  # bfloat16 has three digits
    assert float(gap_N.abs().max()) > 0  # it was not float32
