"""Rollout engines: prompts in, sampled responses with their log-probs out."""

from archer.engines.native import Native

ENGINES = {"native": Native}
