"""Parts from outside the package: by module, by file, by entry point."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from archer import parts
from archer.errors import UserError
from archer.parts import find_part, given_parts, is_outside, part_digests

SHIPPED = {"math": 1, "code": 2}


def test_a_shipped_part_is_found_by_its_name() -> None:
    assert find_part("rewards", "math", SHIPPED) == 1
    assert (is_outside("math"), is_outside("json:loads"), is_outside("./mine.py:PART")) == (False, True, True)


def test_a_part_of_a_module_or_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.py").write_text("class Inner:\n    PART = 7\n")
    monkeypatch.chdir(tmp_path)
    assert find_part("rewards", "./mine.py:Inner.PART", SHIPPED) == 7
    assert find_part("rewards", f"{tmp_path}/mine.py:Inner", SHIPPED) is find_part("rewards", "mine.py:Inner", SHIPPED)
    assert find_part("metrics", "statistics:fmean", {})([1.0, 2.0]) == 1.5


def test_an_entry_point_of_a_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "brought.py").write_text("PART = 9\n")
    monkeypatch.syspath_prepend(tmp_path)
    entry = EntryPoint("theirs", "brought:PART", "archer.rewards")
    monkeypatch.setattr(parts, "entry_points", lambda group, name="theirs": [entry] if name == "theirs" else [])
    assert find_part("rewards", "theirs", SHIPPED) == 9
    assert list(part_digests([("rewards", "theirs"), ("rewards", "math")], {"rewards": SHIPPED})) == ["rewards: theirs"]


def test_the_digest_is_that_of_the_source(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("PART = 1\n")
    name = f"{tmp_path}/a.py:PART"
    assert part_digests([("rewards", name), ("rewards", "math")], {"rewards": SHIPPED}) == {
        f"rewards: {name}": "eb5c64c5682b5ce706100829fd265db3574bcf0272a98c0c58dc351cdcdeb2fc"
    }


def test_the_digest_is_of_what_was_imported_and_not_of_what_the_file_became(tmp_path: Path) -> None:
    path, name = tmp_path / "edited.py", f"{tmp_path}/edited.py:PART"
    path.write_text("PART = 1\n")
    before = part_digests([("rewards", name)], {})
    path.write_text("PART = 2\n")
    assert find_part("rewards", name, SHIPPED) == 1
    assert part_digests([("rewards", name)], {}) == before


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("maths", "rewards: no reward 'maths' \\(did you mean 'math'\\?\\); name one of your own as module:NAME"),
        ("nowhere.at_all:PART", "nowhere.at_all: no such module; install it, or name a file as ./nowhere/at_all.py"),
        ("./absent.py:PART", "absent.py: no such file"),
        ("./absent.py", "absent.py: say which part of the file, as in ./absent.py:NAME"),
        ("json:laods", "json:laods: no 'laods' there \\(did you mean 'loads'\\?\\)"),
    ],
)
def test_what_cannot_be_found_is_named(name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        find_part("rewards", name, SHIPPED)


def test_an_error_names_the_line(tmp_path: Path) -> None:
    (tmp_path / "odd.py").write_text("PART = 1\nPART = (\n")
    with pytest.raises(UserError, match=r"importing it raised SyntaxError: .* in .*odd.py, line 2"):
        find_part("rewards", f"{tmp_path}/odd.py:PART", SHIPPED)


def test_a_file_that_fails_is_named_and_read_again_once_mended(tmp_path: Path) -> None:
    path = tmp_path / "broken.py"
    path.write_text("1 / 0\n")
    with pytest.raises(UserError, match="broken.py: importing it raised ZeroDivisionError"):
        find_part("rewards", f"{path}:PART", SHIPPED)
    path.write_text("PART = 3\n")
    assert find_part("rewards", f"{path}:PART", SHIPPED) == 3
    assert [module.PART for name, module in sys.modules.items() if name.startswith("archer_part_broken")] == [3]


@dataclass(frozen=True)
class Doubling:
    """A part as an object."""

    by: float = 2.0
    of: Callable[[float], float] = abs

    def __call__(self, number: float) -> float:
        return self.by * self.of(number)


def halved(number: float) -> float:
    return number / 2


def digest_of(part: object) -> str:
    with given_parts({"metrics": {"mine": part}}):
        return part_digests([("metrics", "mine")], {})["metrics: mine"]


def test_an_object_is_found_while_it_is_given() -> None:
    with given_parts({"metrics": {"mine": Doubling(3.0)}}):
        assert find_part("metrics", "mine", {})(-4.0) == 12.0
        with (
            pytest.raises(UserError, match="metrics: 'mine': give it another name"),
            given_parts({"metrics": {"mine": 1}}),
        ):
            pass
        with pytest.raises(UserError, match="parts: metrics: 'mine' is the name of a shipped one"):
            find_part("metrics", "mine", {"mine": 1})
    with pytest.raises(UserError, match="metrics: no metric 'mine'"):
        find_part("metrics", "mine", {})
    with (
        pytest.raises(UserError, match="parts: no kind 'metric' \\(did you mean 'metrics'"),
        given_parts({"metric": {"a": 1}}),
    ):
        pass


def test_an_object_s_digest_is_that_of_its_source_and_values() -> None:
    parts = [Doubling(), Doubling(3.0), Doubling(of=halved), halved, partial(halved), partial(halved, 3.0)]
    assert len({digest_of(part) for part in parts}) == len(parts)
    assert digest_of(Doubling(2.0, of=halved)) == digest_of(Doubling(of=halved))


def test_an_object_without_source_is_refused() -> None:
    made: dict[str, object] = {"__name__": "typed_at_a_prompt"}
    exec("def nowhere(number):\n    return number\n", made)
    with pytest.raises(UserError, match="parts: metrics: mine: nowhere has no source to record; put it into a file"):
        digest_of(made["nowhere"])
