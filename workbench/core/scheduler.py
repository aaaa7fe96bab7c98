"""The scheduler: who computes how many tokens in the next step, and why. START HERE.

`schedule()` returns a frozen plan, `update()` takes what the runner sampled; nothing here does I/O, reads a clock or
draws a random number. Everything is scheduled by one quantity, tokens still to compute (the idea of vLLM's v1
scheduler), so chunked prefill, prefix hits and resumed requests need no modes of their own.

One step, in order:
1. Running requests, in policy order. Each gets what the token budget leaves. Where blocks are short, the policy picks
   a victim among those not yet served; it loses all its blocks and is recomputed later.
2. Waiting requests, in policy order, until one cannot be admitted; the rest wait behind it. Nobody is admitted in a
   step that preempted somebody. A request is admitted only if the free blocks can take its whole prompt.
"""

import hashlib
from bisect import insort
from collections.abc import Iterable, Sequence
from operator import attrgetter
from typing import NamedTuple

from workbench.core.config import SchedulerConfig
from workbench.core.errors import (
    DoesNotFitError,
    EmptyPromptError,
    InvalidRequestError,
    PromptTooLongError,
    RequestNeverFitsError,
    TokenOutOfVocabularyError,
    WorkbenchError,
)
from workbench.core.frozen import FrozenState
from workbench.core.kv_cache_manager import KVCacheManager
from workbench.core.policy import Policy
from workbench.core.policy_guard import Key, PolicyGuard
from workbench.core.records import (
    Arrival,
    BlockEvent,
    Finished,
    RequestState,
    SettingChange,
    Snapshot,
    StepRecord,
    StepTimes,
)
from workbench.core.request import Request, RequestStatus
from workbench.core.rows import NOTHING_SAMPLED, Decisions, Packer, SampledTokens
from workbench.core.sampling_params import SamplingParams
from workbench.core.scheduler_output import (
    Action,
    BlockCopy,
    Decision,
    NewRequest,
    Reason,
    SampledToken,
    ScheduledRequest,
    SchedulerOutput,
)

_sort_key = attrgetter("sort_key")
_new = tuple.__new__  # a named tuple's own constructor takes twice as long


class StepEvents(NamedTuple):
    """What happened since the events were last taken; goes into the step's record."""

    arrivals: tuple[Arrival, ...]
    block_events: tuple[BlockEvent, ...]
    sampled: SampledTokens
    finished: tuple[Finished, ...]


class Scheduler:
    """Queues, block tables and the rules above. Not thread-safe: the engine's thread alone calls it."""

    def __init__(self, config: SchedulerConfig, policy: Policy) -> None:
        self.config = config
        self.guard = PolicyGuard(policy)
        self.kv = KVCacheManager(config.num_blocks, config.block_size, config.enable_prefix_caching)
        self.waiting: list[Request] = []
        self.running: list[Request] = []
        self.requests: dict[str, Request] = {}
        self.num_steps = 0
        self._pool_shape = config.pool
        self._num_arrivals = 0
        self._arrivals: list[Arrival] = []
        self._sampled: SampledTokens = NOTHING_SAMPLED
        self._packers = (Packer(), Packer())  # of decisions and of sampled tokens
        self._finished: list[Finished] = []
        self._dropped: list[str] = []
        self._pool_decisions: dict[str, Decision] = {}  # of requests that a changed pool preempted, until hold()
        self._pool_setting = ""

    def has_unfinished(self) -> bool:
        """True while a request is waiting or running."""
        return bool(self.requests)

    def check_request(self, prompt_token_ids: Sequence[int], params: SamplingParams) -> int:
        """Check a request against the settings and return its max_tokens, resolved.

        Raises EmptyPromptError, TokenOutOfVocabularyError, PromptTooLongError or RequestNeverFitsError, each with the
        arithmetic. With max_tokens=None the output may fill max_model_len or the pool, whichever is less.
        """
        cfg, length = self.config, len(prompt_token_ids)
        self.check_prompt(prompt_token_ids)
        # The newest token never needs KV of its own, so a pool of P tokens serves prompt + output = P + 1.
        room = min(cfg.max_model_len, cfg.pool_tokens + 1) - length
        if params.max_tokens is None:
            if room < max(1, params.min_tokens):
                raise self._never_fits(length, max(1, params.min_tokens))
            return room
        max_tokens = min(params.max_tokens, cfg.max_model_len - length)
        if max_tokens > room:
            raise self._never_fits(length, max_tokens)
        if params.min_tokens > max_tokens:
            raise InvalidRequestError(
                f"min_tokens={params.min_tokens} cannot be reached: a prompt of {length} tokens leaves {max_tokens} "
                f"under max_model_len={cfg.max_model_len}"
            )
        return max_tokens

    def check_prompt(self, prompt_token_ids: Sequence[int]) -> None:
        """Raise EmptyPromptError, TokenOutOfVocabularyError or PromptTooLongError for what the model cannot read."""
        cfg, length = self.config, len(prompt_token_ids)
        if length == 0:
            raise EmptyPromptError("the prompt has no tokens; give at least one")
        for token in prompt_token_ids:
            if isinstance(token, bool) or not isinstance(token, int) or not 0 <= token < cfg.vocab_size:
                raise TokenOutOfVocabularyError(
                    f"prompt token id {token!r} is outside the vocabulary, 0 to {cfg.vocab_size - 1}"
                )
        if length >= cfg.max_model_len:
            raise PromptTooLongError(
                f"the prompt has {length} tokens and max_model_len={cfg.max_model_len} must also hold one new token; "
                "shorten the prompt or raise max_model_len"
            )

    def add_request(
        self,
        request_id: str,
        prompt_token_ids: Sequence[int],
        params: SamplingParams,
        *,
        arrival_time: float,
        priority: int = 0,
        label: str = "",
    ) -> list[Request]:
        """Queue a request: params.n sequences, named request_id, or request_id.0, request_id.1, ... when n > 1.

        Either all are queued or, when check_request raises, none.
        """
        max_tokens = self.check_request(prompt_token_ids, params)
        prompt = tuple(prompt_token_ids)
        names = [request_id] if params.n == 1 else [f"{request_id}.{i}" for i in range(params.n)]
        if any(name in self.requests for name in names):
            raise InvalidRequestError(f"a request named {request_id!r} is alive already; choose another id")
        ending = frozenset(params.stop_token_ids) | frozenset(() if params.ignore_eos else self.config.eos_token_ids)
        made: list[Request] = []
        for index, name in enumerate(names):
            request = Request(
                name,
                prompt,
                params,
                arrival_time=arrival_time,
                arrival_seq=self._num_arrivals,
                max_tokens=max_tokens,
                seed=self._seed(params, index),
                priority=priority,
                parent_id=request_id,
                leader=made[0] if made else None,
                label=label,
                ending_tokens=ending,
            )
            self._num_arrivals += 1
            self.requests[name] = request
            self._enqueue(request)
            self._arrivals.append(Arrival(name, arrival_time, prompt, max_tokens, priority, request_id, label))
            made.append(request)
        return made

    def schedule(self) -> SchedulerOutput:
        """Plan the next step. Running requests come first in `decisions`, then the waiting queue in its order."""
        if self.guard.settle():
            self._sort_queues(self.guard.keys(list(self.requests.values())))
        step = _Step(self.config.max_num_batched_tokens)
        self._schedule_running(step)
        self._schedule_waiting(step)
        if not step.scheduled and not step.preempted and step.decisions:
            self.guard.nobody_ran()
        dropped, self._dropped = tuple(self._dropped), []
        output = SchedulerOutput(
            step=self.num_steps,
            decisions=self._decisions(step),
            scheduled=tuple(step.scheduled),
            new_requests=tuple(step.new_requests),
            copies=tuple(step.copies),
            dropped=dropped,
            num_scheduled_tokens=self.config.max_num_batched_tokens - step.budget,
        )
        self.num_steps += 1
        return output

    def hold(self) -> SchedulerOutput:
        """A plan in which nobody runs: for what changed while the engine is paused or idle, or for a changed pool."""
        reason, setting = Reason.RECONFIGURED if self._pool_setting else Reason.PAUSED, self._pool_setting
        decisions = tuple(
            self._pool_decisions.get(r.request_id)
            or Decision(r.request_id, Action.WAIT, reason, num_computed=r.num_computed_tokens, other=setting)
            for r in [*self.running, *self.waiting]
        )
        self._pool_decisions, self._pool_setting = {}, ""
        dropped, self._dropped = tuple(self._dropped), []
        output = SchedulerOutput(self.num_steps, decisions, (), (), (), dropped, 0)
        self.num_steps += 1
        return output

    def update(
        self,
        plan: SchedulerOutput,
        sampled: dict[str, SampledToken],
        text_stops: dict[str, str],
        errors: dict[str, str],
    ) -> None:
        """Take a step's results. text_stops: request id -> the stop string its text reached. errors: id -> message."""
        names, tokens, positions, details = [], [], [], {}
        for name, token_ids, before, _, _, sample in plan.scheduled:
            request = self.requests.get(name)
            if request is None:
                raise WorkbenchError(f"the plan names {name}, which is not alive")
            if name in errors:
                self._finish(request, "error", errors[name])
                continue
            after = request.num_computed_tokens = before + len(token_ids)
            quiet = after < request.quiet_until and len(token_ids) == 1
            if not quiet:
                self.kv.cache_full_blocks(request, before)
            if not sample:
                continue
            token, logprob, alternatives = sampled[name]
            request.token_ids.append(token)
            names.append(name)
            tokens.append(token)
            positions.append(after - request.num_prompt_tokens)
            if logprob is not None:
                details[len(names) - 1] = (logprob, alternatives)
            if not quiet or token in request.ending_tokens or name in text_stops:
                self._check_stop(request, token, text_stops.get(name))
        self._sampled = SampledTokens(self._packers[1].ids(names), tokens, positions, details)

    def fail(self, plan: SchedulerOutput, message: str) -> None:
        """End every request of a plan that could not be run, with finish_reason "error"; the others go on."""
        for item in plan.scheduled:
            self._finish(self.requests[item.request_id], "error", message)

    def abort(self, request_ids: Iterable[str], reason: str = "abort", detail: str = "") -> list[str]:
        """End requests that are still alive and return their ids; names of finished ones are passed over."""
        ended = []
        for request_id in request_ids:
            request = self.requests.get(request_id)
            if request is not None:
                self._finish(request, reason, detail)
                ended.append(request_id)
        return ended

    def has_events(self) -> bool:
        """True if something happened that no record holds yet."""
        return bool(self._arrivals or self._finished or self.kv.pool.events or self._sampled)

    def take_events(self) -> StepEvents:
        """Everything that happened since the last call, in order, once."""
        events = StepEvents(tuple(self._arrivals), tuple(self.kv.pool.events), self._sampled, tuple(self._finished))
        self._arrivals, self._sampled, self._finished, self.kv.pool.events = [], NOTHING_SAMPLED, [], []
        return events

    def record(
        self, plan: SchedulerOutput, time: float, times: StepTimes, changes: tuple[SettingChange, ...] = ()
    ) -> StepRecord:
        """The record of a plan that was carried out, with everything that happened since the last one."""
        events = self.take_events()
        return StepRecord(
            step=plan.step,
            time=time,
            times=times,
            arrivals=events.arrivals,
            decisions=plan.decisions,
            block_events=events.block_events,
            sampled=events.sampled,
            finished=events.finished,
            changes=changes,
            num_scheduled_tokens=plan.num_scheduled_tokens,
            token_budget=self.config.max_num_batched_tokens,
            max_num_seqs=self.config.max_num_seqs,
            num_free_blocks=self.kv.pool.num_free,
            pool=self._pool_shape,
        )

    def check_pool(self, config: SchedulerConfig) -> None:
        """Raise DoesNotFitError if a live request could never be finished in the pool of `config`."""
        size, largest, need = config.block_size, None, config.num_blocks
        for request in self.requests.values():
            blocks = -(-(request.num_prompt_tokens + request.max_tokens - 1) // size)
            if blocks > need:
                largest, need = request, blocks
        if largest is not None:
            per_block = config.kv_bytes_per_block
            size_in_bytes = {"kv_cache_memory_bytes": need * per_block}
            raise DoesNotFitError(
                f"{largest.request_id} may grow to {largest.num_prompt_tokens} prompt tokens + "
                f"{largest.max_tokens} new tokens, which need {need} blocks of {size} tokens, and the pool would have "
                f"{config.num_blocks}",
                need,
                config.num_blocks,
                f"keep at least {need} blocks, or cancel {largest.request_id}",
                size_in_bytes if per_block else {"num_gpu_blocks_override": need},
            )

    def preview_pool(self, config: SchedulerConfig, recompute: bool) -> tuple[list[str], int]:
        """What change_pool would cost: the requests that it would preempt, and how many cached blocks would go."""
        pool, goes = self.kv.pool, self.kv.pool.num_blocks - config.num_blocks
        if recompute:
            return [r.request_id for r in self.running], len(pool.cached)
        free, cached = pool.num_free, pool.num_cached_free
        left, refs, victims = list(self.running), dict[int, int](), []
        while goes > free:
            victim = self.guard.victim(left)
            left.remove(victim)
            victims.append(victim.request_id)
            for block in self.kv.tables[victim.request_id]:
                refs[block] = refs.get(block, pool.ref_counts[block]) - 1
                if refs[block] == 0:
                    free += 1
                    cached += pool.hashes[block] is not None
        return victims, max(0, goes - (free - cached))

    def change_pool(self, config: SchedulerConfig, setting: str, recompute: bool = False) -> tuple[BlockCopy, ...]:
        """Put another pool in force, of the size and kind that config says; hold() then makes the plan that tells.

        A smaller pool loses empty blocks first, then cached ones, then those of requests that the policy picks to be
        preempted. With recompute (needed for another block_size, kv_cache_dtype or weights) all running requests are
        preempted and the prefix cache is emptied. No request is lost; returns the blocks to copy in the runner's
        memory. setting: "name=value", for the decisions. Raises DoesNotFitError as check_pool does.
        """
        self.check_pool(config)
        pool = self.kv.pool
        if recompute:
            while self.running:
                self._preempt_for_pool(self.running[-1], 0, setting)
            pool.reset_cache()
        if config.block_size != self.config.block_size:
            for request in self.requests.values():
                request.block_hashes.clear()
        goes = pool.num_blocks - config.num_blocks
        while goes > pool.num_free:
            self._preempt_for_pool(self.guard.victim(self.running), goes, setting)
        moves = self.kv.resize(config.num_blocks)
        self.kv.block_size = config.block_size
        self.config = self.config.with_pool(config.pool)
        self._pool_shape = config.pool
        self._pool_setting = setting
        return moves

    def configure(self, config: SchedulerConfig) -> None:
        """Put other limits in force from the next step on. The pool's own shape changes with change_pool."""
        if config.pool != self.config.pool:
            raise WorkbenchError("the pool's shape is changed with change_pool")
        self.config = config
        self.kv.enable_prefix_caching = config.enable_prefix_caching
        if not config.enable_prefix_caching:
            self.kv.pool.reset_cache()

    @property
    def policy(self) -> Policy:
        """The policy in force."""
        return self.guard.policy

    def set_policy(self, policy: Policy) -> None:
        """Order both queues by another policy from now on.

        Raises PolicyError, with the previous policy still in force, if its keys cannot be had or compared. A policy
        that fails later is taken off in favour of the one before it; `guard.failure` tells.
        """
        self._sort_queues(self.guard.change(policy, self.requests.values()))

    def set_priority(self, request_id: str, priority: int) -> bool:
        """Change a live request's priority; False if there is none of that name. Counts under a policy that looks."""
        request = self.requests.get(request_id)
        if request is None:
            return False
        request.priority = priority
        self._sort_queues(self.guard.keys(list(self.requests.values())))
        return True

    def move_to_front(self, request_id: str) -> bool:
        """Treat a waiting request as the first to have arrived; False if none of that name waits."""
        request = self.requests.get(request_id)
        if request is None or request not in self.waiting:
            return False
        request.arrival_seq = min(r.arrival_seq for r in self.requests.values()) - 1
        self._sort_queues(self.guard.keys(list(self.requests.values())))
        return True

    def snapshot(self) -> Snapshot:
        """The present state as a value; `step` is the last one planned (-1 before the first)."""
        return self.freeze().snapshot()

    def freeze(self) -> FrozenState:
        """What a snapshot is made of, in time that grows with what changed and not with the pool."""
        return FrozenState(
            step=self.num_steps - 1,
            pool=self._pool_shape,
            blocks=self.kv.pool.freeze(),
            block_tables={r.request_id: tuple(self.kv.tables[r.request_id]) for r in self.running},
            waiting=tuple(r.request_id for r in self.waiting),
            running=tuple(r.request_id for r in self.running),
            requests={r.request_id: _request_state(r) for r in [*self.running, *self.waiting]},
        )

    def check_invariants(self) -> None:
        """Raise WorkbenchError if queues, tables and pool disagree. Used by tests after every step."""
        self.kv.check_invariants()
        ids = [r.request_id for r in [*self.running, *self.waiting]]
        if len(set(ids)) != len(ids) or set(ids) != set(self.requests):
            raise WorkbenchError("a live request is not in exactly one queue")
        if set(self.kv.tables) != {r.request_id for r in self.running}:
            raise WorkbenchError("block tables are not those of the running requests")
        for queue in (self.waiting, self.running):
            keys = [r.sort_key for r in queue]
            if keys != sorted(keys):
                raise WorkbenchError("a queue is out of policy order")
        for request in self.running:
            held, used = len(self.kv.tables[request.request_id]), self.kv.blocks_for(request.num_computed_tokens)
            if held < used or not 0 <= request.num_computed_tokens < request.num_tokens:
                raise WorkbenchError(f"{request!r} holds {held} blocks and has filled {used}")
            quiet = request.quiet_until - request.num_computed_tokens
            left = request.num_tokens - request.num_computed_tokens
            if quiet > 0 and (left != 1 or self.kv.blocks_needed(request, quiet)):
                raise WorkbenchError(f"{request!r} is not as quiet as it says")
        if any(r.num_computed_tokens for r in self.waiting):
            raise WorkbenchError("a waiting request claims computed tokens")

    def _schedule_running(self, step: "_Step") -> None:
        index = 0
        while index < len(self.running):
            request = self.running[index]
            if request.num_computed_tokens < request.quiet_until and step.budget and self.guard.plain_share:
                index = step.decode(self.running, index)
                continue
            wanted = request.num_tokens - request.num_computed_tokens
            num_tokens = self.guard.share(request, wanted, step.budget)
            if num_tokens == 0:
                self._wait_for_budget(step, request, wanted)
                index += 1
                continue
            need = self.kv.blocks_needed(request, num_tokens)
            while need > self.kv.pool.num_free:
                victim = self.guard.victim(self.running[index:])
                self._preempt(step, victim, need, request)
                if victim is request:
                    break
                need = self.kv.blocks_needed(request, num_tokens)  # a copy-on-write may have become needless
            else:
                self._run(step, request, num_tokens, wanted, Reason.CHUNK)
                index += 1

    def _schedule_waiting(self, step: "_Step") -> None:
        index = 0
        blocker = ""
        while index < len(self.waiting):
            request = self.waiting[index]
            index += 1
            if request.request_id in step.decisions:  # preempted in this step
                continue
            if step.preempted:
                step.wait(request, Reason.AFTER_PREEMPTION, 0, 0, step.preempted)
            elif blocker:
                step.wait(request, Reason.BEHIND, 0, 0, blocker)
            elif self._waits_for_leader(request):
                step.wait(request, Reason.SIBLING, 0, 0, request.leader.request_id if request.leader else "")
            elif self._admit(step, request):
                index -= 1
                self.waiting.pop(index)
                insort(self.running, request, key=_sort_key)
            else:
                blocker = request.request_id

    def _admit(self, step: "_Step", request: Request) -> bool:
        """Plan a waiting request's first tokens, or note why not."""
        cfg, pool = self.config, self.kv.pool
        if len(self.running) >= cfg.max_num_seqs:
            step.wait(request, Reason.MAX_NUM_SEQS, len(self.running) + 1, cfg.max_num_seqs, "")
            return False
        leader = request.leader
        if leader is not None and leader.status is RequestStatus.RUNNING and request.num_output_tokens == 0:
            shared = self.kv.prompt_blocks_of(leader)
            num_cached = request.num_prompt_tokens - 1
            copy = 1  # the last prompt token is recomputed for its logits, in a copy of the last shared block
            leader.quiet_until = 0
        else:
            shared = self.kv.find_prefix(request)
            num_cached = len(shared) * cfg.block_size
            copy = 0
        wanted = request.num_tokens - num_cached
        num_tokens = self.guard.share(request, wanted, step.budget)
        if num_tokens == 0:
            self._wait_for_budget(step, request, wanted)
            return False
        if num_tokens < wanted and not cfg.enable_chunked_prefill:
            step.wait(request, Reason.NO_CHUNKING, wanted, step.budget, step.largest)
            return False
        need = self.kv.blocks_for(request.num_tokens) - len(shared) + copy
        have = pool.num_free - sum(pool.ref_counts[block] == 0 for block in shared)
        if need > have:
            step.wait(request, Reason.NO_BLOCKS, need, have, self._largest_holder())
            return False
        reason = Reason.RESUMED if request.status is RequestStatus.PREEMPTED else Reason.ADMITTED
        request.move_to(RequestStatus.RUNNING)
        request.num_computed_tokens = num_cached
        self.kv.share(request, shared)
        step.new_requests.append(
            NewRequest(
                request.request_id,
                request.prompt_token_ids,
                request.output_token_ids,
                request.sampling_params,
                request.seed,
            )
        )
        self._run(step, request, num_tokens, wanted, reason, num_cached)
        return True

    def _run(
        self, step: "_Step", request: Request, num_tokens: int, wanted: int, reason: Reason, num_cached: int = 0
    ) -> None:
        """Allocate, and put the request into the plan. A table that is new to the runner is sent whole."""
        start = request.num_computed_tokens
        update = self.kv.allocate(request, num_tokens)
        admitted = reason is not Reason.CHUNK
        block_start = 0 if admitted else update.block_start
        block_ids = tuple(self.kv.tables[request.request_id]) if admitted else update.block_ids
        sample = start + num_tokens == request.num_tokens
        token_ids = tuple(request.token_ids[start : start + num_tokens])
        step.copies.extend(update.copies)
        step.scheduled.append(ScheduledRequest(request.request_id, token_ids, start, block_start, block_ids, sample))
        if sample:
            request.quiet_until = min(self.kv.room_of(request), request.num_prompt_tokens + request.max_tokens - 1)
        if not admitted and request.num_output_tokens > 0 and wanted == 1:
            step.num_decodes += 1
            step.charge(request, 1)
        else:
            step.decisions[request.request_id] = Decision(
                request.request_id, Action.PREFILL, reason, num_tokens, start, num_cached, wanted, num_tokens
            )
            step.charge(request, num_tokens)

    def _decisions(self, step: "_Step") -> Decisions:
        """Everybody's decision in order: those that were noted, and for all others that they decode."""
        live = self.running + self.waiting
        names = self._packers[0].ids([r.request_id for r in live])
        if step.num_decodes + len(step.decisions) != len(names):
            raise WorkbenchError(
                f"step {self.num_steps}: {len(names)} requests are alive, {step.num_decodes} decode and "
                f"{len(step.decisions)} have another decision"
            )
        noted = [step.decisions.get(name) for name in names] if step.decisions else ()
        return Decisions(names, [r.num_computed_tokens for r in live], noted)

    def _wait_for_budget(self, step: "_Step", request: Request, wanted: int) -> None:
        if step.budget == 0:
            step.wait(request, Reason.TOKEN_BUDGET, wanted, 0, step.largest)
        else:
            step.wait(request, Reason.POLICY, wanted, step.budget, "")

    def _enqueue(self, request: Request) -> None:
        try:
            request.sort_key = self.guard.key(request)
            insort(self.waiting, request, key=_sort_key)
        except Exception as error:  # the policy's, or of comparing its keys
            self.guard.take_off(error)
            self.waiting.append(request)
            self._sort_queues(self.guard.keys(list(self.requests.values())))

    def _sort_queues(self, keys: dict[str, Key]) -> None:
        for name, key in keys.items():
            self.requests[name].sort_key = key
        self.waiting.sort(key=_sort_key)
        self.running.sort(key=_sort_key)

    def _preempt(self, step: "_Step", victim: Request, need: int, requester: Request) -> None:
        step.preempted = victim.request_id
        step.decisions[victim.request_id] = Decision(
            victim.request_id,
            Action.PREEMPT,
            Reason.NO_BLOCKS,
            num_computed=victim.num_computed_tokens,
            need=need,
            have=self.kv.pool.num_free,
            other=requester.request_id,
        )
        self._give_back(victim)

    def _preempt_for_pool(self, victim: Request, need: int, setting: str) -> None:
        self._pool_decisions[victim.request_id] = Decision(
            victim.request_id,
            Action.PREEMPT,
            Reason.RECONFIGURED,
            num_computed=victim.num_computed_tokens,
            need=need,
            have=self.kv.pool.num_free,
            other=setting,
        )
        self._give_back(victim)

    def _give_back(self, victim: Request) -> None:
        self.running.remove(victim)
        self.kv.free(victim)
        victim.move_to(RequestStatus.PREEMPTED)
        victim.num_computed_tokens = victim.quiet_until = 0
        victim.num_preemptions += 1
        insort(self.waiting, victim, key=_sort_key)
        self._dropped.append(victim.request_id)

    def _finish(self, request: Request, reason: str, detail: str) -> None:
        if request.status is RequestStatus.RUNNING:
            self.running.remove(request)
            self.kv.free(request)
            self._dropped.append(request.request_id)
        else:
            self.waiting.remove(request)
        request.move_to(RequestStatus.FINISHED)
        request.finish_reason = reason
        request.leader = None
        del self.requests[request.request_id]
        self._finished.append(Finished(request.request_id, reason, detail))

    def _check_stop(self, request: Request, token_id: int, text_stop: str | None) -> None:
        """vLLM's order: an ending token, then a stop string, then length. Before min_tokens only length counts."""
        params = request.sampling_params
        if request.num_output_tokens >= params.min_tokens:
            if not params.ignore_eos and token_id in self.config.eos_token_ids:
                return self._finish(request, "stop", "")
            if token_id in params.stop_token_ids:
                return self._finish(request, "stop", str(token_id))
            if text_stop is not None:
                return self._finish(request, "stop", text_stop)
        if request.num_output_tokens >= request.max_tokens:
            self._finish(request, "length", "")

    def _waits_for_leader(self, request: Request) -> bool:
        """True until the prompt that request shares has been computed by a leader that is still alive."""
        leader = request.leader
        if leader is None or leader.status is RequestStatus.FINISHED or request.num_output_tokens > 0:
            return False
        return leader.num_computed_tokens < leader.num_prompt_tokens

    def _largest_holder(self) -> str:
        holder = max(self.running, key=lambda r: len(self.kv.tables[r.request_id]), default=None)
        return holder.request_id if holder else ""

    def _never_fits(self, prompt: int, new: int) -> RequestNeverFitsError:
        cfg, need = self.config, self.kv.blocks_for(prompt + new - 1)
        return RequestNeverFitsError(
            f"{prompt} prompt tokens + {new} new tokens need {need} blocks of {cfg.block_size} tokens, and the whole "
            f"pool has {cfg.num_blocks} ({cfg.pool_tokens} tokens); lower max_tokens, shorten the prompt, or raise "
            "num_gpu_blocks_override or kv_cache_memory_bytes"
        )

    def _seed(self, params: SamplingParams, index: int) -> int:
        if params.seed is not None:
            return params.seed + index
        text = f"{self.config.seed}:{self._num_arrivals}".encode()
        return int.from_bytes(hashlib.blake2b(text, digest_size=7).digest())


class _Step:
    """A plan in the making."""

    __slots__ = (
        "budget",
        "copies",
        "decisions",
        "largest",
        "largest_tokens",
        "new_requests",
        "num_decodes",
        "preempted",
        "scheduled",
    )

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self.scheduled: list[ScheduledRequest] = []
        self.new_requests: list[NewRequest] = []
        self.copies: list[BlockCopy] = []
        self.decisions: dict[str, Decision] = {}  # of those that do not decode
        self.num_decodes = 0
        self.preempted = ""
        self.largest = ""  # who has taken the largest part of the token budget
        self.largest_tokens = 0

    def decode(self, running: Sequence[Request], index: int) -> int:
        """Plan one token for each request from `index` on, as long as the budget lasts and each has room for it in its
        last block; returns the index after them. This is what nearly all requests do in nearly all steps, and there is
        nothing to decide, so it is one short loop.
        """
        first, end = index, min(len(running), index + self.budget)
        while index < end:
            request = running[index]
            start = request.num_computed_tokens
            if start >= request.quiet_until:
                break
            row = (request.request_id, (request.token_ids[-1],), start, 0, (), True)
            self.scheduled.append(_new(ScheduledRequest, row))
            index += 1
        self.num_decodes += index - first
        self.charge(running[first], 1)
        self.budget -= index - first - 1
        return index

    def charge(self, request: Request, num_tokens: int) -> None:
        """Take tokens off the budget."""
        self.budget -= num_tokens
        if num_tokens > self.largest_tokens:
            self.largest, self.largest_tokens = request.request_id, num_tokens

    def wait(self, request: Request, reason: Reason, need: int, have: int, other: str) -> None:
        """Note a request that does not run, reusing the last such note if it says the same."""
        last = request.last_wait
        numbers = (reason, 0, request.num_computed_tokens, 0, need, have, other)
        if last is None or last[2:] != numbers:
            last = request.last_wait = Decision(request.request_id, Action.WAIT, *numbers)
        self.decisions[request.request_id] = last


def _request_state(request: Request) -> RequestState:
    return RequestState(
        request.request_id,
        request.parent_id,
        request.label,
        request.priority,
        request.arrival_time,
        request.max_tokens,
        request.prompt_token_ids,
        request.output_token_ids,
        request.num_computed_tokens,
        request.num_preemptions,
    )
