"""What the records show beside what was aimed at: one claim a line, computed from the measurements, never typed."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from common import RECORDS, Spread, spread
from work import by_contender, seconds

from archer.evaluation.statistics import Difference, paired_difference

Record = Mapping[str, Any]
MOMENT = re.compile(r"-(\d{8}T\d{4,6})$")
STEP_TARGETS = {  # least ratio of seconds a step, TRL over archer
    ("natural", "trl-tuned"): 2.5, ("natural", "trl-default"): 3.5,
    ("fixed", "trl-tuned"): 1.5, ("fixed", "trl-default"): 2.0,
}  # fmt: skip
GPU_STEP, LONGEST, COLD, HEAD_SECONDS, HEAD_MEMORY = 4.0, 2.0, 0.5, 1.0, 0.25
DECODE = {"cpu": 2.0, "cuda": 5.0}
LINEAR, FLAT = 1.0, 0.1  # exponents
MATMUL = 0.7


@dataclass(frozen=True)
class Claim:
    """One comparison: ``measured`` beside its ``target``, which it must reach, or with ``at_most`` not exceed."""

    kind: str
    what: str
    measured: Spread
    target: float
    at_most: bool = False

    @property
    def met(self) -> bool:
        """Whether the median is on the right side."""
        return self.measured.median <= self.target if self.at_most else self.measured.median >= self.target

    @property
    def aim(self) -> str:
        """The target in words."""
        return f"{'<=' if self.at_most else '>='} {self.target:g}"


def read_records(folder: Path = RECORDS) -> dict[str, list[tuple[Path, Record]]]:
    """Return the records by kind and variant of it (a device, a part of the work), the newest of each first."""
    found: dict[str, list[tuple[Path, Record]]] = {}
    for path in folder.glob("*.json"):
        kind, record = MOMENT.sub("", path.stem), json.loads(path.read_text())
        found.setdefault(f"{kind} {variant(kind, record)}".strip(), []).append((path, record))
    return {kind: sorted(found[kind], key=lambda one: one[1]["date"], reverse=True) for kind in sorted(found)}


def variant(kind: str, record: Record) -> str:
    """Return what tells records of one kind apart whose numbers stand side by side."""
    if kind == "heads":
        return f"{record['options']['device']} {record['shapes'][0]['dtype'].removeprefix('torch.')}"
    if kind == "decode":
        return str(record["lines"][0]["work"]["device"])
    if kind == "growth":
        return ", ".join(record["series"])
    return ", ".join(record["models"]) if kind in ("gpu-step", "longest") else ""


def base(kind: str) -> str:
    """Return the family of a kind: ``trl`` of ``trl-grpo-32x16``."""
    found = [family for family in READERS if re.match(rf"{family}([ -]|$)", kind)]
    return found[0] if found else re.split("[ -]", kind)[0]


def claims(kind: str, record: Record) -> list[Claim]:
    """Return what a record of ``kind`` claims, none for kinds without targets."""
    reader = READERS.get(base(kind))
    return list(reader(kind, record)) if reader else []


def step_claims(kind: str, record: Record) -> Iterator[Claim]:
    """Seconds a step, TRL over archer, round by round."""
    rounds, work = by_contender(record["measurements"]), record["work"]
    lengths = work.get("lengths", "natural")
    for name, ones in rounds.items():
        if name != "archer" and "archer" in rounds:
            ratios = [seconds(peer) / seconds(ours) for peer, ours in zip(ones, rounds["archer"], strict=True)]
            shape = f"{work['prompts']} x {work['group']}"
            what = f"RL step, {work['algorithm']}, {shape}, {lengths} lengths: {name} / archer"
            yield Claim(kind, what, spread(ratios), STEP_TARGETS[lengths, name])


def learning_gap(ours: Sequence[Record], theirs: Sequence[Record]) -> Difference:
    """Return archer's mean reward less the peer's, paired by round (its seed) and step (its problems)."""
    left, right = (np.array([one["rewards"] for one in ones]) for ones in (ours, theirs))
    return paired_difference([left], [right])


def cold_claims(kind: str, record: Record) -> Iterator[Claim]:
    """Seconds from nothing, archer over TRL, round by round."""
    by = {(row["contender"], row["round"]): row["seconds"] for row in record["rows"]}
    names = {"archer": "first optimizer step, archer"}
    for ours, theirs in record["against"].items():
        shares = [by[ours, number] / by[theirs, number] for name, number in by if name == ours]
        yield Claim(kind, f"{names.get(ours, ours)} / {theirs}", spread(shares), COLD, at_most=True)


def growth_claims(kind: str, record: Record) -> Iterator[Claim]:
    """Exponents of seconds over size; the interval is that of the fit."""
    for series, found in record["series"].items():
        for line, (exponent, low, high) in found["exponents"].items():
            if "once a response" not in line:
                flat = series == "group"
                what = f"exponent of {line}, over {found['axis']}"
                yield Claim(kind, what, Spread(exponent, low, high), FLAT if flat else LINEAR, at_most=True)


def head_claims(kind: str, record: Record) -> Iterator[Claim]:
    """Seconds over archer's, and archer's extra memory over eager's, of each shape; on a GPU the fused peers too."""
    gpu = record["options"]["device"] == "cuda"
    for shape in record["shapes"]:
        where = f"head, N {shape['tokens']:,}, H {shape['hidden']:,}, V {shape['vocabulary']:,}, {shape['dtype'][6:]}"
        runs, extra = shape["runs"], shape["extra bytes"]
        for name in ("eager", "trl", "verl-triton") if gpu else ("eager",):
            if name in runs[0] and extra.get(name):
                ratios = [run[name]["seconds"] / run["archer"]["seconds"] for run in runs]
                yield Claim(kind, f"{where}: seconds, {name} / archer", spread(ratios), HEAD_SECONDS)
                share = extra["archer"] / extra[name]
                most = HEAD_MEMORY if name == "eager" else 1.0
                yield Claim(kind, f"{where}: extra memory, archer / {name}", spread([share]), most, at_most=True)
        if gpu:
            work = 6 * shape["tokens"] * shape["hidden"] * shape["vocabulary"]
            rates = [work / run["archer"]["seconds"] / shape["matmul rate"] for run in runs]
            yield Claim(kind, f"{where}: share of the matmul rate", spread(rates), MATMUL)


def decode_claims(kind: str, record: Record) -> Iterator[Claim]:
    """Seconds of Hugging Face's generate over archer's, round by round."""
    for line in record["lines"]:
        work, taken = line["work"], line["seconds"]
        if work["device"] == "cpu" and work["batch"] != 256:
            continue  # the target names this batch
        for name in (one for one in taken if one.startswith("hf-") and taken[one]):
            ratios = [theirs / ours for theirs, ours in zip(taken[name], taken["archer"], strict=True)]
            what = f"decode, {work['model']}, batch {work['batch']}: {name} / archer"
            yield Claim(kind, what, spread(ratios), DECODE[work["device"]])


def gpu_claims(kind: str, record: Record) -> Iterator[Claim]:
    """Seconds a step, TRL over archer, for each model and length."""
    by = {(row["model"], row["tokens"], row["contender"], row["round"]): row["seconds"] for row in record["rows"]
          if "seconds" in row}  # fmt: skip
    for model, tokens, name in dict.fromkeys(key[:3] for key in by):
        pairs = [(by[key], by.get((model, tokens, "archer", key[3]))) for key in by if key[:3] == (model, tokens, name)]
        ratios = [theirs / ours for theirs, ours in pairs if ours]
        if name != "archer" and ratios:
            yield Claim(kind, f"RL step, {model}, {tokens} tokens: {name} / archer", spread(ratios), GPU_STEP)


def longest_claims(kind: str, record: Record) -> Iterator[Claim]:
    """Tokens of the longest response, archer over TRL."""
    found = {(row["model"], row["contender"]): row["longest"] for row in record["rows"]}
    for (model, name), tokens in found.items():
        if name != "archer" and tokens and (model, "archer") in found:
            ratio = found[model, "archer"] / tokens
            yield Claim(kind, f"longest response, {model}: archer / {name}", spread([ratio]), LONGEST)


READERS = {
    "trl": step_claims, "cold": cold_claims, "growth": growth_claims, "heads": head_claims, "decode": decode_claims,
    "gpu-step": gpu_claims, "longest": longest_claims,
}  # fmt: skip
