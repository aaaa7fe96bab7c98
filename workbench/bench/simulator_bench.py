"""How fast the simulator is."""

import statistics
import time
from typing import Any

from tqdm import tqdm

from workbench.sim import CostModel, Workload
from workbench.simulate import simulate

USERS = (4, 32, 128)
TOKENS = 1_000_000
COSTS = CostModel((1e-3, 1e-5, 1e-4, 1e-9))


def simulator_rows(rounds: int, tokens: int = TOKENS) -> list[dict[str, Any]]:
    """A row for each number of users in a closed loop; each simulates about `tokens` scheduled tokens, as a user
    would, metrics and memory account included."""
    return [_row(users, rounds, tokens) for users in tqdm(USERS, desc="simulator", delay=1.0, leave=False)]


def _row(users: int, rounds: int, tokens: int) -> dict[str, Any]:
    each = max(1, tokens // (users * 240))  # a request has about 240 tokens
    workload = Workload.closed_loop(
        num_users=users, requests_per_user=each, prompt_len=(16, 160), output_len=(60, 240), seed=1
    )
    seconds = []
    for _ in range(rounds):
        began = time.process_time()
        run = simulate(
            workload,
            cost_model=COSTS,
            max_num_seqs=users,
            max_num_batched_tokens=512,
            max_model_len=512,
            num_gpu_blocks_override=users * 26,
        )
        seconds.append(time.process_time() - began)
    scheduled = sum(record.num_scheduled_tokens for record in run.trace)
    spent = statistics.median(seconds)
    return {
        "users": users,
        "scheduled tokens": scheduled,
        "steps": len(run.trace),
        "CPU seconds": round(spent, 2),
        "tokens per CPU second": round(scheduled / spent),
        "seconds for a million": round(spent / scheduled * 1e6, 2),
        "times faster than the run": round(run.summary()["seconds"] / spent, 1),
    }
