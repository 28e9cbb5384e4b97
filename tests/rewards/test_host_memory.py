"""What one answer of 8 MB costs the host: it is bounded before it is split or rebuilt."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable

import pytest

from archer.rewards.code import same_output, same_value
from archer.sandbox.frames import MOST_PRINTED, read_run
from archer.sandbox.values import MOST_DEPTH, MOST_ITEMS, read_value

MEGABYTE = 2**20
SIZE = 8 * MEGABYTE  # of an answer, the most that the limits let through


def filled(unit: str | bytes) -> bytes:
    one = unit.encode() if isinstance(unit, str) else unit
    return one * (SIZE // len(one))


def listed(item: str, count: int = 0) -> bytes:
    one = item.encode()
    return b"[" + b",".join([one] * (count or SIZE // (len(one) + 1) - 1)) + b"]"


def peak(work: Callable[[], object]) -> float:
    """The most that Python held during ``work``, in units of 8 MB."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1] / SIZE
    finally:
        tracemalloc.stop()


def read(output: bytes, printed: int):
    sizes = [printed, 0, len(output) - printed]
    answer = {"status": "ok", "detail": "", "code": 0, "seconds": 1.0, "cpu": 0.1, "spent": False, "sizes": sizes}
    return read_run(answer, output)


@pytest.mark.parametrize(
    "output",
    [
        filled("a\n"), filled("\u0100\n"), filled(b"\xff\n"), filled("1\r\n"), filled("\u0100 "), filled("1e9 "),
        b"a" + b"\n" * (SIZE - 2) + b"a", "\U0001f600".encode() + filled("a\n"), filled("a\n") + "\U0001f600".encode(),
        b"1" + b" " * (SIZE - 2) + b"1", b"9" * SIZE, "\U0001f600 ".encode() + b"9" * SIZE,
    ],
    ids=["lines", "long-letters", "no-utf-8", "returns", "words", "numbers", "empty", "first", "last", "space", "digits",
         "mixed"],
)  # fmt: skip
def test_an_output_costs_at_most_five_times_its_size(output: bytes) -> None:
    # Decoding one character beyond U+FFFF makes all of them 4 bytes long, and copies once: 1 + 4 times.
    assert peak(lambda: same_output(read(output, len(output)).stdout, "1\n2\n")) < 5.5


@pytest.mark.parametrize(
    "output",
    [
        listed("1"), listed("0.5"), listed('"ab"'), listed('"\u0100b"'), listed('"\\u0100"'), listed('{"set":[]}', 249_000),
        listed('{"set":["a"]}', 99_000), listed('{"dict":[["a",999]]}', 166_000), listed('{"bytes":""}', 499_000),
        listed("[999]", 499_000), listed("999999", MOST_ITEMS - 1), listed('"\\u0100b"', 499_000),
        b'"' + b"a" * (SIZE - 20) + b'\\ud83d\\ude00"', b'{"set":[' + b",".join(b'"%d"' % n for n in range(700_000)) + b"]}",
    ],
    ids=["ints", "floats", "texts", "raw", "escaped", "sets", "few-sets", "dicts", "bytes", "lists", "most-ints",
         "most-texts", "one-text", "one-set"],
)  # fmt: skip
def test_a_value_costs_at_most_ten_times_the_size_of_the_largest_answer(output: bytes) -> None:
    assert peak(lambda: same_value(read(output, 0).value, [1])) < 10


def test_an_output_with_as_many_lines_as_expected_is_not_copied() -> None:
    actual, expected = "\u0100" * (2 * MEGABYTE) + "\n1" * 1000, "1\n" * 1000 + "2"
    assert peak(lambda: same_output(actual, expected)) < 0.02


def test_beside_a_value_little_of_what_was_printed_is_kept() -> None:
    run = read(b"x" * SIZE + b"[1]", SIZE)
    assert (run.value, len(run.stdout)) == ([1], MOST_PRINTED)
    assert len(read(b"x" * SIZE, SIZE).stdout) == SIZE


def test_large_honest_values_are_read() -> None:
    assert len(read_value(listed("1", 1_000_000))) == 1_000_000
    assert len(read_value(listed('{"tuple":[1,2]}', 200_000))) == 200_000
    deep = b"[" * MOST_DEPTH + b"]" * MOST_DEPTH
    assert read_value(deep)
    with pytest.raises(ValueError, match="a value nested more than 200 deep"):
        read_value(b"[" + deep + b"]")
    with pytest.raises(ValueError, match="a value of 1000001 items; 1000000 are read at most"):
        read_value(listed("1", 1_000_002))
