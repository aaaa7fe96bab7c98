"""Prefill and decode steps of the bundled model beside what the machine can do."""

from typing import Any

from workbench.core.records import StepRecord
from workbench.core.sampling_params import SamplingParams
from workbench.llm import LLM
from workbench.roofline import Roofline

BATCHES = (1, 16, 64)
PREFILL = 512
REPEATS = 3


def limits_rooflines() -> list[tuple[str, Roofline]]:
    """Of each kind the step in the middle of some runs.

    Parts are timed right after the run that they belong to, and what counts is how they compare with its forward: a
    machine that grows slower between the two would make a difference that is none.
    """
    found = []
    with LLM(max_num_seqs=max(BATCHES), max_num_batched_tokens=PREFILL) as llm:
        vocab = llm.model.vocab_size
        prompt = {"prompt_token_ids": [3 + 7 * i % (vocab - 3) for i in range(PREFILL)]}
        for name, batch, new in (("prefill", 1, 1), *(("decode", batch, 40) for batch in BATCHES)):
            asked = [prompt] * 3 if name == "prefill" else [{"prompt_token_ids": [5 + i]} for i in range(batch)]
            params = SamplingParams(temperature=0.0, max_tokens=new, ignore_eos=True)
            tokens = PREFILL if name == "prefill" else batch
            what = f"prefill, {PREFILL} tokens" if name == "prefill" else f"decode, batch {batch}"
            runs = []
            for _ in range(REPEATS + 1):  # the first is not counted: it also measures the machine
                first = llm.trace.last_step
                for each in asked if name == "prefill" else [asked]:  # prompts one after another, decoders together
                    llm.reset_prefix_cache()
                    llm.generate(each, params, use_tqdm=False)
                steps = [r for r in llm.trace.records(since=first) if r.num_scheduled_tokens == tokens]
                steps.sort(key=lambda record: record.duration)
                middle: StepRecord = steps[len(steps) // 2]
                runs.append(llm.roofline(middle.step))
            found.append((what, sorted(runs[1:], key=_forward_by_parts)[REPEATS // 2]))
    return found


def _forward_by_parts(roofline: Roofline) -> float:
    """The recorded forward by the sum of its timed parts; 1 where they tell of the same."""
    return roofline.forward_seconds / sum(part.seconds for part in roofline.parts if part.name != "forward")


def limits_rows(rooflines: list[tuple[str, Roofline]]) -> list[dict[str, Any]]:
    """A row for each."""
    rows = []
    for what, roofline in rooflines:
        forward = roofline["forward"]
        row: dict[str, Any] = {
            "step": what,
            "ms": round(sum(roofline.split.values()) * 1e3, 2),
            "outside the forward": f"{roofline.overhead:.0%}",
            "forward / its timed parts": round(_forward_by_parts(roofline), 2),
            "forward, of its limit": f"{forward.reached or 0:.0%}",
            "bound by": forward.bound,
        }
        row |= {f"{part.name}, ms": round(part.seconds * 1e3, 2) for part in roofline.parts if part is not forward}
        limits = roofline.limits
        row |= {
            "copy GB/s": round(limits.copy_bandwidth / 1e9, 1),
            "matmul GFLOP/s": round(limits.matmul_peak / 1e9),
        }
        rows.append(row)
    return rows
