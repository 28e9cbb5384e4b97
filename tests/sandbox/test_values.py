"""Values between host and guest: what comes back, and what a hostile guest cannot do with them."""

from __future__ import annotations

import json
import time

import pytest

from archer.sandbox.values import MOST_KEYS, MOST_PARTS, plain, read_value


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        -3,
        2.5,
        "\ud800x",
        1 - 2j,
        b"\x00\xff",
        [1, [2]],
        (1, (2, [3])),
        {1, 2},
        frozenset({"a"}),
        {},
        {(1, 2): {"a": {3}}, None: [()]},
    ],
)
def test_values_survive_the_way(value: object) -> None:
    back = read_value(json.dumps(plain(value)).encode())
    assert (back, type(back)) == (value, type(value))


def test_other_types_are_refused() -> None:
    class Sly(int):
        __eq__ = lambda self, other: True  # noqa: E731

    for value in (Sly(3), object(), [range(3)]):
        with pytest.raises(TypeError, match="is no plain value"):
            plain(value)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"\xff",
        b'{"set": [[1]]}',
        b'{"dict": [[1]]}',
        b'{"dict": 3}',
        b'{"tuple": 3}',
        b'{"tuple": "abc"}',
        b'{"set": "abc"}',
        b'{"dict": ["ab", "cd"]}',
        b'{"object": 3}',
        b'{"tuple": [], "set": []}',
        b"{}",
        b'{"bytes": "x"}',
        b'{"complex": [1, "a"]}',
        b"[" * 100_000,
        b'{"tuple": [' * 2000 + b"]}" * 2000,
        b"1" * 5000,
    ],
)
def test_what_is_no_value_is_a_value_error(text: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 (its text is json's, or says which kind was wrong)
        read_value(text)


@pytest.mark.parametrize("kind", ["set", "frozenset", "dict"])
def test_chosen_numbers_cannot_cost_the_host_time(kind: str) -> None:
    # All of these numbers have the same hash, so that each insertion would look at all before it.
    keys = [index * (2**61 - 1) for index in range(50_000)]
    text = json.dumps({kind: [[key, 1] for key in keys] if kind == "dict" else keys}).encode()
    begin = time.monotonic()
    with pytest.raises(ValueError, match=f"50000 keys that are not text; {MOST_KEYS} are read at most"):
        read_value(text)
    assert time.monotonic() - begin < 2
    words = {kind: [[str(key), 1] for key in keys] if kind == "dict" else [str(key) for key in keys]}
    assert len(read_value(json.dumps(words).encode())) == 50_000


def test_nor_can_many_small_sets_of_them() -> None:
    small = {"set": [index * (2**61 - 1) for index in range(3000)]}
    assert len(read_value(json.dumps(small).encode())) == 3000
    with pytest.raises(ValueError, match="6000 keys that are not text"):
        read_value(json.dumps([small] * 90).encode())
    long = {"set": [{"tuple": [*[0.5] * 200, index * (2**61 - 1)]} for index in range(4096)]}
    with pytest.raises(ValueError, match=f"{4096 * 403} keys that are not text"):
        read_value(json.dumps(long).encode())


def test_a_value_of_nothing_but_brackets_is_refused_unread() -> None:
    with pytest.raises(ValueError, match=f"a value of 2000001 parts; {MOST_PARTS} are read at most"):
        read_value(b"[" + b"[]," * 1_999_999 + b"[]]")
