"""The page: what it says, that it fetches nothing, that data injects no markup, that a browser draws it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest
from helpers.comparisons import write_comparison

from archer.leaderboards.report import write_report
from archer.leaderboards.standings import read_standings

BROWSER = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), ""
)
QUIET = ("--disable-background-networking", "--disable-component-update", "--disable-sync")  # fetch nothing
ADDRESS = {"src", "href", "srcset", "data", "poster", "action"}


class Page(HTMLParser):
    """Collects tags with attributes, scripts, and the text outside scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text: list[str] = []
        self.scripts: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            self.scripts.append(data)
        elif not self.open or self.open[-1] != "style":
            self.text.append(data)


def make(out: Path, steps: int = 3, seeds: int = 2) -> Page:
    path = write_report(write_comparison(out, steps, seeds), read_standings(out))
    assert path == out / "report.html"
    return Page(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Page:
    return make(tmp_path_factory.mktemp("report"))


def words(page: Page) -> str:
    return re.sub(r"\s+", " ", " ".join(page.text))


def test_facts_tables_and_words_are_there(page: Page) -> None:
    text = words(page)
    assert "Comparison: fake <lab>" in text
    assert "abc123def456" in text
    assert "A <processor>, 2 cores" in text
    assert "Training seeds 0, 1" in text
    assert "torch 2.9.0" in text
    assert "lab-sums avg@4" in text
    assert "0.97 [" in text
    assert "cannot be told apart" in text
    assert ("strong", {}) in page.tags


def test_every_quantity_has_its_figure(page: Page) -> None:
    text = words(page)
    for title in (
        "Reward", "Reward, lab-code", "Reward, lab-sums", "Held-out avg@K, lab-sums",
        "Held-out avg@K, lab-code", "Entropy", "Clip fraction, reasoning tokens",
        "Clip fraction, knowledge tokens",
        "KL to the reference, reasoning tokens", "KL to the reference, knowledge tokens", "Response length",
        "Groups with signal", "Seconds per step",
    ):  # fmt: skip
        assert title in text
    assert sum(attributes.get("class") == "plot" for _, attributes in page.tags) == 13


def test_the_page_fetches_nothing(page: Page) -> None:
    addresses = [(tag, key) for tag, attributes in page.tags for key in attributes if key in ADDRESS]
    assert addresses == []
    assert not any(tag in ("link", "img", "iframe", "object", "embed", "base") for tag, _ in page.tags)
    policies = [tag["content"] for _, tag in page.tags if "Content-Security-Policy" in tag.values()]
    assert len(policies) == 1
    assert str(policies[0]).startswith("default-src 'none';")
    assert "http" not in str(policies[0])
    assert sum("plotly.js v" in script for script in page.scripts) == 1


def figures(page: Page) -> dict[str, list[dict[str, object]]]:
    """Return the traces of each figure by title, from the page's script."""
    script = next(script for script in page.scripts if "const figures =" in script)
    found = json.loads(script.split("const figures = ", 1)[1].split(";\n", 1)[0])
    titles = [text for text, tag in titled(page) if tag == "figure"]
    return {title: one["data"] if one else [] for title, one in zip(titles, found, strict=True)}


def titled(page: Page) -> list[tuple[str, str]]:
    """Return the titles of the figures in order."""
    text = "".join(page.text)
    inside = text[text.index("Learning curves") :]
    titles = [line.strip() for line in inside.splitlines() if line.strip()]
    known = (
        "Reward",
        "Held-out",
        "Entropy",
        "Clip fraction",
        "KL to",
        "Response length",
        "Groups with",
        "Seconds per",
    )
    return [(title, "figure") for title in titles if title.startswith(known)]


def test_curves_by_hand(page: Page) -> None:
    drawn = figures(page)
    bold = {str(trace["name"]): trace for trace in drawn["Reward"] if trace.get("showlegend") is not False}
    assert list(bold) == ["grpo", "dapo", "archer"]
    assert bold["grpo"]["x"] == [1, 2, 3]
    assert bold["grpo"]["y"] == pytest.approx([0.205, 0.305, 0.405])  # the mean of seeds 0.01 apart
    assert len(drawn["Reward"]) == 3 * (1 + 2)
    held_out = next(trace for trace in drawn["Held-out avg@K, lab-sums"] if trace["name"] == "archer")
    assert held_out["x"] == [0, 2]
    assert held_out["y"] == pytest.approx([1 / 8, 0.4])  # base: 0 and 1 right of 4 on the curve's two problems
    seconds = {str(trace["name"]): trace["x"] for trace in drawn["Seconds per step"]}
    assert seconds["generate"] == [2.0, 2.0, 2.0]
    assert "reference" not in seconds


def test_what_is_not_recorded_is_said(page: Page, tmp_path: Path) -> None:
    assert "No line for grpo, dapo: none held to a reference." in words(page)
    write_comparison(tmp_path)
    for place in tmp_path.glob("*/seed-*/*.jsonl"):
        place.unlink()
    write_report(tmp_path, read_standings(tmp_path))
    text = words(Page((tmp_path / "report.html").read_text()))
    assert "No run recorded it." in text
    assert "No run recorded its timings." in text


@pytest.mark.parametrize(("steps", "seeds"), [(1, 1), (2, 1), (2, 2)])
def test_the_shortest_runs_have_a_page(tmp_path: Path, steps: int, seeds: int) -> None:
    page = make(tmp_path, steps, seeds)
    assert len(figures(page)["Reward"]) == 3 * (1 + (seeds if seeds > 1 else 0))


def test_names_from_data_cannot_inject_markup(tmp_path: Path) -> None:
    hostile = "</script><script>alert(1)</script><img src=x>"
    write_comparison(tmp_path)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    manifest["recipe"]["name"] = hostile
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    journal = tmp_path / "archer/seed-0/metrics.jsonl"
    journal.write_text(journal.read_text() + json.dumps({"step": 9, f"reward/{hostile}": 1.0}) + "\n")
    write_report(tmp_path, read_standings(tmp_path))
    page = Page((tmp_path / "report.html").read_text())
    assert not any(tag == "img" for tag, _ in page.tags)
    assert sum(tag == "script" for tag, _ in page.tags) == 2
    assert hostile in words(page)


@pytest.mark.browser
def test_a_browser_draws_every_figure(tmp_path: Path) -> None:
    if not BROWSER and os.environ.get("CI") != "true":
        pytest.skip("no chromium here: install the package `chromium` to check that the figures are drawn")
    assert BROWSER, "CI must have chromium: apt-get install chromium"
    make(tmp_path)
    arguments = ["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=10000", *QUIET]
    place = [f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", (tmp_path / "report.html").as_uri()]
    done = subprocess.run([BROWSER, *arguments, *place], capture_output=True, text=True, timeout=120, check=True)
    drawn = re.findall(r'<svg class="main-svg"', done.stdout)
    lines = re.findall(r'<g class="trace scatter', done.stdout)
    bars = re.findall(r'<g class="point"', done.stdout)
    assert len(drawn) >= 13
    assert len(lines) == 10 * 9 + 2 * 3  # three lines an algorithm; KL of archer alone
    assert len(bars) == 3 * 5
