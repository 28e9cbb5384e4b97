"""The shipped recipes say what their sources say, value by value, and name the source of each."""

from __future__ import annotations

import re

import pytest

from archer.algorithms.archer import Archer
from archer.algorithms.grpo import Grpo
from archer.errors import DataError
from archer.evaluation.benchmark import expand, read_benchmark
from archer.problems.streams import open_stream
from archer.recipe.algorithm import build_algorithm
from archer.recipe.reading import find_recipe, read_recipe

PAPER = sorted(path.stem for path in find_recipe("lab").parent.glob("archer-*.yaml"))


def test_the_paper_s_recipes_are_all_there() -> None:
    assert PAPER == [
        "archer-code-1.5b", "archer-code-1.5b-released", "archer-code-qwen3-4b", "archer-math-1.5b",
        "archer-math-1.5b-released", "archer-math-qwen3-30b-a3b", "archer-math-qwen3-4b", "archer-math-qwen3-8b",
    ]  # fmt: skip


@pytest.mark.parametrize("name", PAPER)
def test_values_that_all_the_paper_s_runs_share(name: str) -> None:
    recipe = read_recipe(name)
    rollout, update = recipe.rollout, recipe.update
    assert recipe.name == name
    assert (rollout.prompts, rollout.samples_per_prompt, rollout.temperature, rollout.top_p, rollout.top_k) == (
        64,
        16,
        1.0,
        1.0,
        0,
    )
    assert (update.lr, update.mini_batch, update.epochs, update.warmup) == (1e-6, 32, 3, 10)
    assert (update.weight_decay, update.max_grad_norm, update.schedule) == (0.1, 1.0, "constant")
    assert (rollout.engine, recipe.save.every, recipe.evaluate.during_training.every) == ("vllm", 10, 0)


@pytest.mark.parametrize(
    ("name", "model", "tokens", "steps", "thinking"),
    [
        ("archer-math-1.5b", "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B", 32768, 520, None),
        ("archer-code-1.5b", "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B", 32768, 320, None),
        ("archer-math-qwen3-4b", "Qwen/Qwen3-4B", 8192, 400, False),
        ("archer-math-qwen3-8b", "Qwen/Qwen3-8B", 6144, 400, False),
        ("archer-math-qwen3-30b-a3b", "Qwen/Qwen3-30B-A3B", 8192, 400, False),
        ("archer-code-qwen3-4b", "Qwen/Qwen3-4B", 8192, 320, False),
    ],
)
def test_values_of_each_run(name: str, model: str, tokens: int, steps: int, thinking: bool | None) -> None:
    recipe = read_recipe(name)
    assert (recipe.model.path, recipe.rollout.max_tokens, recipe.steps) == (model, tokens, steps)
    assert recipe.model.chat_template_kwargs.get("enable_thinking") is thinking
    assert list(recipe.algorithms) == ["archer", "grpo", "dapo"]


def test_the_paper_s_algorithms() -> None:
    recipe = read_recipe("archer-math-1.5b")
    archer, grpo, dapo = (build_algorithm(recipe, name) for name in recipe.algorithms)
    assert archer.objective == Archer(
        0.8, (0.5, 0.5), (0.2, 0.2), 0.0, 0.001, ">=", "response", "rollout", "k3", "tokens", None
    )
    assert (archer.aggregation, archer.group_filter, archer.overlong_buffer) == ("token", "none", 0.0)
    assert grpo.objective == Grpo(clip=(0.2, 0.28), kl_weight=0.0)
    assert (grpo.aggregation, grpo.group_filter, grpo.overlong_buffer) == ("token", "none", 0.0)
    assert (dapo.objective, dapo.group_filter) == (Grpo((0.2, 0.28), 0.0, dual_clip=10.0), "resample")


@pytest.mark.parametrize(("name", "tests"), [("archer-math-1.5b-released", 0), ("archer-code-1.5b-released", 16)])
def test_the_released_code_s_algorithm(name: str, tests: int) -> None:
    recipe = read_recipe(name)
    row = build_algorithm(recipe, "archer-released")
    assert row.objective == Archer(gate=">", kl_average="class", dual_clip=10.0, entropy="policy")
    assert (row.aggregation, row.group_filter, row.overlong_filter) == ("response", "drop", False)
    assert recipe.reward.tests == tests
    same = read_recipe(name.removesuffix("-released"))
    assert (recipe.rollout, recipe.update, recipe.model, recipe.data) == (
        same.rollout,
        same.update,
        same.model,
        same.data,
    )


def test_the_paper_s_benchmarks_with_its_k() -> None:
    names = [read_recipe(f"archer-{kind}-1.5b").evaluate.benchmarks for kind in ("math", "code")]
    found = [(one.name, one.samples, one.sampling.temperature, one.sampling.max_tokens)
             for suite in names for one in map(read_benchmark, expand(suite))]  # fmt: skip
    ks = {
        "aime24": 64,
        "aime25": 64,
        "amc23": 64,
        "math500": 4,
        "minerva": 8,
        "olympiadbench": 4,
        "lcb-v5": 8,
        "lcb-v6": 16,
    }
    assert found == [(name, k, 0.8, 32768) for name, k in ks.items()]


@pytest.mark.parametrize("name", PAPER)
def test_every_value_names_its_source(name: str) -> None:
    section, bare = "", []
    for line in find_recipe(name).read_text().splitlines():
        section = line.split(":")[0] if re.match(r"[a-z]+:", line) else section
        alone = re.match(r"(  )?[a-z_]+: \S", line) and section not in ("name", "data", "algorithms")
        if alone and not re.search(r"# (V2|code|unknown|ours|2,048)", line):
            bare.append(line)
    assert bare == []


@pytest.mark.parametrize("name", ["archer-math-1.5b", "archer-math-qwen3-8b"])
def test_data_that_is_not_there_names_the_command_that_makes_it(
    name: str, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError) as caught:
        open_stream(read_recipe(name).data, 0)
    path = "runs/data/paper-math/paper-math.jsonl"
    said = f"{path}: no such file; `archer data build paper-math --out runs/data/paper-math` makes it"
    assert str(caught.value) == said


def test_the_released_data_is_asked_of_the_hub() -> None:
    source = read_recipe("archer-code-1.5b").data[0]
    assert (source.path, source.format, source.reward) == ("Fate-Zero/Archer-Code-1.5B", "archer", "code")
    with pytest.raises(DataError, match="cannot be read from the hub"):  # the tests are offline
        open_stream([source], 0)
