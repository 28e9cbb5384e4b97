"""Assertions taken apart: what the program is asked, and what is decided outside."""

from __future__ import annotations

import time

import pytest

from archer.errors import DataError
from archer.rewards.assertions import split

NAN = float("nan")


def holds(text: str, *values: object) -> bool:
    assertion = split(text, "f")
    assert assertion is not None
    assert len(assertion.calls) == len(values)
    return assertion.holds(values)


@pytest.mark.parametrize(
    ("text", "calls"),
    [
        ("assert f(1) == 2", ("f(1)",)),
        ("assert f(nums = [3, 1], k = 2) == 4, 'no'", ("f(nums=[3, 1], k=2)",)),
        ("assert f(1) == f(2)", ("f(1)", "f(2)")),
        ("assert tuple(f([1])) == tuple(f([2, 3]))", ("f([1])", "f([2, 3])")),
        ("assert f(f(1)) == 2", ("f(f(1))",)),
        ("assert f(*[1, g(2)], x=[y for y in z]) == 2", ("f(*[1, g(2)], x=[y for y in z])",)),
        ("assert f(root) == 3", ("f(root)",)),
        ("assert f(1)[0] == 2", ("f(1)[0]",)),
        ("assert f(1).lower() == 'a'", ("f(1).lower()",)),
        ("assert f(1).left.size == 2", ("f(1).left.size",)),
        ("assert [f(1), {'a': f(2)}] == [1, {'a': 2}]", ("f(1)", "f(2)")),
        ("  assert (f(\n 1) ==\n 2)\n", ("f(1)",)),
        ("assert abs(f(1.33) - 0.33) < 1e-6", ("f(1.33)",)),
        ("assert not f('(') and f('()')", ("f('(')", "f('()')")),
        ("assert f", None),  # nothing is asked
        ("assert True", None),
        ("assert g(1) == 1", None),
        ("assert f(1) == g(1)", None),
        ("assert f(1) == sys.getsizeof(1)", None),
        ("assert numpy.allclose(f(1), [2])", None),
        ("assert all(f(x) == 2 * x for x in range(3))", None),
        ("assert f(1).startswith('ab')", None),  # it would carry what is expected
        ("assert sorted(f(1), key=len) == []", None),
        ("assert set(map(tuple, f(1))) == {(1,)}", None),
        ("assert f(1) is f(2)", None),
        ("assert f(1) == '%s' % 3", None),
        ("assert f(1) == [0] * 10**9", None),
        ("assert f(2) == 10**200", None),
        ("assert f(2)**2 == 4", None),
        ("assert 2**f(2) == 4", None),
        ("assert round(1.5, f(1)) == 2", None),
        ("assert sum(f(1), []) == [1]", None),
        ("assert (lambda: f(1))() == 1", None),
        ("assert f(1) == x", None),
        ("assert f(1) == f'{2}'", None),
        ("assert {**{}, 'a': f(1)} == {'a': 1}", None),
        ("assert [*f(1)] == [1]", None),
        ("assert (y := f(1)) == 1", None),
        ("assert eval('1') == f(1)", None),
        ("assert f(1).__class__.__mro__[1].__subclasses__() == 1", ("f(1).__class__.__mro__[1].__subclasses__()",)),
    ],
)
def test_what_the_program_is_asked(text: str, calls: tuple[str, ...] | None) -> None:
    assertion = split(text, "f")
    assert (assertion.calls if assertion else None) == calls


def test_the_function_s_name_wins_over_a_built_in() -> None:
    assertion = split("assert sum(10, 15) == 6", "sum")
    assert assertion is not None
    assert assertion.calls == ("sum(10, 15)",)
    assert assertion.holds([6])
    assert not assertion.holds([25])


@pytest.mark.parametrize(
    ("text", "values", "truth"),
    [
        ("assert f(1) == (2, 3)", [(2, 3)], True),
        ("assert f(1) == (2, 3)", [[2, 3]], False),
        ("assert f(1) == True", [1], True),
        ("assert f(1) is True", [1], False),
        ("assert f(1) is True", [True], True),
        ("assert None is f(1)", [None], True),
        ("assert f(1) is not None", [0], True),
        ("assert f(1)", [[0]], True),
        ("assert f(1)", [[]], False),
        ("assert not f(1)", [""], True),
        ("assert f(1) == f(2)", [3, 3], True),
        ("assert f(1) == f(2)", [3, 4], False),
        ("assert f(1) == {'a': [1, 2.0], (1,): None}", [{"a": [1, 2], (1,): None}], True),
        ("assert set(f(1)) == {1, 2}", [[2, 1, 2]], True),
        ("assert set(f(1)) == set([(1, 2)])", [[(1, 2)]], True),
        ("assert frozenset(f(1)) == frozenset()", [[]], True),
        ("assert sorted(f(1), reverse=True) == [2, 1]", [(1, 2)], True),
        ("assert dict(f(1)) == {'a': 1}", [[("a", 1)]], True),
        ("assert abs(f(1.33) - 0.33) < 1e-6", [0.3300001], True),
        ("assert abs(f(1.33) - 0.33) < 1e-6", [0.34], False),
        ("assert abs(f(1) - 2.0/3.0) < 1e-06", [2 / 3], True),
        ("assert int(f(1)) == 35", [35.0], True),
        ("assert round(f(1), 2) == 0.33", [1 / 3], True),
        ("assert round(f(1), -1) == 10", [12], True),
        ("assert math.isclose(f(1), 0.1, rel_tol=1e-3)", [0.10001], True),
        ("assert isclose(f(1), 0.1)", [0.11], False),
        ("assert f(1) == math.pi", [3.141592653589793], True),
        ("assert f(1) == math.inf", [float("inf")], True),
        ("assert f(1) == -10**9 - 7", [-1000000007], True),
        ("assert f(1) == 2**10 % 1000 // 3 + ~4", [3], True),
        ("assert str(f(1)) == '[1, 2]'", [[1, 2]], True),
        ("assert len(f(1)) == 3 and max(f(1)) > min(f(1))", ["abc", [1, 2], [1, 2]], True),
        ("assert f(1) == 1 or f(2) == 2", [0, 2], True),
        ("assert f(1) == 1 and f(2) == 2", [1, 3], False),
        ("assert 0 < f(1) <= 2 < 5", [2], True),
        ("assert 0 < f(1) <= 2 < 5", [3], False),
        ("assert f(1) in [1, 2]", [2], True),
        ("assert 'a' not in f(1)", ["bca"], False),
        ("assert f(1) != 3", [3], False),
        ("assert f(1) + [3] == [1, 3]", [[1]], True),
        ("assert f(1) + 'b' == 'ab'", ["a"], True),
        ("assert f(1) * 2 == 3", [1.5], True),
        ("assert sum(f(1)) == 3 and any(f(1)) and all(f(1))", [[1, 2], [0, 1], [1, 1]], True),
        ("assert f(1) == 1j", [1j], True),
        ("assert [f(1)] == [f(1)]", [NAN, float("nan")], False),
    ],
)
def test_what_is_decided_outside(text: str, values: list[object], truth: bool) -> None:
    assert holds(text, *values) is truth


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("assert f(1) < 2", "a"),
        ("assert len(f(1)) == 1", 1),
        ("assert 1 / f(1) == 1", 0),
        ("assert float(f(1)) > 1", 10**1000),
        ("assert int(f(1)) == 1", "one"),
        ("assert set(f(1)) == {1}", [[1]]),
        ("assert f(1) * 2 == 'aa'", "a"),
        ("assert f(1) % 2 == ''", "%999999999d"),
        ("assert 2 * f(1) == 1", [0] * 1000),
        ("assert f(1) * f(1) == 1", 1 << 5000),
        ("assert round(f(1)) == 1", 1 << 5000),
        ("assert str(f(1)) == ''", [1 << 100_000]),
        ("assert sum(f(1)) == 1", ["a"]),
        ("assert min(f(1)) == 1", []),
        ("assert -f(1) == 1", {}),
    ],
)
def test_values_of_the_wrong_kind_do_not_hold(text: str, value: object) -> None:
    assertion = split(text, "f")
    assert assertion is not None
    assert assertion.holds([value] * len(assertion.calls)) is False


def test_hostile_values_cost_no_time() -> None:
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    colliding = [n * (2**61 - 1) for n in range(200_000)]  # all of hash 0
    started = time.monotonic()
    assert not holds("assert f(1) == [[]]", deep)
    assert not holds("assert f(1) == f(2)", deep, [deep])
    assert not holds("assert set(f(1)) == {1}", colliding)
    assert not holds("assert dict(f(1)) == {1: 1}", [(n, 1) for n in colliding])
    assert not holds("assert f(1) // 3 == 7", 10**1_000_000)
    assert time.monotonic() - started < 2


@pytest.mark.parametrize("text", ["f(1) == 2", "assert f(1", "assert f(1) == 1; f(2)", "", "x = f(1)", "assert \0"])
def test_only_one_assert_statement(text: str) -> None:
    with pytest.raises(DataError, match="expected one assert statement, found"):
        split(text, "f")


def test_an_assertion_is_a_value() -> None:
    assert split("assert f(1) == 2", "f") == split("assert f(1) == 2", "f")
    assert split("assert f(1) == 2", "f") != split("assert f(1) == 3", "f")


@pytest.mark.parametrize(
    ("value", "right"),
    [
        ([0.5, 1e9 + 99.0], True),  # 1e-6 absolute and 1e-7 relative
        ([0.5, 1e9 + 101.1], False),
        ((0.5000009, 1e9), True),
        ([0.6, 1e9], False),
        ([0.5], False),
        (0.5, False),
        ("ab", False),
        (None, False),
        ([NAN, 1e9], False),
    ],
)
def test_allclose_compares_lists_of_numbers(value: object, right: bool) -> None:
    assert holds("assert allclose(f(1), [0.5, 1000000000.0], 1e-06)", value) is right


def test_allclose_of_what_is_no_number_is_equality() -> None:
    assert holds("assert allclose(f(1), math.inf, 1e-06)", float("inf"))
    assert holds("assert allclose(f(1), [[1.0], 'a'], 0.1)", [(1.05,), "a"])
    assert not holds("assert allclose(f(1), math.inf, 1e-06)", 1.0)
