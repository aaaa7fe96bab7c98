"""The waste meter: KV memory that was held beside KV memory that stored a token, in a run that was recorded."""

import html

from workbench.core.records import Snapshot
from workbench.core.units import size_text
from workbench.sim.memory_account import (
    SCHEMES,
    MemorySample,
    held_by,
    next_power_of_two,
    used_and_empty,
    wasted_share,
)
from workbench.tables import html_table, text_table
from workbench.trace import Trace
from workbench.trace.replay import Replay

_HEADER = ("KV memory", "held, mean", "at most", "held for nothing", "")
_WORDS = {
    "paged": "in blocks, as it was",
    "contiguous_exact": "in one piece, for the true length",
    "contiguous_pow2": "in one piece, for the next power of two",
    "contiguous_max": "in one piece, for max_model_len",
}
_BAR = 24


class Waste:
    """One MemorySample for each recorded step in which somebody held memory, as it was after the step.

    In one piece means what such an allocator would have reserved for the same requests, were there room for it. A
    request that has not ended counts with the tokens that it has so far. bytes_per_token: K and V as they are stored.
    """

    def __init__(self, samples: tuple[MemorySample, ...], steps: tuple[int, ...], bytes_per_token: int) -> None:
        self.samples = samples
        self.steps = steps
        self.bytes_per_token = bytes_per_token

    def share(self, scheme: str = "paged") -> float:
        """Of the memory held, averaged over time, the share that stored nothing. scheme: see SCHEMES."""
        return wasted_share(self.samples, scheme)

    def held_bytes(self, scheme: str = "paged") -> float:
        """Bytes held, averaged over the time of the steps."""
        seconds = sum(s.seconds for s in self.samples)
        held = sum(held_by(s, scheme) * s.seconds for s in self.samples)
        return self.bytes_per_token * held / seconds if seconds else 0.0

    def used_bytes(self) -> float:
        """Bytes of blocks that stored a token, averaged over the time of the steps."""
        return self.held_bytes() * (1 - self.share())

    def _lines(self) -> list[tuple[str, ...]]:
        largest = max((self.held_bytes(scheme) for scheme in SCHEMES), default=0.0) or 1.0
        lines = []
        for scheme in SCHEMES:
            held, share = self.held_bytes(scheme), self.share(scheme)
            most = max((held_by(s, scheme) for s in self.samples), default=0) * self.bytes_per_token
            width = round(_BAR * held / largest)
            used = round(width * (1 - share))
            bar = "█" * used + "░" * (width - used)
            lines.append((_WORDS[scheme], size_text(held), size_text(most), f"{share:.1%}", bar))
        return lines

    def _title(self) -> str:
        if not self.samples:
            return "Waste: no step is recorded in which a request held KV memory"
        return f"Waste over {len(self.samples)} steps; dark is what stored a token"

    def __repr__(self) -> str:
        return f"{self._title()}\n{text_table(_HEADER, self._lines())}" if self.samples else self._title()

    def _repr_html_(self) -> str:
        table = html_table(_HEADER, self._lines()) if self.samples else ""
        return f"<b>{html.escape(self._title())}</b>{table}"


def waste_of(trace: Trace) -> Waste:
    """Account for every step that the trace holds."""
    records = trace.records()
    start = trace.at(trace.first_step - 1) if records else trace.at()
    outputs = {name: len(request.output_token_ids) for name, request in start.requests.items()}
    for record in records:
        for sampled in record.sampled:
            outputs[sampled.request_id] = outputs.get(sampled.request_id, 0) + 1
    longest, replay = int((trace.info or {}).get("max_model_len", 0)), Replay(start)
    samples, steps = [], []
    for record in records:
        replay.apply(record)
        if record.num_free_blocks == record.pool.num_blocks:
            continue
        samples.append(_sample(replay.snapshot(), outputs, longest, record.time, record.duration))
        steps.append(record.step)
    pool = records[-1].pool if records else start.pool
    return Waste(tuple(samples), tuple(steps), pool.bytes_per_block // pool.block_size)


def _sample(state: Snapshot, outputs: dict[str, int], longest: int, time: float, seconds: float) -> MemorySample:
    size, exact, pow2, rows = state.block_size, 0, 0, []
    for name in state.running:
        request, output = state.requests[name], max(1, outputs.get(name, 0))
        rows.append((state.block_tables[name], request.num_computed_tokens))
        exact += len(request.prompt_token_ids) + output
        pow2 += len(request.prompt_token_ids) + next_power_of_two(output)
    used, empty = used_and_empty(rows, state.ref_counts, size)
    held = (state.num_blocks - len(state.free_blocks)) * size
    return MemorySample(time, seconds, held, held - empty, used, exact, pow2, len(state.running) * longest)
