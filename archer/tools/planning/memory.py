"""The memory of one GPU by part, while a run starts, samples and updates.

P parameters, N ranks. What DeepSpeed's stages hold is that of ``policies/deepspeed.py``: bfloat16 weights under float32
masters, gradients summed in float32.
"""

from __future__ import annotations

from dataclasses import dataclass

from archer.models.heads.memory import head_peak_bytes
from archer.recipe.sections import Recipe
from archer.tools.planning.activations import ActivationBytes
from archer.tools.planning.shape import ModelShape

GIB = 1 << 30
RESERVE = 0.06  # of a GPU: CUDA's context, NCCL's buffers, fragments of the allocator
ENGINE_WORK = 2 * GIB  # vLLM's activations and CUDA graphs, inside the share that it may take
BUCKET = 200_000_000  # elements that DeepSpeed reduces together (``policies/deepspeed.py``)
LIVE = 1_000_000_000  # elements that ZeRO 3 keeps gathered (DeepSpeed's stage3_max_live_parameters)
PROMPT = 2048  # tokens of the longest prompt, where it is not known: the bound of the released Archer script
PHASES = ("starting", "sampling", "updating")


@dataclass(frozen=True)
class Cluster:
    """Machines of ``gpus`` GPUs of ``memory`` GiB each."""

    nodes: int = 1
    gpus: int = 1
    memory: float = 80.0

    @property
    def world(self) -> int:
        """The number of ranks: one a GPU."""
        return self.nodes * self.gpus


@dataclass(frozen=True)
class MemoryPart:
    """Bytes on one GPU while the run starts, samples and updates; ``note`` says what they are made of."""

    name: str
    starting: float
    sampling: float
    updating: float
    note: str = ""


@dataclass(frozen=True)
class RankLoad:
    """What a rank works on: ``prompt`` tokens of the longest prompt, ``row`` with the longest response, ``micro`` of a
    micro-batch, ``responses`` of a step, of which ``slots`` decode together."""

    prompt: int
    row: int
    micro: int
    responses: int
    slots: int


@dataclass(frozen=True)
class MemoryPlan:
    """The parts, and ``cache`` tokens that the engine's key-value cache holds; ``host`` bytes a machine needs."""

    parts: tuple[MemoryPart, ...]
    cache: int
    host: float

    def total(self, phase: str) -> float:
        """Return the bytes of a phase: the sum of its parts."""
        return float(sum(getattr(part, phase) for part in self.parts))

    @property
    def reserve(self) -> float:
        """The bytes left to what is not counted."""
        return next(part.updating for part in self.parts if part.name == "reserve")

    @property
    def peak(self) -> float:
        """The bytes of the largest phase."""
        return max(self.total(phase) for phase in PHASES)


def load_of(recipe: Recipe, prompt: int, cluster: Cluster) -> RankLoad:
    """Return the most that a rank works on, with prompts of ``prompt`` tokens and every response as long as may be."""
    rollout, update = recipe.rollout, recipe.update
    row = prompt + rollout.max_tokens
    share = -(-update.mini_batch * rollout.samples_per_prompt // cluster.world)
    responses = -(-rollout.prompts // cluster.world) * rollout.samples_per_prompt
    micro = min(max(update.micro_batch_tokens, row), share * row)
    return RankLoad(prompt, row, micro, responses, min(rollout.max_concurrency, responses))


def memory_of(
    recipe: Recipe, shape: ModelShape, kept: ActivationBytes, load: RankLoad, cluster: Cluster, reference: bool
) -> MemoryPlan:
    """Return what one GPU holds."""
    engine, cache = engine_parts(recipe, shape, load, cluster)
    parts = (*state_parts(recipe, shape, cluster, reference), *pass_parts(recipe, shape, kept, load), *engine)
    spare = RESERVE * cluster.memory * GIB
    parts = (*parts, MemoryPart("reserve", spare, spare, spare, f"{RESERVE:.0%} of the GPU: CUDA, NCCL, fragments"))
    return MemoryPlan(tuple(part for part in parts if part.starting or part.sampling or part.updating), cache,
                  cluster.gpus * host_bytes(recipe, shape, cluster))  # fmt: skip


def state_parts(recipe: Recipe, shape: ModelShape, cluster: Cluster, reference: bool) -> tuple[MemoryPart, ...]:
    """Return weights, reference, gradients, optimizer and buffers of one rank."""
    trained, frozen = trained_and_frozen(shape)
    zero, world, width = recipe.update.deepspeed, cluster.world, weight_bytes(recipe)
    stage = 0 if zero is None else stage_of(recipe)
    weights = width * shape.parameters / (world if stage == 3 else 1)
    copy = 0.0 if shape.adapter or not reference else weights
    sums = 4 * trained / (world if stage >= 2 else 1)
    masters = 4 * trained if stage > 0 else 0
    moments = (masters + 8 * trained) / (world if stage else 1)
    if zero is not None and zero.offload:
        sums, moments = 0.0, 0.0
    # One process, and most stages, free them after the step; two hold a buffer of their own.
    flat = stage == 3 or (stage == 1 and recipe.update.bf16)
    bucket = min(BUCKET, trained) * width if stage and not (stage == 1 and flat) else 0
    copies = 0.0 if zero is None else 2 * min(BUCKET, trained) * width
    copies += 4 * trained / world if stage and zero is not None and not zero.offload else 0.0
    gathered = width * min(LIVE, shape.parameters) if stage == 3 else 0.0
    # Every rank loads all, and keeps its share.
    adapter = f"{trained:,} of an adapter train, {frozen:,} do not" if shape.adapter else ""
    return (
        MemoryPart(
            "weights", width * shape.parameters, weights, weights, adapter or f"{width} bytes each, whole at the start"
        ),
        MemoryPart("reference", 0, copy, copy, "the weights at the start, for the KL term"),
        MemoryPart("gradients", 0, flat * sums, sums, "summed in float32"),
        MemoryPart("optimizer", 0, moments, moments, "AdamW" + (" and float32 masters" if masters else "")),
        MemoryPart("communication", 0, bucket, bucket, "the bucket in which gradients are reduced"),
        MemoryPart("gradients in flight", 0, 0, copies, "on their way to the bucket, and a rank's share in the step"),
        MemoryPart("gathered weights", 0, 0, gathered, "those that ZeRO 3 keeps whole at a time"),
    )


def pass_parts(recipe: Recipe, shape: ModelShape, kept: ActivationBytes, load: RankLoad) -> tuple[MemoryPart, ...]:
    """Return what a micro-batch holds: activations, and the largest of what comes and goes beside them."""
    again = recipe.update.checkpointing
    answers = load.micro * recipe.rollout.max_tokens // load.row
    saved = kept.hidden if again else kept.layer
    activations = load.micro * (saved * shape.layers + kept.rest) + answers * kept.hidden
    activations += 0 if again else kept.casts * shape.layers
    passing = {
        ("logits chunk", "and the gradients of the head's weight and inputs"): head_bytes(recipe, shape, kept, answers)
    }
    if again:
        layer = load.micro * kept.again + kept.casts
        passing["a layer again", "computed anew in the backward pass, with its gradients"] = layer
        passing["bfloat16 copies", "of all weights, in the forward pass"] = kept.casts * shape.layers
    largest = max(passing, key=lambda one: passing[one])
    note = f"of {load.micro:,} tokens" + (", a layer's input each (checkpointing)" if again else "")
    return MemoryPart("activations", 0, 0, activations, note), MemoryPart(
        largest[0], 0, 0, passing[largest], largest[1]
    )


def head_bytes(recipe: Recipe, shape: ModelShape, kept: ActivationBytes, answers: int) -> float:
    """Return what ``heads`` hold at most, in the backward pass: with the hidden states' gradient and the weight's."""
    inner, width = kept.hidden // shape.hidden, weight_bytes(recipe)
    return head_peak_bytes(answers, shape.vocabulary, shape.head // shape.vocabulary, inner, width, "cuda")


def engine_parts(
    recipe: Recipe, shape: ModelShape, load: RankLoad, cluster: Cluster
) -> tuple[tuple[MemoryPart, ...], int]:
    """Return the engine's parts on this GPU, and the tokens that its cache holds."""
    if recipe.rollout.engine == "native":
        return native_parts(recipe, shape, load)
    width = 2 if recipe.update.bf16 else 4
    weights, share = width * shape.parameters, recipe.rollout.vllm.memory * cluster.memory * GIB
    cache = max(0.0, share - weights - ENGINE_WORK)
    tokens = int(cache / (width * shape.position))
    if recipe.rollout.vllm.servers:  # on GPUs of their own, of the same kind
        return (), tokens
    awake = recipe.rollout.prefetch  # it samples the next step while this one updates
    return (
        MemoryPart(
            "engine's weights", 0, weights, awake * weights, "vLLM's copy" + ("" if awake else ", asleep in updates")
        ),
        MemoryPart("KV cache", 0, cache, awake * cache, f"{tokens:,} tokens: {tokens / load.row:.1f} longest rows"),
        MemoryPart("engine's work", 0, ENGINE_WORK, awake * ENGINE_WORK, "vLLM's activations and CUDA graphs"),
    ), tokens


def native_parts(recipe: Recipe, shape: ModelShape, load: RankLoad) -> tuple[tuple[MemoryPart, ...], int]:
    """Return the native engine's parts: a row for each slot, as long as the longest."""
    tokens = load.slots * load.row
    autocast = recipe.update.bf16 and recipe.update.deepspeed is None
    width, cast = (2, 2 * shape.parameters) if autocast else (4, 0)
    own = 4 * shape.parameters if recipe.update.deepspeed is not None else 0
    work = 4 * 4 * load.slots * shape.vocabulary + 24 * load.slots * recipe.rollout.max_tokens
    parts = (
        MemoryPart("engine's weights", 0, own, 0, "the native engine's own copy, in float32"),
        MemoryPart("engine's bfloat16", 0, cast, 0, "the weights cast, for as long as it samples"),
        MemoryPart("KV cache", 0, tokens * shape.position * width, 0, f"{load.slots} rows of {load.row:,} tokens"),
        MemoryPart("engine's work", 0, work, 0, "logits, tokens drawn and their log-probs"),
    )
    return parts, tokens


def host_bytes(recipe: Recipe, shape: ModelShape, cluster: Cluster) -> float:
    """Return what one rank needs of its machine's memory beside the GPU: loading, offload, a sleeping engine."""
    trained, _ = trained_and_frozen(shape)
    zero = recipe.update.deepspeed
    offloaded = 16 * trained / cluster.world if zero is not None and zero.offload else 0.0
    asleep = (
        0
        if recipe.rollout.engine == "native" or recipe.rollout.vllm.servers
        else weight_bytes(recipe) * shape.parameters
    )
    return max(4 * shape.parameters, offloaded + asleep)


def trained_and_frozen(shape: ModelShape) -> tuple[int, int]:
    """Return how many parameters train and how many do not."""
    return (shape.adapter, shape.parameters) if shape.adapter else (shape.parameters, 0)


def weight_bytes(recipe: Recipe) -> int:
    """Return the bytes of a weight that trains: DeepSpeed holds bfloat16 over masters, one process float32."""
    return 2 if recipe.update.bf16 and recipe.update.deepspeed is not None else 4


def stage_of(recipe: Recipe) -> int:
    """Return the stage of ZeRO that runs: in bfloat16 at least 1."""
    zero = recipe.update.deepspeed
    if zero is None:
        return 0
    return max(zero.stage, 1) if recipe.update.bf16 else zero.stage
