"""The head equals plain autograd in float64 however it is cut, in bfloat16 and float32 as exactly as sums allow."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
from helpers.heads import inputs, loss, plain
from torch import Tensor

from archer.models.heads import dense, log_probs, logits, tiles
from archer.models.heads.memory import head_peak_bytes
from archer.tools.planning.live import LiveBytes
from archer.tools.planning.metered import Levels, metered


class Way(NamedTuple):
    """How the logits are cut: all at once (``dense``), or in tiles, of which those of ``kept`` bytes stay."""

    dense: int
    tile: int
    narrowest: int
    kept: int


WAYS = {
    "dense": Way(2**22, 2**20, 1024, 2**29),
    "one tile, kept": Way(-1, 2**20, 1024, 2**29),
    "tiles of columns, none kept": Way(-1, 64, 5, 0),
    "tiles of columns, two of four kept": Way(-1, 64, 5, 8 * 11 * 10),
    "tiles of rows and columns, one kept": Way(-1, 20, 7, 8 * 11 * 7),
}


@pytest.fixture(params=WAYS.values(), ids=WAYS.keys())
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Way:
    chosen: Way = request.param
    cut_as(chosen, monkeypatch)
    return chosen


def cut_as(way: Way, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dense, "DENSE", way.dense)
    monkeypatch.setitem(tiles.TILE, "cpu", way.tile)
    monkeypatch.setitem(tiles.NARROWEST, "cpu", way.narrowest)
    monkeypatch.setitem(tiles.KEPT_BYTES, "cpu", way.kept)
    monkeypatch.setattr(tiles, "KEPT_SHARE", 1.0)


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_values_and_gradients_are_those_of_float64(way: Way, temperature: float) -> None:
    found = []
    for head in (log_probs, plain):
        hidden, weight, target = inputs(11, 5, 19)
        logp, entropy = head(hidden, weight, target, temperature)
        loss(logp, entropy).backward()
        found.append((logp, entropy, hidden.grad, weight.grad))
    for mine, theirs in zip(*found, strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-12, rtol=0)


def test_gradcheck(way: Way) -> None:
    hidden, weight, target = inputs(11, 3, 19)
    assert torch.autograd.gradcheck(lambda h, w: log_probs(h, w, target, 0.7), (hidden, weight), atol=1e-9)


@pytest.mark.parametrize("part", [0, 1])
def test_a_gradient_through_one_output_alone(way: Way, part: int) -> None:
    found = []
    for head in (log_probs, plain):
        hidden, weight, target = inputs(11, 5, 19)
        head(hidden, weight, target)[part].square().sum().backward()
        found.append((hidden.grad, weight.grad))
    for mine, theirs in zip(*found, strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-12, rtol=0)


@pytest.mark.parametrize("frozen", [0, 1])  # hidden states; the weight, as under an adapter
def test_what_needs_no_gradient_gets_none_and_the_other_stays_right(way: Way, frozen: int) -> None:
    found = []
    for head in (log_probs, plain):
        leaves = inputs(11, 5, 19)
        leaves[frozen].requires_grad_(False)
        loss(*head(*leaves)).backward()
        assert leaves[frozen].grad is None
        found.append(leaves[1 - frozen].grad)
    torch.testing.assert_close(found[0], found[1], atol=1e-12, rtol=0)


def test_a_graph_that_is_kept_gives_the_same_twice(way: Way) -> None:
    hidden, weight, target = inputs(11, 5, 19)
    total = loss(*log_probs(hidden, weight, target))
    first = torch.autograd.grad(total, (hidden, weight), retain_graph=True)
    second = torch.autograd.grad(total, (hidden, weight))
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))


def test_no_tokens_give_a_gradient_of_zeros(way: Way) -> None:
    hidden, weight, target = inputs(0, 5, 19)
    logp, entropy = log_probs(hidden, weight, target)
    (logp.sum() + entropy.sum()).backward()
    assert torch.equal(weight.grad, torch.zeros(19, 5, dtype=torch.float64))


@pytest.mark.parametrize("masters", [False, True])  # bfloat16 weights; float32 ones under bfloat16 hidden states
def test_bfloat16_is_multiplied_and_summed_in_float32(way: Way, masters: bool) -> None:
    hidden, weight, target = inputs(11, 64, 19, torch.bfloat16)
    mine = weight.detach().float().requires_grad_() if masters else weight
    logp, entropy = log_probs(hidden, mine, target)
    loss(logp, entropy).backward()
    exact_hidden, exact_weight = (one.detach().double().requires_grad_() for one in (hidden, weight))
    exact = plain(exact_hidden, exact_weight, target)
    loss(*exact).backward()
    assert logp.dtype == entropy.dtype == torch.float32
    torch.testing.assert_close(torch.stack([logp, entropy]).double(), torch.stack(exact), atol=2e-5, rtol=0)
    scale = exact_weight.grad.abs().max()  # a logit rounded to bfloat16 alone would be off by 2^-9 of 20
    assert (mine.grad.double() - exact_weight.grad).abs().max() < (1e-5 if masters else 2**-8) * scale
    assert (hidden.grad.double() - exact_hidden.grad).abs().max() < 2**-8 * exact_hidden.grad.abs().max()


def test_float32_masters_are_rounded_as_the_hidden_states(way: Way) -> None:
    hidden, weight, target = inputs(11, 64, 19, torch.bfloat16)
    masters = weight.detach().float() * (1 + 2**-12)  # rounds back
    assert torch.equal(log_probs(hidden, masters, target)[0], log_probs(hidden, weight, target)[0])


def test_logits_of_a_hundred_do_not_blur_a_float32_entropy(way: Way) -> None:
    hidden, weight = torch.tensor([[100.0]]), torch.tensor([[1.0], [1.0], [1.0], [0.0]])
    logp, entropy = log_probs(hidden, weight, torch.tensor([1]))
    assert logp.item() == pytest.approx(-math.log(3), abs=2e-7)  # 100 itself has a last place of 7.6e-6
    assert entropy.item() == pytest.approx(math.log(3), abs=2e-7)


def test_entropy_of_a_uniform_row_is_log_v(way: Way) -> None:
    logp, entropy = log_probs(torch.zeros(1, 4), torch.ones(8, 4), torch.tensor([3]))
    assert logp.item() == pytest.approx(-2.0794415, abs=1e-6)
    assert entropy.item() == pytest.approx(2.0794415, abs=1e-6)


def test_a_row_does_not_depend_on_the_other_rows(way: Way) -> None:
    hidden, weight, target = inputs(11, 64, 19, torch.float32)
    together = torch.stack(log_probs(hidden, weight, target))
    alone = torch.cat([torch.stack(log_probs(hidden[i : i + 1], weight, target[i : i + 1])) for i in range(11)], 1)
    torch.testing.assert_close(together, alone, atol=2e-5, rtol=0)  # logits of up to 30


def test_autocast_changes_nothing(way: Way) -> None:
    hidden, weight, target = inputs(11, 64, 19, torch.float32)
    expected = log_probs(hidden, weight, target)
    with torch.autocast("cpu", torch.bfloat16):
        found = log_probs(hidden, weight, target)
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_logits_for_engines_are_float32(monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype) -> None:
    monkeypatch.setitem(tiles.TILE, "cpu", 64 * 7)  # cast tiles of seven rows of the weight
    hidden, weight, _ = inputs(11, 64, 19, dtype)
    found = logits(hidden, weight)
    assert (found.dtype, found.requires_grad) == (torch.float32, False)
    torch.testing.assert_close(found.double(), hidden.double() @ weight.double().T, atol=2e-5, rtol=0)


def peak(head: Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]], tokens: int) -> int:
    """Bytes held at most beside the inputs and the weight's gradient."""
    hidden, weight, target = inputs(tokens, 8, 4096, torch.float32)
    with LiveBytes() as live:
        loss(*head(hidden, weight, target)).backward()
    return live.peak - weight.grad.nbytes - weight.nbytes  # a view of the weight counts as the weight


def test_memory_is_bounded_whatever_the_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    cut_as(Way(-1, 2**16, 256, 2**20), monkeypatch)  # tiles of 256 KiB, two at a time, and 1 MiB that stays
    vectors = 4 * (8 + 24)  # of a token: its hidden states' gradient, and what is known of its row
    for tokens in (64, 256, 1024):
        assert peak(log_probs, tokens) < 2**20 + 2 * 2**18 + vectors * tokens + 2**16


def test_memory_is_a_quarter_of_eager_torch_s(monkeypatch: pytest.MonkeyPatch) -> None:
    share = tiles.KEPT_SHARE
    cut_as(Way(-1, 2**14, 64, 2**29), monkeypatch)
    monkeypatch.setattr(tiles, "KEPT_SHARE", share)
    assert peak(log_probs, 256) <= peak(plain, 256) / 4


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("tokens", [300, 2000])  # with V 3000, all logits at once or in tiles
def test_the_plan_s_prediction_holds(dtype: torch.dtype, tokens: int) -> None:
    hidden, weight, target = inputs(tokens, 64, 3000, dtype)
    levels: Levels = {}
    with metered(levels, torch.device("cpu")) as mark:
        mark("start")
        loss(*log_probs(hidden, weight, target)).backward()
        mark("end")
    predicted = head_peak_bytes(tokens, 3000, 64, dtype.itemsize, dtype.itemsize, "cpu")
    assert levels["end"][1] - levels["start"][0] == pytest.approx(predicted, rel=0.05)
