"""vLLM's side of perf/decode.py: runs under vLLM's own interpreter, without archer.

The first line of standard input is the task; for each further line all prompts are answered once.
"""

from __future__ import annotations

import json
import sys


def main() -> None:
    """Load the model, then decode whenever told to."""
    from vllm import LLM, SamplingParams

    task = json.loads(sys.stdin.readline())
    llm = LLM(
        model=task["model"], dtype=task["dtype"], skip_tokenizer_init=True, max_model_len=task["width"],
        max_num_seqs=len(task["prompts"]), enforce_eager=task["dtype"] == "float32",
    )  # fmt: skip
    sampling = SamplingParams(temperature=1.0, max_tokens=task["new"], ignore_eos=True, detokenize=False)
    prompts = [{"prompt_token_ids": prompt} for prompt in task["prompts"]]
    print("decoded 0", flush=True)
    for _ in sys.stdin:
        outputs = llm.generate(prompts, sampling, use_tqdm=False)
        print(f"decoded {sum(len(one.outputs[0].token_ids) for one in outputs)}", flush=True)


if __name__ == "__main__":
    main()
