"""Checks are looked at when their gold is read: what would run a reply as code, and what can never work."""

from __future__ import annotations

import pytest

from archer.errors import DataError
from archer.rewards.checks import check_code
from archer.rewards.prelude import PRELUDE, granted


def looked_at(body: str, before: str = "") -> None:
    check_code(f"{before}\ndef check(candidate):\n    {body}\n", "f", PRELUDE)


@pytest.mark.parametrize(
    ("body", "name"),
    [
        ("assert eval(candidate(1)) == 24", "eval"),
        ("exec(candidate(1), {})", "exec"),
        ("assert list(map(eval, candidate(1))) == [24]", "eval"),
        ("run = eval\n    assert run(candidate(1)) == 24", "eval"),
        ("assert (lambda run=eval: run(f(1)))() == 24", "eval"),
        ("assert eval(compile(candidate(1), '', 'eval')) == 24", "eval"),
        ("code = compile(candidate(1), '', 'eval')", "compile"),
        ("__import__(candidate(1))", "__import__"),
        ("__builtins__['eval'](candidate(1))", "__builtins__"),
        ("globals()[candidate(1)](candidate(2))", "globals"),
        ("sys.modules['builtins'].eval(candidate(1))", "eval"),
        ("getattr(math, candidate(1))(4)", "getattr"),
        ("assert sorted([candidate(1)], key=getattr)", "getattr"),
        ("operator.attrgetter(candidate(1))(math)", "attrgetter"),
        ("methodcaller(candidate(1))(math)", "methodcaller"),
        ("import builtins\n    builtins.eval(candidate(1))", "builtins"),
        ("import pickle\n    assert pickle.loads(candidate(1)) == 24", "pickle"),
        ("from importlib import import_module as load\n    load(candidate(1))", "importlib"),
        ("import os, subprocess as s\n    s.run(candidate(1))", "subprocess"),
    ],
)
def test_a_check_that_would_run_a_reply_is_refused(body: str, name: str) -> None:
    with pytest.raises(DataError, match=f"check: it uses `{name}`: a reply would decide what runs; write it without"):
        looked_at(body)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("def check(candidate): assert candidate(1) == doubled(1)", "name 'doubled' is not defined"),
        (
            "def check(candidate):\n    if candidate(1) != 2: raise AssertionErorr",
            "name 'AssertionErorr' is not defined",
        ),
        ("def check(candidate):\n    def inner(): return limit\n    assert candidate(inner())", "name 'limit' is not"),
        ("class A:\n    most = 3\n    def m(self): return most\ndef check(c): assert c(A().m())", "name 'most' is not"),
        ("def checks(candidate): pass", "it defines no function `check`"),
        ("def check(candidate", "SyntaxError"),
        ("def check(candidate): return '\0'", "null bytes"),
        ("check = " + "(" * 3000, "SyntaxError|MemoryError"),
    ],
)
def test_a_check_that_can_never_work_is_refused(code: str, message: str) -> None:
    with pytest.raises(DataError, match=f"check: .*({message}).*; mend the data set's code"):
        check_code(code, "f", PRELUDE)


@pytest.mark.parametrize(
    "body",
    [
        "assert f(1) == candidate(1) == math.factorial(4)",
        "assert ast.literal_eval(candidate(1)) == 24",
        "assert re.compile('a').match(candidate(1))",
        "assert getattr(candidate(1), 'real', 0) == 24 and attrgetter('real')(candidate(1)) == 24",
        "global seen\n    seen = [candidate(n) for n in range(3)]\n    assert all(n in seen for n in seen)",
        "for n in range(3):\n        total = candidate(n)\n    assert total == 2",
        "import numpy as np\n    assert np.allclose(candidate(1), [1.0])",
        "try:\n        candidate(1)\n    except ValueError as error:\n        assert str(error)",
        "eval = candidate\n    assert eval(1) == 24",
        "print(__name__, helper(candidate(1)), Node(candidate(2)).value)",
    ],
)
def test_honest_checks_are_let_through(body: str) -> None:
    helpers = "import ast\ndef helper(x): return x\nclass Node:\n    def __init__(self, value): self.value = value"
    looked_at(body, helpers)


def test_a_function_of_such_a_name_is_the_program_s() -> None:
    check_code("def check(candidate):\n    assert eval('1 + 1') == 2", "eval", PRELUDE)


def test_names_of_a_prelude() -> None:
    assert {"math", "sqrt", "List", "Counter", "eval"} <= granted(PRELUDE)
    assert granted("from os import path as p\nx: int = 3\ndef g(y): z = 1\n") == {"p", "x", "g"}
    check_code("def check(candidate): assert candidate(limit) == 1", "f", "limit = 3")
    check_code("from os.path import *\ndef check(candidate): assert join(candidate(1)) == 1", "f", PRELUDE)
    check_code("def check(candidate): assert candidate(limit) == 1", "f", "from no_such_module import *")
