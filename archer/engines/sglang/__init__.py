"""Rollouts by SGLang servers that run elsewhere. Needs no SGLang here.

What is relied on, and where it is from:

- ``POST /generate`` takes ``input_ids``, ``sampling_params`` (``max_new_tokens``, ``stop_token_ids``, ``temperature``,
  ``top_p``, ``top_k`` with -1 for all, ``min_p``, penalties) and ``return_logprob``; what is left out comes from the
  model's own generation_config.json. SGLang's docs/basic_usage/sampling_params.md.
- The reply has ``output_ids``, and in ``meta_info`` ``finish_reason`` (``{"type": "stop" | "length" | "abort"}``),
  ``output_token_logprobs`` (``[log-prob, id, text or null]`` by token) and ``weight_version``. SGLang's
  docs/basic_usage/native_api.md, and tests of projects that read it.
- Log-probs are of softmax(logits / temperature), before top-p, top-k and min-p: what Archer trains on, whose recipes
  leave top-p and top-k at 1 and 0. A server started with ``SGLANG_RETURN_ORIGINAL_LOGPROB`` gives those of temperature
  1 instead, and does not say so. SGLang's pull request 8375 and its sampler.
- ``sampling_seed`` is honoured under ``--enable-deterministic-inference`` alone.
  SGLang's docs/advanced_features/deterministic_inference.md.
- ``POST /pause_generation``, ``/update_weights_from_disk`` (``model_path``, ``weight_version``, ``flush_cache``; it
  replies ``{"success": ..., "message": ...}``), ``/continue_generation``, in this order; ``GET /get_model_info``
  tells ``model_path`` and ``weight_version``. SGLang's docs/advanced_features/sglang_for_rl.md and native_api.md.
- A server counts the tokens of a response when it ends (``sglang:generation_tokens_total``), so a deadline is a whole
  response's.
"""
