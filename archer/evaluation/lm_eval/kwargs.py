"""The ``generation_kwargs`` of an lm-eval task, read strictly: an unknown key raises."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from archer.errors import UserError, did_you_mean
from archer.recipe.config import merged
from archer.types import Json, Sampling

LENGTHS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")  # four names for one limit
NEUTRAL = {"repetition_penalty": 1.0, "num_beams": 1}  # allowed with these values only
KNOWN = ("until", "do_sample", "temperature", "top_p", "top_k", *LENGTHS, *NEUTRAL)
DEFAULT_LENGTH = 256  # lm-eval's own default


@dataclass(frozen=True)
class GenerationSettings:
    """How responses are sampled, and the strings that end one."""

    sampling: Sampling
    until: tuple[str, ...] = ()


def read_settings(task: str, kwargs: Mapping[str, Json], changes: Mapping[str, Json]) -> GenerationSettings:
    """Return a task's ``generation_kwargs`` as settings; the recipe's ``changes`` replace values of its sampling.

    As in lm-eval, ``do_sample: false`` is greedy whatever the temperature, and without ``do_sample`` a temperature
    above 0 samples. Sampling without a temperature uses 1, and without ``top_k`` all tokens.

    Raises UserError for values that are unknown, unsupported or contradict each other.
    """
    for key, value in kwargs.items():
        if key not in KNOWN:
            raise UserError(f"{task}: generation_kwargs: unknown key {key!r}{did_you_mean(key, KNOWN)}")
        if key in NEUTRAL and value != NEUTRAL[key]:
            raise UserError(f"{task}: generation_kwargs: {key}: {value}: only {NEUTRAL[key]} is supported")
    lengths = {int(kwargs[name]) for name in LENGTHS if kwargs.get(name) is not None}
    if len(lengths) > 1:
        raise UserError(f"{task}: generation_kwargs: {' and '.join(LENGTHS)} disagree: {sorted(lengths)}; keep one")
    until = kwargs.get("until") or []
    texts = tuple(text for text in ([until] if isinstance(until, str) else until) if text)
    sampling = _sampling(task, kwargs, lengths.pop() if lengths else DEFAULT_LENGTH)
    return GenerationSettings(merged(sampling, changes, f"{task}: evaluate: sampling"), texts)


def _sampling(task: str, kwargs: Mapping[str, Json], length: int) -> Sampling:
    given = {key: float(kwargs[key]) for key in ("temperature", "top_p", "top_k") if kwargs.get(key) is not None}
    do_sample = kwargs.get("do_sample")
    if do_sample is None:
        do_sample = given.get("temperature", 0.0) > 0
    sampling = Sampling(given.get("temperature", 1.0), given.get("top_p", 1.0), int(given.get("top_k", 0)), length)
    if not do_sample:
        sampling = Sampling(0.0, max_tokens=length)
    elif sampling.temperature == 0:
        raise UserError(f"{task}: generation_kwargs: do_sample: true at temperature 0; set one or the other")
    if sampling.temperature < 0 or not 0 < sampling.top_p <= 1 or sampling.max_tokens < 1:
        raise UserError(f"{task}: generation_kwargs: {dict(kwargs)}: a value is out of its range")
    return replace(sampling, top_k=max(sampling.top_k, 0))  # -1 also means all tokens
