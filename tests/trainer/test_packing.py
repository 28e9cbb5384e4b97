"""Packed rows: every token once, prompts shared, and the same log-probs and gradients as padded rows."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn.attention.flex_attention import flex_attention
from torch.nn.functional import scaled_dot_product_attention
from transformers import AutoModelForCausalLM, LlamaConfig, PretrainedConfig, Qwen2Config, Qwen3Config

from archer.models.loading import load_model
from archer.models.transformers_names import enable_checkpointing
from archer.recipe.sections import ModelSection
from archer.trainer.attention import PackedAttention
from archer.trainer.batch import TrainSample
from archer.trainer.flex import BLOCK, block_mask, columns
from archer.trainer.packing import PackedLayout, packed, pieces
from archer.trainer.scoring import TokenScorer, inputs, shares_prompts

RAGGED = [(7, [1, 5, 40, 3]), (130, [60, 90, 200]), (3, [1]), (300, [7, 9, 150, 33]), (2, [1, 1])]


def responses(shape: list[tuple[int, list[int]]]) -> list[TrainSample]:
    """Families of random tokens: prompt lengths, and those of their responses."""
    made = torch.Generator().manual_seed(0)

    def tokens(count: int) -> tuple[int, ...]:
        return tuple(torch.randint(5, 300, (count,), generator=made).tolist())

    found = []
    for prompt, lengths in shape:
        shared = tokens(prompt)
        found += [TrainSample.of(shared, tokens(n)) for n in lengths]
    return found


def laid_out(shape: list[tuple[int, list[int]]]) -> PackedLayout:
    """Where they lie in one row."""
    layout = packed(responses(shape)).layout
    assert layout is not None
    return layout


def seen(layout: PackedLayout) -> torch.Tensor:
    """Which key each query may see, from the definition, (N, N)."""
    allowed = torch.zeros(len(layout), len(layout), dtype=torch.bool)
    for start, stop in layout.segments:
        allowed[start:stop, start:stop] = torch.ones(stop - start, stop - start, dtype=torch.bool).tril()
    for family in layout.families:
        allowed[slice(*family.responses), slice(*family.prompt)] = True
    return allowed


def test_a_row_holds_the_prompt_once_and_no_last_token() -> None:
    made = [TrainSample.of((1, 2), tokens) for tokens in [(3, 4, 5), (6,), (7, 8)]]
    row = packed(made)
    assert row.id_BT.tolist() == [[1, 2, 3, 4, 7]]
    assert row.position_BT.tolist() == [[0, 1, 2, 3, 2]]
    assert row.target_N.tolist() == [3, 4, 5, 6, 7, 8]
    assert row.place_N.tolist() == [1, 2, 3, 1, 1, 4]
    assert row.layout is not None
    assert row.layout.segments == ((0, 2), (2, 4), (4, 5))
    assert row.layout.pairs == 3 + 3 + 1 + 3 * 2
    assert sorted(int(token) for bucket in row.layout.buckets for token in bucket.own_N) == [0, 1, 2, 3, 4]


def test_pieces_are_level_within_the_budget_and_count_a_prompt_once() -> None:
    made = responses([(10, [5] * 6), (10, [5] * 2)])
    assert pieces(made, 1000) == [[0, 1, 2, 3, 4, 5, 6, 7]]
    assert pieces(made, 30) == [[0, 1, 2], [3, 4, 5], [6, 7]]  # 25 tokens, 25 and 20
    assert pieces(made, 1) == [[row] for row in range(8)]
    assert pieces(made, 1000, least=3) == [[0, 1, 2], [3, 4, 5], [6, 7]]
    assert pieces(made[:1], 1000, least=2) == [[0], []]


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-13), (torch.float32, 2e-5)])
def test_shared_attention_and_its_gradients_are_those_of_a_mask(dtype: torch.dtype, bound: float) -> None:
    layout = laid_out(RAGGED)
    allowed = seen(layout)
    assert int(allowed.sum()) == layout.pairs
    torch.manual_seed(1)
    ours = [torch.randn(len(layout), 3, 16, dtype=dtype, requires_grad=True) for _ in range(3)]
    out = PackedAttention.apply(*ours, layout, 0.25)
    dense = (column.transpose(0, 1)[None] for column in ours)
    expected = scaled_dot_product_attention(*dense, attn_mask=allowed, scale=0.25)[0].transpose(0, 1)
    torch.testing.assert_close(out, expected, atol=bound, rtol=0)
    weight = torch.randn_like(out)
    for found, wanted in zip(
        torch.autograd.grad((out * weight).sum(), ours),
        torch.autograd.grad((expected * weight).sum(), ours),
        strict=True,
    ):
        torch.testing.assert_close(found, wanted, atol=bound, rtol=0)


@pytest.mark.filterwarnings("ignore")
def test_the_block_mask_of_a_gpu_holds_just_the_pairs() -> None:
    layout = laid_out([*RAGGED, (400, [400, 3])])
    allowed, mask = seen(layout), block_mask(layout, torch.device("cpu"))
    count = mask.kv_num_blocks.shape[-1]
    whole = torch.zeros(count * BLOCK, count * BLOCK, dtype=torch.bool)
    whole[: len(layout), : len(layout)] = allowed
    blocks = whole.view(count, BLOCK, count, BLOCK).permute(0, 2, 1, 3).flatten(2)
    assert torch.equal(mask.to_dense()[0, 0].bool(), blocks.any(-1))
    assert mask.full_kv_num_blocks is not None
    assert mask.full_kv_indices is not None
    full = torch.zeros(count, count, dtype=torch.bool)
    for query, number in enumerate(mask.full_kv_num_blocks[0, 0].tolist()):
        full[query, mask.full_kv_indices[0, 0, query, :number].long()] = True
    assert not (full & ~blocks.all(-1)).any()
    assert int(full.sum()) == 10
    torch.manual_seed(1)
    query, key, value = (torch.randn(1, 3, len(layout), 16) for _ in range(3))
    torch.testing.assert_close(
        flex_attention(query, key, value, block_mask=mask),
        scaled_dot_product_attention(query, key, value, attn_mask=allowed),
        atol=2e-6,
        rtol=0,
    )
    segment_N, family_N, prompt_N = columns(layout)
    assert (int(segment_N[-1]), int(family_N[-1]), int(prompt_N.sum())) == (len(layout.segments) - 1, 5, 842)


@pytest.mark.parametrize(
    "config",
    [
        Qwen2Config(hidden_size=32, num_attention_heads=4, num_key_value_heads=2, vocab_size=300),
        Qwen3Config(hidden_size=32, num_attention_heads=4, num_key_value_heads=1, head_dim=16, vocab_size=300),
        LlamaConfig(hidden_size=32, num_attention_heads=2, num_key_value_heads=2, vocab_size=300),
    ],
    ids=lambda config: config.model_type,
)
@pytest.mark.parametrize("checkpointing", [False, True])
def test_packed_and_padded_rows_give_the_same_scores_and_gradients(
    config: PretrainedConfig, checkpointing: bool
) -> None:
    config.num_hidden_layers, config.intermediate_size, config.initializer_range = 2, 48, 0.3
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config)
    scorer = TokenScorer(model.train(checkpointing), temperature=0.8)
    if checkpointing:
        enable_checkpointing(model)
    assert shares_prompts(scorer)
    found = []
    for sharing in (False, True):
        model.zero_grad()
        logp_N, entropy_N = scorer(inputs(responses(RAGGED), sharing))
        (logp_N.mean() + 0.1 * entropy_N.mean()).backward()
        found.append([logp_N, entropy_N, *(one.grad for one in model.parameters())])
    for padded, shared in zip(*found, strict=True):
        torch.testing.assert_close(shared, padded, atol=1e-5, rtol=1e-5)


def test_only_the_wanted_tokens_are_scored(tiny: Path) -> None:
    scorer = TokenScorer(load_model(ModelSection(str(tiny)))[0], 1.0)
    shares_prompts(scorer)
    made = inputs(responses([(4, [3, 5])]), True)
    wanted_N = torch.tensor([True, False, True, False, False, True, True, False])
    assert torch.allclose(scorer(made.only(wanted_N))[0], scorer(made)[0][wanted_N], atol=1e-6)
    assert made.only(wanted_N).work == (4 + 2 + 4, 10 + 3 + 10 + 4 * 6, 4)


def test_a_model_that_sees_more_than_packed_rows_say_trains_on_padded_ones(
    tiny: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model, _ = load_model(ModelSection(str(tiny)))
    layer = model.model.layers[0]
    layer.self_attn.register_forward_hook(lambda module, args, out: (out[0].cumsum(1), out[1]))  # not by attention
    assert not shares_prompts(TokenScorer(model, 1.0))
    assert "trains on padded rows, prompts repeated: log-probs of packed rows differ by" in caplog.text
    assert model.config._attn_implementation == "sdpa"
