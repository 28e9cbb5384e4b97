"""The page and the table of everything measured, made from the records in leaderboards/perf/.

    python perf/page.py          # writes leaderboards/perf/index.html and README.md

The newest record of each kind is shown, older ones are listed. Figures need a network (plotly's script); tables none.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
from charts import charts, same
from claims import Claim, Record, base, claims, read_records
from common import RECORDS, Spread, spread, table
from markupsafe import Markup
from plotly.io import to_html
from work import by_contender, mean, seconds, speed

HERE = Path(__file__).resolve().parent
LIMIT = 40  # rows of a plain table
ABOUT = {
    "trl": "Seconds of a whole RL step. trl-default is told the work and nothing else (it trains with gradient "
    "checkpointing and bf16 autocast); trl-tuned is told what somebody who knows TRL sets. TRL samples until its "
    "longest response ends and pads to it, so natural lengths cost it as much as fixed ones.",
    "cold": "Seconds of fresh processes: to import, and from nothing to the end of the first optimizer step.",
    "growth": "How archer's cost grows with the work: an exponent of 1 is linear, 0 flat.",
    "heads": "The output head's forward and backward pass: seconds, and memory beside the weights' gradient.",
    "decode": "Tokens sampled a second beside Hugging Face's generate.",
    "gpu-step": "Whole steps of random Qwen2-shaped models, TRL with Hugging Face's generate.",
    "longest": "The longest response that one update fits in memory with.",
}
HEAD = ("", "measured, median (range)", "target", "")
Rows = tuple[Sequence[str], list[list[str]]]


def main() -> None:
    """Write both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=RECORDS)
    folder = parser.parse_args().folder
    records = read_records(folder)
    (folder / "index.html").write_text(html(records))
    (folder / "README.md").write_text(markdown(records))
    print(f"{folder}/index.html, {folder}/README.md: {sum(map(len, records.values()))} records")


def html(records: Mapping[str, Sequence[tuple[Path, Record]]]) -> str:
    """Return the page: a section a kind, its newest record's claims, figures, numbers and origin."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    sections = [section(kind, ones) for kind, ones in sorted(records.items(), key=lambda one: not targeted(one))]
    drawn = 0
    for one in sections:
        one["figures"] = []
        for chart in one["charts"]:
            plotly = False if drawn else "cdn"  # the first figure brings its script
            figure = to_html(chart.figure, include_plotlyjs=plotly, full_html=False, div_id=f"figure-{drawn}")
            one["figures"].append((chart, Markup(figure)))
            drawn += 1
    return environment.get_template("page.html.j2").render(sections=sections, head=HEAD)


def targeted(one: tuple[str, Sequence[tuple[Path, Record]]]) -> bool:
    """Say whether a kind has targets: those come first."""
    return bool(claims(one[0], one[1][0][1]))


def section(kind: str, ones: Sequence[tuple[Path, Record]]) -> dict[str, Any]:
    """Return what the page shows of a kind."""
    (path, record), *older = ones
    found = claims(kind, record)
    return {
        "title": kind, "about": ABOUT.get(base(kind), ""), "claims": [cells(one) for one in found],
        "charts": charts(kind, record, found), "tables": numbers(kind, record), "facts": facts(path, record),
        "older": [(one.name, record["date"][:10]) for one, record in older],
        "told": {name: rows[0]["told"] for name, rows in by_contender(record["measurements"]).items()}
        if base(kind) == "trl" else {},
    }  # fmt: skip


def cells(one: Claim) -> list[str]:
    """Return a claim as a table's row."""
    return [one.what, show(one.measured), one.aim, "met" if one.met else "missed"]


def show(values: Spread) -> str:
    """Return a median with its range."""
    return f"{values.median:.2f} ({values.low:.2f}..{values.high:.2f})"


def facts(path: Path, record: Record) -> list[tuple[str, str]]:
    """Return when, where and of what a record is."""
    origin = record["provenance"]
    machine, versions = origin["machine"], {**origin["versions"], **origin.get("peers", {}), **record.get("peers", {})}
    place = [machine.get("gpu"), machine["processor"], f"{machine['cores']} cores"]
    found = {
        "Record": path.name, "Date": record["date"][:16].replace("T", " "), "Commit": str(origin["commit"]),
        "Machine": ", ".join(part for part in place if part),
        "Versions": ", ".join(f"{name} {number}" for name, number in versions.items()),
    }  # fmt: skip
    if isinstance(record.get("peer"), str):
        found["Peer"] = record["peer"]
    return list(found.items())


def numbers(kind: str, record: Record) -> list[Rows]:
    """Return a record's numbers: of whole steps, of rates by work, or plain rows as they are."""
    if base(kind) == "trl":
        return [step_numbers(record)]
    if base(kind) == "growth":
        return [plain(found["rows"]) for found in record["series"].values()]
    if base(kind) == "heads":
        return [plain(head_rows(record))]
    if base(kind) == "decode":
        return [plain(decode_rows(record))]
    rows = next((record[name] for name in ("rows", "measurements", "kills") if name in record), [])
    if rows and "per_second" in rows[0] and "who" in rows[0]:
        return [rates(rows)]
    if base(kind) == "cold":
        names = dict.fromkeys(row["contender"] for row in rows)
        taken = [[name, *(show(spread([row[what] for row in rows if row["contender"] == name])) for what in
                          ("seconds", "cpu"))] for name in names]  # fmt: skip
        return [(("median (range)", "seconds", "CPU seconds"), taken)]
    return [plain(rows)] if rows else []


def step_numbers(record: Record) -> Rows:
    """Return seconds a step and what comes of them, by contender."""
    head = ("", "s a step", "tokens/s", "mean length", "peak MiB", "load before")
    rows = []
    for name, ones in by_contender(record["measurements"]).items():
        columns = ([seconds(one) for one in ones], [speed(one) for one in ones], [mean(one, "length") for one in ones],
                   [one["rss_mib"] for one in ones], [one["load"] for one in ones])  # fmt: skip
        rows.append([name, *(show(spread(column)) for column in columns)])
    return head, rows


def rates(rows: Sequence[Record]) -> Rows:
    """Return rates a second by work and judge."""
    names = dict.fromkeys((row["work"], row["who"]) for row in rows)
    return ("work", "", "a second, median (range)"), [
        [work, who, show(spread([row["per_second"] for row in rows if (row["work"], row["who"]) == (work, who)]))]
        for work, who in names
    ]


def head_rows(record: Record) -> list[dict[str, Any]]:
    """Return seconds and memory of every shape and head."""
    return [
        {"N": shape["tokens"], "H": shape["hidden"], "head": name,
         "seconds": show(spread([run[name]["seconds"] for run in shape["runs"]])),
         "extra MiB": f"{(shape['extra bytes'].get(name) or 0) / 2**20:,.0f}"}
        for shape in record["shapes"] for name in shape["runs"][0]
    ]  # fmt: skip


def decode_rows(record: Record) -> list[dict[str, Any]]:
    """Return tokens a second of every model, batch and contender."""
    return [
        {"model": line["work"]["model"], "batch": line["work"]["batch"], "contender": name,
         "tokens/s": show(spread([line["work"]["batch"] * line["work"]["new"] / one for one in taken]))}
        for line in record["lines"] for name, taken in line["seconds"].items() if taken
    ]  # fmt: skip


def plain(rows: Sequence[Mapping[str, Any]]) -> Rows:
    """Return rows as they are, of their flat columns and the numbers of nested ones; the first ones of many."""
    flat = [dict(flattened(row)) for row in rows[:LIMIT]]
    head = list(dict.fromkeys(key for row in flat for key in row))
    return head, [[row.get(key, "") for key in head] for row in flat]


def flattened(row: Mapping[str, Any], before: str = "") -> Iterable[tuple[str, str]]:
    """Yield the columns of a row; lists and settings are left to the record."""
    for key, value in row.items():
        if isinstance(value, dict) and key not in ("config", "work"):
            yield from flattened(value, f"{before}{key}: ")
        elif isinstance(value, float):
            yield f"{before}{key}", f"{value:.4g}"
        elif isinstance(value, (str, int)):
            yield f"{before}{key}", str(value)


def markdown(records: Mapping[str, Sequence[tuple[Path, Record]]]) -> str:
    """Return target and measured of every claim, and where learning was compared."""
    parts = [
        "# Measured beside our peers",
        "Made by `python perf/page.py` from the newest record of each kind here; `index.html` plots them, "
        "`perf/README.md` says how each was measured. Nobody types a number.",
    ]
    met = missed = 0
    for kind, ones in records.items():
        path, record = ones[0]
        found = claims(kind, record)
        if not found:
            continue
        met, missed = met + sum(one.met for one in found), missed + sum(not one.met for one in found)
        shown = [f"{name}: {fact}" for name, fact in facts(path, record) if name not in ("Record", "Versions")]
        parts += [f"## {kind}", table(HEAD, [cells(one) for one in found]), *equality(kind, record),
                  f"[{path.name}]({path.name}) | {' | '.join(shown)}"]  # fmt: skip
    parts.insert(2, f"Of {met + missed} targets {met} are met and {missed} missed.")
    rest = [f"[{ones[0][0].name}]({ones[0][0].name})" for kind, ones in records.items() if not targeted((kind, ones))]
    return "\n\n".join([*parts, "## Without targets", ", ".join(rest) + "."]) + "\n"


def equality(kind: str, record: Record) -> list[str]:
    """Return what the learning curves of a comparison of steps show."""
    if base(kind) != "trl":
        return []
    return [same(by_contender(record["measurements"]))]


if __name__ == "__main__":
    main()
