"""Runs in vLLM's own environment, started by vllm_peer.py with that environment's Python: no import of ours here.

Arguments: the model's folder, its number type, the most requests at once. Answers on what was standard output, a line
of JSON each; whatever vLLM prints goes to standard error. First {"version": ...}, then for each line
{"items": [[token ids, new tokens], ...]} how long that took: {"seconds": ..., "lengths": [...], "first": [...]}, with
the seconds from handing over to the first token of each request.
"""

import json
import os
import sys
import time
from typing import Any


def main(folder: str, dtype: str, max_num_seqs: int) -> None:
    """Serve until standard input ends."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    import vllm  # type: ignore[import-not-found, unused-ignore]

    llm = vllm.LLM(
        model=folder,
        dtype=dtype,
        max_num_seqs=max_num_seqs,
        max_num_batched_tokens=2048,
        skip_tokenizer_init=True,
        enable_prefix_caching=False,
        disable_log_stats=True,
    )
    print(json.dumps({"version": vllm.__version__}), file=answers)
    for line in sys.stdin:
        print(json.dumps(run(vllm, llm.llm_engine, json.loads(line)["items"])), file=answers)


def run(vllm: Any, engine: Any, items: list[tuple[list[int], int]]) -> dict[str, Any]:
    """All requests at once, greedy, end of sequence ignored."""
    began = time.perf_counter()
    added, first, lengths = {}, {}, {}
    for index, (token_ids, count) in enumerate(items):
        name = f"{began}-{index}"
        params = vllm.SamplingParams(
            max_tokens=count, min_tokens=count, temperature=0.0, ignore_eos=True, detokenize=False
        )
        added[name] = time.perf_counter()
        engine.add_request(name, {"prompt_token_ids": token_ids}, params)
    while engine.has_unfinished_requests():
        for output in engine.step():
            lengths[output.request_id] = len(output.outputs[0].token_ids)
            if lengths[output.request_id] and output.request_id not in first:
                first[output.request_id] = time.perf_counter() - added[output.request_id]
    seconds = time.perf_counter() - began
    return {
        "seconds": seconds,
        "lengths": [lengths.get(name, 0) for name in added],
        "first": [first.get(name, 0.0) for name in added],
    }


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
