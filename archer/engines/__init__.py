"""Engines sample responses with their log-probs: natively, by vLLM or SGLang, by any OpenAI-compatible
server, or from a script.

In: an ``EngineSpec``, a queue of requests, and how to sample. Out: ``Rollout`` records, for training and evaluation.
May use: models, recipe and below. ``ENGINES`` names those that a recipe may ask for.
"""

from __future__ import annotations

from transformers import PreTrainedModel

from archer.distributed import Ranks
from archer.engines.base import Engine
from archer.engines.kind import EngineKind
from archer.engines.native.kind import NATIVE
from archer.engines.sglang.kind import SGLANG
from archer.engines.spec import EngineSpec
from archer.engines.vllm_kind import VLLM
from archer.errors import RecipeError, UserError
from archer.parts import find_part
from archer.recipe.sections import RolloutSection

ENGINES: dict[str, EngineKind] = {"native": NATIVE, "vllm": VLLM, "sglang": SGLANG}


def find_engine(rollout: RolloutSection) -> EngineKind:
    """Return the engine that ``rollout.engine`` names. Raises RecipeError where it is none."""
    name = rollout.engine
    try:
        found = find_part("engines", name, ENGINES)
    except UserError as error:
        raise RecipeError(f"rollout.engine: {error}") from error
    kind = found if isinstance(found, EngineKind) else EngineKind(found)
    if not callable(kind.open):
        raise RecipeError(f"rollout.engine: {name}: expected an EngineKind or a function, found {found!r}")
    if rollout.engine_options and not kind.options:
        raise RecipeError(
            f"rollout.engine_options: {dict(rollout.engine_options)}: are those of an engine of your own; {name} reads "
            "the other keys of rollout (`archer recipe --keys`)"
        )
    return kind


def open_engine(spec: EngineSpec, model: PreTrainedModel | None = None, ranks: Ranks | None = None) -> Engine:
    """Return the engine that ``spec`` describes.

    The native engine samples from ``model``, which the trainer updates in place; without ``model`` it loads its own
    weights, which :meth:`~archer.engines.base.Engine.load` replaces. Raises RecipeError for an engine that there is
    not, MissingError if the engine's package is not installed.
    """
    return find_engine(spec.rollout).open(spec, model, ranks or Ranks())
