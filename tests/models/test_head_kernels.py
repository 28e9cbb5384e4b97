"""Triton's kernels do what torch's passes do: in Triton's interpreter everywhere, and on a GPU where there is one."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
from helpers.heads import inputs, loss, plain

from archer.models.heads import dense, log_probs, logits, tiles


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
@pytest.mark.parametrize("masters", [False, True])
@pytest.mark.parametrize("held_at_once", [2**22, -1])  # all logits; tiles of 100 rows x 512 columns
def test_bfloat16_on_a_gpu(monkeypatch: pytest.MonkeyPatch, held_at_once: int, masters: bool) -> None:
    monkeypatch.setattr(dense, "DENSE", held_at_once)
    monkeypatch.setitem(tiles.TILE, "cuda", 51_200)
    monkeypatch.setitem(tiles.NARROWEST, "cuda", 512)
    leaves = inputs(300, 64, 5000, torch.bfloat16)
    hidden, weight, target = (one.detach().cuda() for one in leaves)
    hidden, weight = hidden.requires_grad_(), (weight.float() if masters else weight).requires_grad_()
    found = log_probs(hidden, weight, target, 0.7)
    loss(*found).backward()
    exact_hidden, exact_weight = (one.detach().double().requires_grad_() for one in leaves[:2])
    exact = plain(exact_hidden, exact_weight, leaves[2], 0.7)
    loss(*exact).backward()
    torch.testing.assert_close(torch.stack(found).cpu().double(), torch.stack(exact), atol=1e-4, rtol=0)
    for mine, right in ((hidden.grad, exact_hidden.grad), (weight.grad, exact_weight.grad)):
        assert (mine.cpu().double() - right).abs().max() < 2**-7 * right.abs().max()
    expected = leaves[0].double() @ leaves[1].double().T
    torch.testing.assert_close(logits(hidden, weight).cpu().double(), expected, atol=1e-4, rtol=0)


KERNELS = """
import torch
from archer.models.heads import dense, fused, log_probs, tiles
from archer.models.heads.kernels import TritonFolding
from archer.models.heads.softmax import Slopes, Sums, TorchFolding

torch.manual_seed(0)
logits, target = 5 * torch.randn(6, 300), torch.randint(0, 300, (6,))
cpu, wide = torch.device("cpu"), torch.float32
sums = {kind: Sums.empty(6, cpu, wide) for kind in (TorchFolding, TritonFolding)}
for kind, found in sums.items():
    for start in range(0, 300, 130):
        tile = logits[:, start : start + 130].contiguous()
        kind(6 * 130, cpu, wide).fold(tile, found, target, start)
exact = torch.log_softmax(logits.double(), -1)
for found in sums.values():
    assert torch.allclose(found.log_sum_exp().double(), logits.double().logsumexp(-1), atol=1e-5)
    assert torch.allclose(found.entropy().double(), -(exact.exp() * exact).sum(-1), atol=1e-5)
    assert torch.equal(found.pick_N, logits[range(6), target])
found = sums[TritonFolding]
for grad in (None, torch.randn(6)):
    slopes = Slopes(found.log_sum_exp(), found.entropy(), torch.randn(6), grad)
    for start in (0, 170):
        tile = logits[:, start : start + 130].contiguous()
        mine, torchs = (kind(6 * 130, cpu, wide).slope(tile, slopes, target, start) for kind in (TritonFolding, TorchFolding))
        assert torch.allclose(mine, torchs, atol=1e-6), (mine - torchs).abs().max()
        narrow = TritonFolding(6 * 130, cpu, torch.bfloat16).slope(tile, slopes, target, start)
        assert torch.allclose(narrow.float(), torchs, atol=1e-6, rtol=2**-7), (narrow - torchs).abs().max()

dense.DENSE, tiles.TILE["cpu"], tiles.NARROWEST["cpu"] = -1, 700, 100
found = []
for kernels in (True, False):
    fused.has_kernels = lambda hidden: kernels
    torch.manual_seed(1)
    hidden, weight = torch.randn(9, 8, requires_grad=True), torch.randn(300, 8, requires_grad=True)
    logp, entropy = log_probs(hidden, weight, torch.arange(9) * 33, 0.8)
    (logp.sum() + entropy.square().sum()).backward()
    found.append((logp, entropy, hidden.grad, weight.grad))
assert all(torch.allclose(mine, torchs, atol=2e-5) for mine, torchs in zip(*found))
print("the same")
"""


def test_triton_s_kernels_fold_and_turn_as_torch_does() -> None:
    pytest.importorskip("triton", reason="triton is not installed: pip install 'archer-rlvr[dev]'")
    # In its interpreter, which must be chosen before the kernels are imported.
    variables = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", KERNELS], capture_output=True, text=True, env=variables, timeout=300)
    assert (done.stdout, done.returncode) == ("the same\n", 0), done.stderr
