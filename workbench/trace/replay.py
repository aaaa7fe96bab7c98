"""The rule by which a StepRecord leads from one state to the next. The views hold the same rule in TypeScript."""

from collections import OrderedDict

from workbench.core.records import BlockEventKind, RequestState, Snapshot, StepRecord
from workbench.core.scheduler_output import Action, Reason

_JOINS = (Reason.ADMITTED, Reason.RESUMED)


class Replay:
    """A state that moves forward record by record, starting from a snapshot.

    After `apply(record)`, `snapshot()` equals what the engine's scheduler had at the end of that step.
    """

    def __init__(self, start: Snapshot) -> None:
        self.step = start.step
        self._pool = start.pool
        self._tables = {name: list(table) for name, table in start.block_tables.items()}
        self._ref_counts = list(start.ref_counts)
        self._hashes = list(start.block_hashes)
        self._free = OrderedDict.fromkeys(start.free_blocks)
        self._running = list(start.running)
        self._waiting = list(start.waiting)
        self._requests = {name: _Request(state) for name, state in start.requests.items()}

    def apply(self, record: StepRecord) -> None:
        """Go on by one step."""
        self.step = record.step
        self._pool = record.pool
        for arrival in record.arrivals:
            self._requests[arrival.request_id] = _Request(
                RequestState(
                    arrival.request_id,
                    arrival.parent_id,
                    arrival.label,
                    arrival.priority,
                    arrival.time,
                    arrival.max_tokens,
                    arrival.prompt_token_ids,
                    (),
                    0,
                    0,
                )
            )
        for change in record.changes:
            if change.name == "priority" and change.request_id in self._requests:
                self._requests[change.request_id].priority = int(change.value)
        self._apply_decisions(record)
        for kind, block, request_id, other in record.block_events:
            self._apply_block_event(kind, block, request_id, other)
        for sampled in record.sampled:
            self._requests[sampled.request_id].output_token_ids.append(sampled.token_id)
        for ended in record.finished:
            del self._requests[ended.request_id]
            for queue in (self._running, self._waiting):
                if ended.request_id in queue:
                    queue.remove(ended.request_id)

    def snapshot(self) -> Snapshot:
        """The state as a value."""
        order = [*self._running, *self._waiting]
        return Snapshot(
            step=self.step,
            pool=self._pool,
            block_tables={name: tuple(self._tables[name]) for name in self._running},
            ref_counts=tuple(self._ref_counts),
            block_hashes=tuple(self._hashes),
            free_blocks=tuple(self._free),
            waiting=tuple(self._waiting),
            running=tuple(self._running),
            requests={name: self._requests[name].state() for name in order},
        )

    def _apply_decisions(self, record: StepRecord) -> None:
        # Decisions come in the engine's order, so they give both queues; a request that was aborted before the step
        # has none and is in `finished`.
        before = set(self._running)
        running, waiting = [], []
        for decision in record.decisions:
            name, action = decision.request_id, decision.action
            request = self._requests[name]
            if action == Action.PREEMPT:
                request.num_computed_tokens = 0
                request.num_preemptions += 1
                waiting.append(name)
            elif decision.reason in _JOINS or name in before:
                request.num_computed_tokens = decision.num_computed + decision.num_tokens
                running.append(name)
            else:
                waiting.append(name)
        self._running, self._waiting = running, waiting

    def _apply_block_event(self, kind: str, block: int, request_id: str, other: str) -> None:
        if kind == BlockEventKind.ALLOCATE:
            self._take(block)
            self._tables.setdefault(request_id, []).append(block)
        elif kind == BlockEventKind.SHARE:
            self._free.pop(block, None)
            self._ref_counts[block] += 1
            self._tables.setdefault(request_id, []).append(block)
        elif kind == BlockEventKind.FREE:
            table = self._tables[request_id]
            table.remove(block)
            if not table:
                del self._tables[request_id]
            self._drop(block)
        elif kind == BlockEventKind.COPY:
            self._take(block)
            table = self._tables[request_id]
            table[table.index(int(other))] = block
            self._drop(int(other))
        elif kind == BlockEventKind.CACHE:
            self._hashes[block] = other
        elif kind == BlockEventKind.EVICT:
            self._hashes[block] = ""
            if block in self._free:
                self._free.move_to_end(block, last=False)
        elif kind == BlockEventKind.MOVE:
            self._move(int(other), block)
        else:
            self._resize(block)

    def _move(self, block: int, place: int) -> None:
        del self._free[place]
        self._free = OrderedDict.fromkeys(place if free == block else free for free in self._free)
        self._ref_counts[place], self._hashes[place] = self._ref_counts[block], self._hashes[block]
        self._ref_counts[block], self._hashes[block] = 0, ""
        self._free[block] = None
        self._free.move_to_end(block, last=False)
        for table in self._tables.values():
            if block in table:
                table[table.index(block)] = place

    def _resize(self, num_blocks: int) -> None:
        added = range(len(self._ref_counts), num_blocks)
        self._free = OrderedDict.fromkeys([*added, *(block for block in self._free if block < num_blocks)])
        self._ref_counts = [*self._ref_counts[:num_blocks], *(0 for _ in added)]
        self._hashes = [*self._hashes[:num_blocks], *("" for _ in added)]

    def _take(self, block: int) -> None:
        del self._free[block]
        self._ref_counts[block] = 1

    def _drop(self, block: int) -> None:
        self._ref_counts[block] -= 1
        if self._ref_counts[block] == 0:
            self._free[block] = None
            if not self._hashes[block]:
                self._free.move_to_end(block, last=False)


class _Request:
    """A RequestState that moves on."""

    __slots__ = ("_start", "num_computed_tokens", "num_preemptions", "output_token_ids", "priority")

    def __init__(self, start: RequestState) -> None:
        self._start = start
        self.priority = start.priority
        self.output_token_ids = list(start.output_token_ids)
        self.num_computed_tokens = start.num_computed_tokens
        self.num_preemptions = start.num_preemptions

    def state(self) -> RequestState:
        """What it is now."""
        return self._start._replace(
            priority=self.priority,
            output_token_ids=tuple(self.output_token_ids),
            num_computed_tokens=self.num_computed_tokens,
            num_preemptions=self.num_preemptions,
        )
