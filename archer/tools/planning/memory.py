"""The memory of one GPU by part, while a run starts, samples and updates.

P parameters, N ranks. DeepSpeed's stages hold what ``trainer/deepspeed_backend.py`` sets up: bfloat16 weights under
float32 masters, gradients summed in float32.
"""

from __future__ import annotations

from dataclasses import dataclass

from archer.engines import find_engine
from archer.engines.kind import GIB, EngineLoad, EngineMemory, MemoryPart
from archer.engines.spec import EngineSpec
from archer.models.heads.memory import head_peak_bytes
from archer.recipe.sections import Recipe
from archer.tools.planning.activations import ActivationBytes
from archer.tools.planning.shape import ModelShape

RESERVE = 0.06  # share of a GPU for CUDA's context, NCCL's buffers and fragmentation
BUCKET = 200_000_000  # elements that DeepSpeed reduces together (``trainer/deepspeed_backend.py``)
LIVE = 1_000_000_000  # elements that ZeRO 3 keeps gathered (DeepSpeed's stage3_max_live_parameters)
PROMPT = 2048  # tokens of the longest prompt if it is unknown: the limit of the released Archer script
PHASES = ("starting", "sampling", "updating")


@dataclass(frozen=True)
class Cluster:
    """``nodes`` machines with ``gpus`` GPUs of ``memory`` GiB each."""

    nodes: int = 1
    gpus: int = 1
    memory: float = 80.0

    @property
    def world(self) -> int:
        """The number of ranks: one per GPU."""
        return self.nodes * self.gpus


@dataclass(frozen=True)
class RankLoad:
    """The tokens and responses of one rank.

    ``prompt``: tokens of the longest prompt; ``row``: with the longest response; ``micro``: tokens of a micro-batch;
    ``responses``: of a step; ``slots``: responses that decode together.
    """

    prompt: int
    row: int
    micro: int
    responses: int
    slots: int


@dataclass(frozen=True)
class MemoryPlan:
    """The parts, the tokens of the engine's key-value ``cache``, and the ``host`` bytes a machine needs.

    ``faults`` are the engine's own; ``partial``: the engine does not tell what it takes, so its parts are missing.
    """

    parts: tuple[MemoryPart, ...]
    cache: int
    host: float
    faults: tuple[str, ...] = ()
    partial: bool = False

    def total(self, phase: str) -> float:
        """Return the bytes of a phase: the sum of its parts."""
        return float(sum(getattr(part, phase) for part in self.parts))

    @property
    def reserve(self) -> float:
        """The bytes reserved for what is not counted."""
        return next(part.updating for part in self.parts if part.name == "reserve")

    @property
    def peak(self) -> float:
        """The bytes of the largest phase."""
        return max(self.total(phase) for phase in PHASES)


def load_of(recipe: Recipe, prompt: int, cluster: Cluster) -> RankLoad:
    """Return the largest load of a rank, with prompts of ``prompt`` tokens and every response of maximal length."""
    rollout, update = recipe.rollout, recipe.update
    row = prompt + rollout.max_tokens
    share = -(-update.mini_batch * rollout.samples_per_prompt // cluster.world)
    responses = -(-rollout.prompts // cluster.world) * rollout.samples_per_prompt
    micro = min(max(update.micro_batch_tokens, row), share * row)
    return RankLoad(prompt, row, micro, responses, min(rollout.max_concurrency, responses))


def memory_of(
    recipe: Recipe, shape: ModelShape, per_token: ActivationBytes, load: RankLoad, cluster: Cluster, reference: bool
) -> MemoryPlan:
    """Return the memory plan of one GPU; ``reference``: whether the objective needs a reference model."""
    found = engine_memory(recipe, shape, load, cluster)
    engine = found or EngineMemory((), 0)
    state = state_parts(recipe, shape, cluster, reference)
    parts = (*state, *pass_parts(recipe, shape, per_token, load), *engine.parts)
    spare = RESERVE * cluster.memory * GIB
    parts = (*parts, MemoryPart("reserve", spare, spare, spare, f"{RESERVE:.0%} of the GPU: CUDA, NCCL, fragments"))
    return MemoryPlan(tuple(part for part in parts if part.starting or part.sampling or part.updating), engine.cache,
                  cluster.gpus * host_bytes(recipe, shape, cluster, engine), engine.faults, found is None)  # fmt: skip


def state_parts(recipe: Recipe, shape: ModelShape, cluster: Cluster, reference: bool) -> tuple[MemoryPart, ...]:
    """Return the parts that do not depend on the batch: weights, reference, gradients, optimizer, buffers."""
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
    # Gradients are freed after the step, but ZeRO 3, and ZeRO 1 in bfloat16, keep a buffer for them.
    flat = stage == 3 or (stage == 1 and recipe.update.bf16)
    bucket = min(BUCKET, trained) * width if stage and not (stage == 1 and flat) else 0
    copies = 0.0 if zero is None else 2 * min(BUCKET, trained) * width
    copies += 4 * trained / world if stage and zero is not None and not zero.offload else 0.0
    gathered = width * min(LIVE, shape.parameters) if stage == 3 else 0.0
    # Every rank loads all weights, and then keeps its share.
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


def pass_parts(recipe: Recipe, shape: ModelShape, per_token: ActivationBytes, load: RankLoad) -> tuple[MemoryPart, ...]:
    """Return the parts of a micro-batch: activations, and the largest of the temporary buffers beside them."""
    again = recipe.update.checkpointing
    answers = load.micro * recipe.rollout.max_tokens // load.row
    saved = per_token.hidden if again else per_token.layer
    activations = load.micro * (saved * shape.layers + per_token.rest) + answers * per_token.hidden
    activations += 0 if again else per_token.casts * shape.layers
    passing = {
        ("logits chunk", "and the gradients of the head's weight and inputs"): head_bytes(
            recipe, shape, per_token, answers
        )
    }
    if again:
        layer = load.micro * per_token.again + per_token.casts
        passing["a layer again", "computed anew in the backward pass, with its gradients"] = layer
        passing["bfloat16 copies", "of all weights, in the forward pass"] = per_token.casts * shape.layers
    largest = max(passing, key=lambda name: passing[name])
    note = f"of {load.micro:,} tokens" + (", a layer's input each (checkpointing)" if again else "")
    return MemoryPart("activations", 0, 0, activations, note), MemoryPart(
        largest[0], 0, 0, passing[largest], largest[1]
    )


def head_bytes(recipe: Recipe, shape: ModelShape, per_token: ActivationBytes, answers: int) -> float:
    """Return the peak bytes of the LM head's backward pass, gradients of hidden states and weight included."""
    inner, width = per_token.hidden // shape.hidden, weight_bytes(recipe)
    return head_peak_bytes(answers, shape.vocabulary, shape.head // shape.vocabulary, inner, width, "cuda")


def engine_memory(recipe: Recipe, shape: ModelShape, load: RankLoad, cluster: Cluster) -> EngineMemory | None:
    """Return what the engine takes beside this rank; None where it does not tell."""
    kind = find_engine(recipe.rollout)
    if kind.memory is None:
        return None
    asked = EngineLoad(
        parameters=shape.parameters, position=shape.position, vocabulary=shape.vocabulary, row=load.row,
        context=recipe.model.context or shape.context or load.row, slots=load.slots, gpu=cluster.memory * GIB,
        deepspeed=recipe.update.deepspeed is not None,
    )  # fmt: skip
    return kind.memory(EngineSpec.of(recipe), asked)


def host_bytes(recipe: Recipe, shape: ModelShape, cluster: Cluster, engine: EngineMemory) -> float:
    """Return the host memory of one rank: loading weights, offloaded optimizer, a sleeping engine's weights."""
    trained, _ = trained_and_frozen(shape)
    zero = recipe.update.deepspeed
    offloaded = 16 * trained / cluster.world if zero is not None and zero.offload else 0.0
    return max(4 * shape.parameters, offloaded + engine.host)


def trained_and_frozen(shape: ModelShape) -> tuple[int, int]:
    """Return the numbers of trained and of frozen parameters."""
    return (shape.adapter, shape.parameters) if shape.adapter else (shape.parameters, 0)


def weight_bytes(recipe: Recipe) -> int:
    """Return the bytes of a trained weight: bfloat16 (over float32 masters) with DeepSpeed, else float32."""
    return 2 if recipe.update.bf16 and recipe.update.deepspeed is not None else 4


def stage_of(recipe: Recipe) -> int:
    """Return the ZeRO stage that runs, which is at least 1 in bfloat16."""
    zero = recipe.update.deepspeed
    if zero is None:
        return 0
    return max(zero.stage, 1) if recipe.update.bf16 else zero.stage
