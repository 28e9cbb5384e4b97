"""Length and repetition terms, against hand-computed values."""

from __future__ import annotations

import pytest

from archer.algorithms.shaping import overlong_penalty, repetition_ratio


@pytest.mark.parametrize(
    ("length", "penalty"),
    [(0, 0.0), (80, 0.0), (81, -0.05), (90, -0.5), (100, -1.0), (101, -1.0), (500, -1.0)],
)
def test_overlong_penalty_falls_linearly_over_the_buffer(length: int, penalty: float) -> None:
    assert overlong_penalty(length, max_length=100, buffer=20) == pytest.approx(penalty, abs=1e-12)


@pytest.mark.parametrize("buffer", [0, -1, 101])
def test_overlong_penalty_refuses_an_impossible_buffer(buffer: int) -> None:
    with pytest.raises(ValueError, match="buffer: expected 1 to max_length"):
        overlong_penalty(10, max_length=100, buffer=buffer)


@pytest.mark.parametrize(
    ("text", "n", "ratio"),
    [
        ("", 2, 0.0),
        ("one", 2, 0.0),
        ("a b c d", 2, 0.0),
        ("a b a b a", 2, 0.5),  # ab ba ab ba: two of four occurred earlier
        ("A b\na  B", 2, 1 / 3),  # case and spacing do not matter
        ("x x x x", 1, 0.75),
        ("w " * 19, 20, 0.0),
        ("w " * 21, 20, 0.5),
    ],
)
def test_repetition_ratio(text: str, n: int, ratio: float) -> None:
    assert repetition_ratio(text, n) == pytest.approx(ratio)


def test_repetition_ratio_refuses_empty_grams() -> None:
    with pytest.raises(ValueError, match="n: expected at least 1"):
        repetition_ratio("a b", 0)
