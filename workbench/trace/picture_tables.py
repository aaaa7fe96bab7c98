"""The tables of a still picture: what a view of requests says of each of them."""

from collections.abc import Sequence

from workbench.core.records import Snapshot, StepRecord
from workbench.trace.metrics import measure
from workbench.trace.trace import Trace

MAX_REQUESTS = 12  # the newest
MAX_TEXT = 600  # characters of a prompt and of an answer

Table = tuple[tuple[str, ...], ...]


def requests_table(trace: Trace, state: Snapshot, records: Sequence[StepRecord]) -> Table:
    """Each request's state and its numbers; the first row is the header."""
    del trace
    measured = measure(records)
    labels = {a.request_id: a.label for record in records for a in record.arrivals}
    rows: list[tuple[str, ...]] = [
        ("request", "prompt", "state", "prompt tokens", "output tokens", "KV blocks", "first token")
    ]
    for name in list(measured)[-MAX_REQUESTS:]:
        m = measured[name]
        phase = m.finish_reason or ("running" if name in state.running else "waiting")
        ttft = "–" if m.ttft is None else f"{m.ttft * 1e3:.2f} ms"
        counts = (f"{n:,}" for n in (m.num_prompt_tokens, m.num_output_tokens, len(state.block_tables.get(name, ()))))
        rows.append((name, labels[name], phase, *counts, ttft))
    return _table(rows, len(measured))


def playground_table(trace: Trace, state: Snapshot, records: Sequence[StepRecord]) -> Table:
    """Prompts and answers as text; the first row is the header."""
    del state
    read = trace.token_text or (lambda token: f"<{token}>")
    arrivals = [a for record in records for a in record.arrivals]
    shown = {a.request_id: a for a in arrivals[-MAX_REQUESTS:]}
    answers: dict[str, list[str]] = {name: [] for name in shown}
    for record in records:
        for sampled in record.sampled:
            if sampled.request_id in answers:
                answers[sampled.request_id].append(read(sampled.token_id))
    rows: list[tuple[str, ...]] = [("request", "prompt", "answer")]
    for name, arrival in shown.items():
        prompt = "".join(read(token) for token in arrival.prompt_token_ids)
        start = max(0, prompt.find(arrival.label.partition(" ")[0]))  # behind tokens that the tokenizer put first
        rows.append((name, _short(prompt[start:]), _short("".join(answers[name]))))
    return _table(rows, len(arrivals))


def _table(rows: list[tuple[str, ...]], total: int) -> Table:
    """Nothing where there is no request; a word on those that are left out."""
    if len(rows) == 1:
        return ()
    left_out = total - (len(rows) - 1)
    more = [(f"{left_out:,} earlier ones", *("" for _ in rows[0][1:]))] if left_out else []
    return (rows[0], *more, *rows[1:])


def _short(text: str) -> str:
    return text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}…"


TABLES = {"dashboard": playground_table, "playground": playground_table, "requests": requests_table}
