"""``report.html``: the tables and the learning curves of a comparison, in one file that needs no network."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import jinja2
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from archer.errors import DataError, RunFolderError
from archer.evaluation.named_metrics import with_k
from archer.leaderboards.legends import legend, show, show_difference
from archer.leaderboards.ranking import BASE, Standings
from archer.leaderboards.report.curves import CurveChart, charts, read_runs
from archer.leaderboards.tables import DETAIL_NOTE, detail_table, show_p
from archer.runs.folder import read_manifest
from archer.runs.results import read_result
from archer.system import write_aside
from archer.types import Json

CONFIG = {"displayModeBar": False, "responsive": True, "showEditInChartStudio": False}


def write_report(out: Path, standings: Standings) -> Path:
    """Write ``out/report.html`` and return its path.

    Raises RunFolderError if the folder has no manifest or cannot be written, DataError for damaged results.
    """
    manifest = read_manifest(out)
    if manifest is None:
        raise RunFolderError(f"{out}: no manifest.json; run `archer compare --out {out}` first")
    drawn = charts(
        read_runs(out, standings, "metrics.jsonl"),
        read_runs(out, standings, "timings.jsonl"),
        starts(out, manifest, standings),
    )
    html = page(manifest, standings, drawn)
    try:
        write_aside(out / "report.html", html)
    except OSError as error:
        raise RunFolderError(f"{out}: report.html could not be written: {error.strerror}") from error
    return out / "report.html"


def page(manifest: Mapping[str, Json], standings: Standings, drawn: list[CurveChart]) -> str:
    """Return the page. The template or JSON escapes everything that comes from data."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("archer.leaderboards.report"), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.globals |= {"show": show, "show_difference": show_difference, "show_p": show_p, "with_k": with_k}
    header, rows = detail_table(standings)
    return environment.get_template("report.html.j2").render(
        name=recipe_of(manifest).get("name", "comparison"),
        facts=facts(manifest, standings),
        recipe=json.dumps(recipe_of(manifest), indent=2, ensure_ascii=False),
        standings=standings, legend=legend(standings),
        detail_header=header, detail_rows=rows, detail_note=DETAIL_NOTE,
        charts=drawn, figures=Markup(in_script([chart_json(chart) for chart in drawn])),
        config=Markup(in_script(CONFIG)), plotly=Markup(get_plotlyjs()),
    )  # fmt: skip


def chart_json(chart: CurveChart) -> Json:
    """Return a figure as plain data; None if there is none."""
    return json.loads(chart.figure.to_json()) if chart.figure is not None else None


def in_script(value: Json) -> str:
    """Return JSON escaped so that it cannot end the script element around it."""
    text = json.dumps(value)
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def facts(manifest: Mapping[str, Json], standings: Standings) -> list[tuple[str, str]]:
    """Return the terms and values at the top of the page: what was compared, with which versions and where."""
    recipe, machine = recipe_of(manifest), dict(manifest.get("machine") or {})
    versions = {"archer": manifest.get("archer"), "python": manifest.get("python")}
    versions |= dict(manifest.get("versions") or {})
    seeds = ", ".join(str(seed) for seed in standings.seeds)
    hardware = [machine.get("processor"), f"{machine['cores']} cores" if "cores" in machine else None]
    values = {
        "Recipe": f"{recipe.get('name', '?')} ({manifest.get('recipe_digest', 'no digest')}), "
        f"{recipe.get('steps', '?')} steps",
        "Algorithms": ", ".join(row for row in standings.rows if row != BASE),
        "Training seeds": seeds,
        "Commit": str(manifest.get("commit") or "not a checkout"),
        "Versions": ", ".join(f"{name} {number}" for name, number in versions.items() if number),
        "Machine": ", ".join(str(part) for part in (*hardware, machine.get("system")) if part) or "not recorded",
    }
    return list(values.items())


def recipe_of(manifest: Mapping[str, Json]) -> dict[str, Json]:
    """Return the recipe in a manifest, empty if it has none."""
    return dict(manifest.get("recipe") or {})


def starts(out: Path, manifest: Mapping[str, Json], standings: Standings) -> dict[str, float]:
    """Return the base model's avg by benchmark on the first problems, those that the curves are drawn on."""
    if BASE not in standings.rows:
        return {}
    problems = recipe_of(manifest).get("evaluate", {}).get("curve_problems")
    averages = {}
    for entry in standings.benchmarks:
        scores = read_result(out / BASE / "results" / f"{entry.name}.json").scores[:problems]
        if not scores:
            raise DataError(f"{out}/manifest.json: recipe: evaluate: curve_problems is {problems}, not 1 or more")
        averages[entry.name] = sum(map(sum, scores)) / (len(scores) * entry.samples)
    return averages
