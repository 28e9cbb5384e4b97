"""The chunked head equals plain autograd in float64, through log-probs and through entropies."""

from __future__ import annotations

import pytest
import torch

from archer.heads import chunked, log_probs


def plain(hidden: torch.Tensor, weight: torch.Tensor, target: torch.Tensor, temperature: float) -> tuple:
    logp_NV = torch.log_softmax(hidden @ weight.T / temperature, dim=-1)
    return logp_NV.gather(1, target[:, None])[:, 0], -(logp_NV.exp() * logp_NV).sum(-1)


@pytest.mark.parametrize("temperature", [1.0, 0.6])
@pytest.mark.parametrize("elements", [2**24, 64])  # one chunk; a chunk of three rows
def test_values_and_gradients(monkeypatch: pytest.MonkeyPatch, temperature: float, elements: int) -> None:
    monkeypatch.setattr(chunked, "CHUNK_ELEMENTS", elements)
    torch.manual_seed(0)
    target = torch.randint(0, 19, (11,))
    values, gradients = [], []
    for head in (log_probs, plain):
        torch.manual_seed(1)
        hidden = torch.randn(11, 5, dtype=torch.float64, requires_grad=True)
        weight = torch.randn(19, 5, dtype=torch.float64, requires_grad=True)
        logp, entropy = head(hidden, weight, target, temperature)
        (logp * torch.arange(11) + entropy.square()).sum().backward()
        values.append(torch.stack([logp, entropy]).detach())
        gradients.append((hidden.grad, weight.grad))
    torch.testing.assert_close(values[0], values[1], atol=1e-12, rtol=0)
    for mine, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-11, rtol=0)


def test_entropy_of_a_uniform_row_is_log_v() -> None:
    logp, entropy = log_probs(torch.zeros(1, 4), torch.randn(8, 4), torch.tensor([3]))
    assert logp.item() == pytest.approx(-2.0794415, abs=1e-6)
    assert entropy.item() == pytest.approx(2.0794415, abs=1e-6)
