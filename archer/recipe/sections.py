"""The sections of a recipe: frozen dataclasses, each key with its meaning and unit (``archer recipe --keys``)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import date
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, with_config

from archer.recipe.config import STRICT
from archer.recipe.rewards import reward_spec
from archer.types import Json, Sampling

Count = Annotated[int, Field(ge=1)]  # of something there must be
CountOrNone = Annotated[int, Field(ge=0)]  # 0 has a meaning of its own
Positive = Annotated[float, Field(gt=0)]
# A name, a name with options, or a list of these; kept as one string (archer.recipe.rewards).
Reward = Annotated[str, BeforeValidator(reward_spec), "or mapping or list"]
# YAML reads 2024-08-01 as a date, which JSON could not record.
Day = Annotated[str, BeforeValidator(lambda day: day.isoformat() if isinstance(day, date) else day)]

LATER = ("engine_options", "sglang")  # keys of `rollout` that recipes did not have at first


@with_config(STRICT)
@dataclass(frozen=True)
class ModelSection:
    """The model to train or to evaluate."""

    path: str = "lab"
    """A Hugging Face folder or hub name, or ``lab``, the embedded model; the name that ``evaluate.server`` serves."""
    revision: str | None = None
    """The hub's commit, branch or tag."""
    chat_template_kwargs: Mapping[str, Json] = field(default_factory=dict)
    """Arguments of the tokenizer's chat template, such as ``enable_thinking: false``."""
    context: Count | None = None
    """Tokens that prompt and response may have together; none: ``max_position_embeddings``. With rotary positions it
    may be longer than trained for."""


@with_config(STRICT)
@dataclass(frozen=True)
class DataSource:
    """Training problems: a lab task by ``name``, or rows of a ``path``."""

    name: str
    """The lab task, or what the rows are called in metrics."""
    path: str | None = None
    """A local .json or .jsonl file, a folder of them, or a hub data set."""
    revision: str | None = None
    """The hub's commit, branch or tag."""
    config: str = ""
    """The configuration of a hub data set."""
    files: tuple[str, ...] = ()
    """Files of a folder or hub data set, read in this order; none: all."""
    split: str = "train"
    """The split of a lab task or hub data set."""
    reward: Reward = "math"
    """What grades responses: an entry of ``archer.rewards.REWARDS``, or a reward of one's own (``./file.py:NAME``,
    ``module:NAME``); with options ``{name: math, find: [box, latex]}``; a list is a sum, each with a ``weight``."""
    prompt: str = "prompt"
    """The rows' column that holds the prompt."""
    gold: str = "answer"
    """The rows' column that holds the ground truth."""
    instruction: str = "{prompt}"
    """What the model is asked; ``{prompt}`` stands for the row's prompt."""
    weight: int = 1
    """Problems of this source in each cycle over all sources."""
    format: str = ""
    """The shape of published rows, an entry of ``archer.problems.formats.FORMATS`` or one of your own
    (``./file.py:NAME``): a function from a row to a ``ShapedRow``. It gives prompt and gold."""
    since: Day = ""
    """The first day of rows that have dates, such as ``2024-08-01``."""
    until: Day = ""
    """The day after the last."""


@with_config(STRICT)
@dataclass(frozen=True)
class VllmSection:
    """Rollouts by vLLM: in a process beside each rank, or by servers."""

    servers: tuple[str, ...] = ()
    """URLs of `vllm serve` replicas; none: an engine beside each rank."""
    memory: Annotated[float, Field(gt=0, lt=1)] = 0.4
    """The share of a GPU that an engine beside a rank may take."""
    sync: Literal["auto", "nccl", "ipc", "reload"] = "auto"
    """How an engine gets new weights; auto: the fastest that exists."""
    seconds: Positive = 600.0
    """How long a call may last, or a response may go without a token."""


@with_config(STRICT)
@dataclass(frozen=True)
class SglangSection:
    """Rollouts by SGLang servers, which read each step's weights from files."""

    servers: tuple[str, ...] = ()
    """URLs of the servers; `archer train --dry-run` prints the command of each."""
    seconds: Positive = 3600.0
    """How long a call or a whole response may last: a server tells of no token before the response ends."""
    folder: str = ""
    """Where weights are written for the servers to read: a disk that they share; none: that of temporary files."""


@with_config(STRICT)
@dataclass(frozen=True)
class CorrectionSection:
    """What is done where engine and policy disagree on a token's probability; w = pi_policy / pi_engine."""

    kind: Literal["none", "truncate", "mask", "icepop"] = "none"
    """The weight of a token's advantage. truncate: min(w, high) (truncated importance sampling); mask: w, 0 above
    ``high``; icepop: w, 0 outside [low, high] (arXiv 2510.18855)."""
    level: Literal["token", "sequence"] = "token"
    """Whether w is a token's, or the product over its response."""
    low: Positive = 0.5
    """The least ratio that icepop keeps."""
    high: Positive = 2.0
    """The largest ratio."""
    warn: Positive = 1e-3
    """The run warns where a step's mean k3 a token (nats) passes this."""
    stop: Positive = 0.1
    """The run ends, before it trains, where a step's mean k3 a token (nats) passes this."""


@with_config(STRICT)
@dataclass(frozen=True)
class RolloutSection:
    """How a step's responses are sampled."""

    engine: str = "native"
    """What samples, an entry of ``archer.engines.ENGINES`` or one of your own (``./file.py:NAME``)."""
    engine_options: Mapping[str, Json] = field(default_factory=dict)
    """What an engine of your own is told: it reads them from its ``EngineSpec``."""
    vllm: VllmSection = VllmSection()
    sglang: SglangSection = SglangSection()
    correction: CorrectionSection = CorrectionSection()
    prefetch: Literal[0, 1] = 0
    """1 samples the next step while this one updates, with weights one step older."""
    prompts: Count = 32
    """Prompts of a step."""
    samples_per_prompt: int = 16
    """Responses to each prompt: the group that an advantage is relative to."""
    temperature: float = 1.0
    """Divides the logits; log-probs are of the distribution so divided."""
    top_p: float = 1.0
    """Must be 1: a cut distribution is not the one that log-probs are taken from."""
    top_k: int = 0
    """Must be 0, for the same reason."""
    max_tokens: Count = 128
    """Tokens of a response at most, its end token included."""
    max_concurrency: Count = 512
    """Responses that are sampled at once."""

    @property
    def sampling(self) -> Sampling:
        """How the engine draws."""
        return Sampling(self.temperature, self.top_p, self.top_k, self.max_tokens)


@with_config(STRICT)
@dataclass(frozen=True)
class DeepSpeedSection:
    """Training by DeepSpeed, on any number of ranks."""

    stage: Literal[0, 1, 2, 3] = 2
    """The stage of ZeRO."""
    offload: bool = False
    """Whether the optimizer's state lies in host memory."""
    seconds: Positive = 1800.0
    """How long a collective call may last."""


@with_config(STRICT)
@dataclass(frozen=True)
class LoraSection:
    """A low-rank adapter in place of all weights (arXiv 2106.09685)."""

    rank: Count = 16
    """The adapter's rank."""
    alpha: Positive = 32.0
    """Its scale, times the rank."""
    targets: tuple[str, ...] = ()
    """Ends of the names of linear layers that get one; none: all."""


@with_config(STRICT)
@dataclass(frozen=True)
class UpdateSection:
    """The optimizer's steps on a step's responses."""

    lr: Positive = 1e-6
    """Learning rate of AdamW."""
    warmup: int = 10
    """Optimizer steps over which the rate rises from 0."""
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    """How the rate goes on after that, until the last optimizer step."""
    betas: tuple[float, float] = (0.9, 0.999)
    """AdamW's decay of the first and second moments."""
    weight_decay: float = 0.1
    """AdamW's, times the rate."""
    max_grad_norm: float = 1.0
    """The gradient's norm is clipped to this."""
    mini_batch: Count = 32
    """Prompts (groups) of an optimizer step."""
    epochs: Count = 1
    """Passes over a step's responses."""
    micro_batch_tokens: Count = 16384
    """Tokens of a forward pass: prompts and responses, a group's shared prompt once."""
    checkpointing: bool = False
    """Whether activations are computed again in the backward pass: less memory, more time."""
    bf16: bool = False
    """Whether the layers compute in bfloat16."""
    deepspeed: DeepSpeedSection | None = None
    lora: LoraSection | None = None


@with_config(STRICT)
@dataclass(frozen=True)
class RewardSection:
    """How responses are graded."""

    workers: CountOrNone = 0
    """Processes that grade side by side; 0: one a core."""
    seconds: float = 5.0
    """CPU seconds that grading one answer may take."""
    sandbox: Literal["bubblewrap", "docker", "process"] = "bubblewrap"
    """What runs programs."""
    docker_hosts: tuple[str, ...] = ()
    """URLs of the Docker hosts that run programs, as in ``DOCKER_HOST``; none: the environment's."""
    tests: CountOrNone = 0
    """Tests that a program is trained on, drawn anew for each group; 0: all. An evaluation always runs all."""


@with_config(STRICT)
@dataclass(frozen=True)
class CurveSection:
    """Evaluations along the way: the first problems of each benchmark, for learning curves."""

    every: int = 0
    """Steps between two; 0: none."""
    problems: Count = 32
    """Problems of each benchmark."""
    samples: Count = 4
    """Samples of each problem."""


@with_config(STRICT)
@dataclass(frozen=True)
class SamplingSection:
    """Single values of how benchmarks are sampled, in place of each benchmark's own; none: the benchmark's."""

    temperature: int | Annotated[float, Field(ge=0)] | None = None  # an int stays one in the digest
    """Divides the logits; 0: greedy."""
    top_p: int | Annotated[float, Field(gt=0, le=1)] | None = None
    """The share of the probability that the likeliest tokens to draw from make up; 1: all."""
    top_k: CountOrNone | None = None
    """The number of likeliest tokens to draw from; 0: all."""
    max_tokens: Count | None = None
    """Tokens of a response at most."""

    @property
    def given(self) -> dict[str, Json]:
        """The values that are given, by name."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@with_config(STRICT)
@dataclass(frozen=True)
class EvaluateSection:
    """What the trained model is evaluated on."""

    benchmarks: tuple[str, ...] = ()
    """Names of benchmarks or suites."""
    samples: Count | None = None
    """Samples of each problem; none: each benchmark's own K."""
    sampling: SamplingSection = SamplingSection()
    server: str = ""
    """URL of an OpenAI-compatible server that is evaluated in place of a model loaded here."""
    during_training: CurveSection = CurveSection()


@with_config(STRICT)
@dataclass(frozen=True)
class SaveSection:
    """Checkpoints."""

    every: Count = 1
    """Steps between two."""
    keep: Count = 1
    """The newest that stay."""


@with_config(STRICT)
@dataclass(frozen=True)
class Recipe:
    """Everything a run is made of, but the algorithm chosen from ``algorithms`` and the seed."""

    name: str
    """What the run is called; its default folder is ``runs/NAME``."""
    steps: Count
    """Training steps: sample, grade, update."""
    data: tuple[DataSource, ...]
    algorithms: Mapping[str, Mapping[str, Json]]
    """Algorithms by name, each with changes to the shipped one of that name; ``base`` starts from another one."""
    model: ModelSection = ModelSection()
    rollout: RolloutSection = RolloutSection()
    update: UpdateSection = UpdateSection()
    reward: RewardSection = RewardSection()
    evaluate: EvaluateSection = EvaluateSection()
    save: SaveSection = SaveSection()
    log: tuple[str, ...] = ()
    """Trackers that get each step's metrics beside ``metrics.jsonl``: entries of ``archer.runs.trackers.TRACKERS``, or
    your own (``./file.py:NAME``)."""

    @property
    def optimizer_steps(self) -> int:
        """Optimizer steps of the whole run, where every step trains on all its prompts."""
        update = self.update
        return self.steps * update.epochs * -(-self.rollout.prompts // update.mini_batch)

    def digest(self, algorithm: str | None = None, parts: Mapping[str, str] | None = None) -> str:
        """Return a fingerprint of all that the numbers of one algorithm's run (or of any run) depend on.

        ``parts`` are the sha256 of the parts from outside the package (:func:`archer.runs.outside.outside_parts`).
        """
        chosen = {} if algorithm is None else {algorithm: self.algorithms.get(algorithm)}
        reward = {**asdict(self.reward), "workers": None, "docker_hosts": None}  # by whom, not how
        values = {**asdict(self), "algorithms": chosen, "log": None, "save": None, "reward": reward}
        # A recipe that uses nothing of what came later keeps its digest.
        values |= {"parts": dict(parts)} if parts else {}
        values["evaluate"]["sampling"] = self.evaluate.sampling.given
        unused = asdict(RolloutSection())
        values["rollout"] = {
            key: value for key, value in values["rollout"].items() if key not in LATER or value != unused[key]
        }
        text = json.dumps(values, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:16]
