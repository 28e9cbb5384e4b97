"""The recipe: one YAML file into typed, frozen dataclasses. It names every part of a run.

Unknown keys, wrong types and contradictory values raise :class:`~archer.errors.RecipeError`, which names the
file, the key, the value and the next step.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, with_config

from archer.errors import RecipeError, did_you_mean
from archer.recipe.config import STRICT, assign, merged, read_yaml, typed
from archer.recipe.options import CorrectionSection, DeepSpeedSection, LoraSection, VllmSection
from archer.types import Json, Sampling

# fmt: off
Format = Literal[
    "", "livecodebench", "humaneval", "humanevalplus", "mbpp", "mbppplus", "codecontests", "leetcode",
    "archer", "aime", "amc", "math500", "minerva", "olympiadbench", "gsm8k",
]
# fmt: on
# YAML reads 2024-08-01 as a date, which JSON could not record.
Day = Annotated[str, BeforeValidator(lambda day: day.isoformat() if isinstance(day, date) else day)]


@with_config(STRICT)
@dataclass(frozen=True)
class ModelSection:
    """``path``: a Hugging Face folder or hub name, or ``lab``, the embedded model.

    ``template`` switches its chat template (``enable_thinking: false``). ``context`` bounds the tokens of prompt and
    response (none: ``max_position_embeddings``); with rotary positions it may be longer than trained for.
    """

    path: str = "lab"
    revision: str | None = None
    template: Mapping[str, Json] = field(default_factory=dict)
    context: int | None = None


@with_config(STRICT)
@dataclass(frozen=True)
class DataSource:
    """Training problems: a lab task by ``name``, or rows of a ``path`` (a local file or a hub data set).

    ``prompt`` and ``gold`` name the rows' columns, ``instruction`` wraps the prompt (``{prompt}``), ``weight``
    is how many problems of a cycle come from this source. ``format`` names an entry of
    ``archer.problems.formats.FORMATS``, which makes prompt and gold of a whole row instead; where its rows have dates,
    only days in [``since``, ``until``) are taken (``2024-08-01``). A hub data set may have a ``config``, or
    ``files``, JSON lines which are read as they lie there, in this order.
    """

    name: str
    path: str | None = None
    revision: str | None = None
    config: str = ""
    files: tuple[str, ...] = ()
    split: str = "train"
    reward: str = "math"
    prompt: str = "prompt"
    gold: str = "answer"
    instruction: str = "{prompt}"
    weight: int = 1
    format: Format = ""
    since: Day = ""
    until: Day = ""


@with_config(STRICT)
@dataclass(frozen=True)
class RolloutSection:
    """``prompts`` x ``group`` responses a step; ``slots`` bounds how many decode together.

    ``vllm`` holds options of that engine (:class:`~archer.recipe.options.VllmSection`), ``correction`` what is done
    about a difference between the engine's and the policy's log-probs
    (:class:`~archer.recipe.options.CorrectionSection`). ``ahead`` 1
    samples the next step while this one updates, with weights one step older.
    """

    engine: Literal["native", "vllm"] = "native"
    vllm: Mapping[str, Json] = field(default_factory=dict)
    correction: Mapping[str, Json] = field(default_factory=dict)
    ahead: Literal[0, 1] = 0
    prompts: int = 32
    group: int = 16
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    max_tokens: int = 128
    slots: int = 512

    @property
    def sampling(self) -> Sampling:
        """How the engine draws."""
        return Sampling(self.temperature, self.top_p, self.top_k, self.max_tokens)


@with_config(STRICT)
@dataclass(frozen=True)
class UpdateSection:
    """The optimizer step. ``mini_batch`` counts groups, ``tokens`` is the budget of a micro-batch.

    ``deepspeed`` trains with it, on any number of ranks (:class:`~archer.recipe.options.DeepSpeedSection`),
    ``lora`` trains an adapter (:class:`~archer.recipe.options.LoraSection`).
    """

    lr: float = 1e-6
    warmup: int = 10
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.1
    clip_norm: float = 1.0
    mini_batch: int = 32
    epochs: int = 1
    tokens: int = 16384
    checkpointing: bool = False
    bf16: bool = False
    deepspeed: Mapping[str, Json] | None = None
    lora: Mapping[str, Json] | None = None


@with_config(STRICT)
@dataclass(frozen=True)
class RewardSection:
    """``workers`` grade side by side (0: one a core); ``seconds`` bounds the grading of one answer.

    ``sandbox`` names the executor that runs programs; ``engines`` are Docker's, by URL (none: the
    environment's). ``tests`` bounds the tests a program is trained on, drawn anew each time its
    problem comes, once for the whole group (0: all); evaluation always runs all.
    """

    workers: int = 0
    seconds: float = 5.0
    sandbox: Literal["bubblewrap", "docker", "process"] = "bubblewrap"
    engines: tuple[str, ...] = ()
    tests: int = 0


@with_config(STRICT)
@dataclass(frozen=True)
class EvaluateSection:
    """``every`` steps (0: never) each benchmark's first ``curve_problems`` x ``curve_samples`` are drawn.

    ``samples`` overrides the benchmarks' own K in the final evaluation, ``sampling`` single values of how they
    draw (``{max_tokens: 8192}``). ``server`` is the URL of an OpenAI-compatible server that answers in place of a
    model loaded here; ``model.path`` is then the name it serves, ``rollout.slots`` the requests under way.
    """

    benchmarks: tuple[str, ...] = ()
    samples: int | None = None
    sampling: Mapping[str, Json] = field(default_factory=dict)
    server: str = ""
    every: int = 0
    curve_problems: int = 32
    curve_samples: int = 4


@with_config(STRICT)
@dataclass(frozen=True)
class SaveSection:
    """A checkpoint ``every`` steps; the newest ``keep`` stay."""

    every: int = 1
    keep: int = 1


@with_config(STRICT)
@dataclass(frozen=True)
class Recipe:
    """Everything a run is made of, but the algorithm chosen from ``algorithms`` and the seed.

    ``algorithms`` maps a name to changes of the row of that name; ``row`` starts from another one.
    """

    name: str
    steps: int
    data: tuple[DataSource, ...]
    algorithms: Mapping[str, Mapping[str, Json]]
    model: ModelSection = ModelSection()
    rollout: RolloutSection = RolloutSection()
    update: UpdateSection = UpdateSection()
    reward: RewardSection = RewardSection()
    evaluate: EvaluateSection = EvaluateSection()
    save: SaveSection = SaveSection()
    log: tuple[Literal["tensorboard", "wandb"], ...] = ()

    @property
    def vllm(self) -> VllmSection:
        """The options of the vLLM engine."""
        return typed(VllmSection, self.rollout.vllm, f"{self.name}: rollout: vllm")

    @property
    def correction(self) -> CorrectionSection:
        """What is done about a difference between engine and policy."""
        return typed(CorrectionSection, self.rollout.correction, f"{self.name}: rollout: correction")

    @property
    def deepspeed(self) -> DeepSpeedSection | None:
        """The options of DeepSpeed; None trains without."""
        chosen = self.update.deepspeed
        return None if chosen is None else typed(DeepSpeedSection, chosen, f"{self.name}: update: deepspeed")

    @property
    def lora(self) -> LoraSection | None:
        """The adapter to train; None trains every weight."""
        chosen = self.update.lora
        return None if chosen is None else typed(LoraSection, chosen, f"{self.name}: update: lora")

    def digest(self, algorithm: str | None = None) -> str:
        """Return a fingerprint of all that the numbers of one algorithm's run (or of any run) depend on."""
        chosen = {} if algorithm is None else {algorithm: self.algorithms.get(algorithm)}
        reward = {**asdict(self.reward), "workers": None, "engines": None}  # by whom, not how
        values = {**asdict(self), "algorithms": chosen, "log": None, "save": None, "reward": reward}
        text = json.dumps(values, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def read_recipe(name: str, changes: Sequence[str] = ()) -> Recipe:
    """Read a shipped recipe by name or a YAML file by path; ``changes`` are ``key.key=value`` strings.

    Raises RecipeError when the file, a key or a value is not what it should be.
    """
    path = find_recipe(name)
    values = read_yaml(path)
    for change in changes:
        assign(values, change)
    recipe = typed(Recipe, values, str(path.name))
    check_recipe(recipe, str(path.name))
    return recipe


def find_recipe(name: str) -> Path:
    """Return the file of a shipped recipe, or of a path ending in .yaml."""
    shipped = {path.stem: path for path in Path(str(files("archer.recipe") / "shipped")).glob("*.yaml")}
    if name.endswith((".yaml", ".yml")):
        if not Path(name).is_file():
            raise RecipeError(f"{name}: no such recipe file")
        return Path(name)
    if name not in shipped:
        raise RecipeError(f"no shipped recipe {name!r}{did_you_mean(name, shipped)}; a file's name ends in .yaml")
    return shipped[name]


def check_recipe(recipe: Recipe, where: str) -> None:
    """Refuse values that contradict each other. Raises RecipeError."""
    rollout, update = recipe.rollout, recipe.update
    merged(Sampling(), recipe.evaluate.sampling, f"{where}: evaluate: sampling")
    _ = recipe.vllm, recipe.correction, recipe.deepspeed, recipe.lora  # each says what is wrong with it
    faults = {
        "steps must be 1 or more": recipe.steps < 1,
        "data: name at least one source": not recipe.data,
        "algorithms: name at least one": not recipe.algorithms,
        f"rollout: group {rollout.group} gives no group-relative advantage; use 2 or more": rollout.group < 2,
        f"rollout: temperature {rollout.temperature} makes all {rollout.group} samples of a group the same; "
        "use a temperature above 0": rollout.temperature <= 0,
        f"rollout: top_p {rollout.top_p} is outside (0, 1]": not 0 < rollout.top_p <= 1,
        f"rollout: top_p or top_k cut the distribution that log-probs are taken from; train with top_p 1.0 and "
        f"top_k 0 (found {rollout.top_p}, {rollout.top_k})": rollout.top_p < 1 or rollout.top_k > 0,
        f"update: mini_batch {update.mini_batch} is larger than the {rollout.prompts} prompts of a step; "
        "lower it or raise rollout.prompts": update.mini_batch > rollout.prompts,
        "rollout: prompts, max_tokens and slots must be 1 or more": min(
            rollout.prompts, rollout.max_tokens, rollout.slots
        )
        < 1,
        "update: mini_batch, epochs and tokens must be 1 or more": min(update.mini_batch, update.epochs, update.tokens)
        < 1,
        f"update: lr {update.lr} must be above 0": update.lr <= 0,
        "reward: workers and tests must be 0 or more": min(recipe.reward.workers, recipe.reward.tests) < 0,
        f"model: context must be 1 or more (found {recipe.model.context})": (recipe.model.context or 1) < 1,
        "save: every and keep must be 1 or more": min(recipe.save.every, recipe.save.keep) < 1,
        "evaluate: samples, curve_problems and curve_samples must be 1 or more": min(
            1 if recipe.evaluate.samples is None else recipe.evaluate.samples,
            recipe.evaluate.curve_problems,
            recipe.evaluate.curve_samples,
        )
        < 1,
        "algorithms: a name becomes a folder: not `base`, and no slash in it": any(
            name == "base" or "/" in name for name in recipe.algorithms
        ),
    }
    found = [f"{where}: {fault}" for fault, wrong in faults.items() if wrong]
    if found:
        raise RecipeError("\n".join(found))
