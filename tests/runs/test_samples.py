"""Stored samples: what is there is not drawn again, a cut tail is forgotten, damage is named."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from archer.engines.base import sample_seed
from archer.errors import DataError, EngineError, RunFolderError
from archer.runs.samples import SampleStore, StoredSample, sample_key, seconds
from archer.types import Problem, Rollout, Sampling

PROBLEM = Problem("p/1", "p", "1+1=", "math", "2")
ANSWER = Rollout.of_text(PROBLEM, "two: \\boxed{2}\n\u2028\U0001d54f", seed=17, counted=5)
MADE = {"commit": "abc"}


def filled(path: Path, count: int) -> list[StoredSample]:
    with SampleStore(path, MADE) as store:
        return [store.put(f"key{index}", replace(ANSWER, sample=index)) for index in range(count)]


def test_what_is_put_is_recalled_by_the_next_process(tmp_path: Path) -> None:
    put = filled(tmp_path / "a.jsonl", 3)
    with SampleStore(tmp_path / "a.jsonl", MADE) as store:
        assert store.get({"key0", "key2", "other"}) == {"key0": put[0], "key2": put[2]}
    assert put[0].text == ANSWER.text  # whatever characters a server may send
    assert (put[0].problem, put[0].seed, put[0].tokens, put[0].stop, put[0].session) == ("p/1", 17, 5, "end", 1)


@pytest.mark.parametrize("cut", [1, 40, 10_000])
def test_a_last_line_cut_short_is_forgotten(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "a.jsonl"
    filled(path, 3)
    whole = path.read_bytes().split(b"\n")
    long = json.dumps({**json.loads(whole[3]), "text": "x" * 100_000}).encode()
    path.write_bytes(b"\n".join([*whole[:3], long[: len(long) - cut]]))
    with SampleStore(path, MADE) as store:
        assert sorted(store.get({"key0", "key1", "key2"})) == ["key0", "key1"]
        again = store.put("key2", ANSWER)
        assert store.get({"key2"}) == {"key2": again}
    assert all(json.loads(line) for line in path.read_text().splitlines())


def test_a_file_of_nothing_but_a_cut_line_is_empty(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"drawn_by": {"com')
    with SampleStore(path, MADE) as store:
        assert store.get({"key0"}) == {}
    assert path.read_bytes() == b""


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("{", "1 validation error for StoredSample *Invalid JSON: EOF"),
        ('{"drawn_by": ', "Expecting value"),
        ('{"key": "k"}', "7 validation errors for StoredSample"),
        ('{"key": "k", "problem": "p", "sample": "0", "seed": 1, "text": "", "tokens": 1, "stop": "end", "at": 1.0}', "1 validation error for StoredSample sample"),
        ("7", "1 validation error for StoredSample"),
    ],
)  # fmt: skip
def test_a_damaged_line_is_named(tmp_path: Path, line: str, why: str) -> None:
    path = tmp_path / "a.jsonl"
    filled(path, 2)
    first, *rest = path.read_text().splitlines()
    path.write_text("\n".join([first, line, *rest]) + "\n")
    with SampleStore(path, MADE) as store, pytest.raises(DataError, match=rf"a\.jsonl: line 2: not a sample: .*{why}"):
        store.get({"key0"})


@pytest.mark.parametrize(
    "text", ['{"id": 60, "answer": "204"}\n{"id": 61, "answer": "1', "no newline", '{"key": "k"}\n']
)
def test_a_file_of_the_user_s_is_refused_and_left_as_it_is(tmp_path: Path, text: str) -> None:
    path = tmp_path / "aime24.jsonl"  # the name that a benchmark's own rows have too
    path.write_text(text)
    with pytest.raises(RunFolderError, match=r"aime24\.jsonl: not a store of samples, and left as it is: .*--store"):
        SampleStore(path, MADE)
    assert path.read_text() == text


@pytest.mark.parametrize("tokens", [[7], True, "7", 7.5])
def test_what_could_not_be_read_again_is_not_kept(tmp_path: Path, tokens: object) -> None:
    path = tmp_path / "a.jsonl"
    with SampleStore(path, MADE) as store:
        with pytest.raises(EngineError, match="problem p/1, sample 0: not an answer: .*tokens"):
            store.put("key0", replace(ANSWER, counted=tokens))
        kept = store.put("key1", ANSWER)
        assert store.get({"key0", "key1"}) == {"key1": kept}


def test_two_writers_of_one_store_are_refused(tmp_path: Path) -> None:
    with (
        SampleStore(tmp_path / "a.jsonl", MADE),
        pytest.raises(RunFolderError, match="another process adds samples to it"),
    ):
        SampleStore(tmp_path / "a.jsonl", MADE)
    filled(tmp_path / "a.jsonl", 1)


def test_where_nothing_can_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunFolderError, match="cannot be written: .*choose another --store"):
        SampleStore(tmp_path / "file" / "a.jsonl", MADE)


def test_seconds_are_those_of_every_session() -> None:
    kept = [StoredSample("k", "p", 0, 0, "", 1, "end", at, session) for at, session in ((2.0, 1), (5.0, 1), (3.0, 3))]
    assert seconds(kept) == 8.0


def test_other_origins_are_told_and_the_present_one_is_not(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    old = filled(path, 1)
    with SampleStore(path, {"commit": "new"}) as store:
        store.get(())
        new = store.put("key9", ANSWER)
        assert new.session == 2
        assert store.origins([new]) == []
        assert store.origins([new, *old]) == [MADE]


def test_a_key_changes_with_all_that_is_drawn_from() -> None:
    whole = ("w", {"name": "native"}, [1, 2], Sampling(), 5, 0)
    others = [
        ("v", *whole[1:]),
        (whole[0], {"name": "openai"}, *whole[2:]),
        (*whole[:2], [1, 3], *whole[3:]),
        (*whole[:3], Sampling(max_tokens=9), *whole[4:]),
        (*whole[:4], 6, 0),
        (*whole[:5], 1),
    ]
    assert len({sample_key(*parts) for parts in [whole, *others]}) == 7
    assert sample_key(*whole) == sample_key(*whole)


def test_eight_samples_have_eight_seeds_and_always_the_same() -> None:
    seeds = [sample_seed(3, "aime24/60", sample) for sample in range(8)]
    assert seeds[:2] == [1438300618488285, 3022135513272295]
    assert len(set(seeds)) == 8
    assert all(0 <= seed < 2**53 for seed in seeds)
    assert len({sample_seed(0, f"p/{problem}", sample) for problem in range(500) for sample in range(64)}) == 32_000
