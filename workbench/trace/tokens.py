"""Which tokens a piece of a trace names, so that their texts can travel with it."""

from collections.abc import Iterable

from workbench.core.records import Snapshot, StepRecord
from workbench.core.rows import as_sampled


def tokens_in(records: Iterable[StepRecord], base: Snapshot | None = None) -> set[int]:
    """Ids of prompt tokens, sampled tokens and alternatives."""
    found: set[int] = set()
    for state in base.requests.values() if base is not None else ():
        found.update(state.prompt_token_ids, state.output_token_ids)
    for record in records:
        for arrival in record.arrivals:
            found.update(arrival.prompt_token_ids)
        sampled = as_sampled(record.sampled)
        found.update(sampled.token_ids)
        for _, alternatives in sampled.logprobs.values():
            found.update(token for token, _ in alternatives)
    return found
