"""Traffic: who asks when, for how much. The same workload drives a live engine or the simulator."""

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from workbench.core.errors import ConfigError
from workbench.core.records import Arrival, StepRecord
from workbench.sim.checks import check_above_zero, check_count, check_seconds, check_share
from workbench.sim.lengths import Lengths, as_distribution

DEFAULT_VOCAB_SIZE = 1000


@dataclass(frozen=True, slots=True)
class WorkloadRequest:
    """One request of a workload.

    time: seconds from the workload's start to the arrival; with `after`, seconds from the end of request number
    `after` of the workload (a user who reads and thinks). output_lens: tokens to be made, one length for each of its n
    sequences. max_tokens: what the request asks for, at least the longest of them (None: exactly that).
    request_id: its name in records ("": from its place). output_token_ids: the tokens, where a recording knows them.
    label: the start of the prompt as text, for tables.
    """

    time: float
    prompt_token_ids: tuple[int, ...]
    output_lens: tuple[int, ...]
    priority: int = 0
    max_tokens: int | None = None
    after: int | None = None
    request_id: str = ""
    output_token_ids: tuple[tuple[int, ...], ...] = ()
    label: str = ""

    @property
    def token_limit(self) -> int:
        """max_tokens, resolved."""
        return max(self.output_lens) if self.max_tokens is None else self.max_tokens


class Workload(Sequence[WorkloadRequest]):
    """Requests in the order of their numbers, frozen. All generators need a seed and give the same list for it.

    Lengths are numbers, pairs (low, high) or distributions (sim/lengths.py). Prompts are random token ids below
    vocab_size; what they say does not matter to a scheduler. Raises ConfigError for nonsense.
    """

    def __init__(self, requests: Iterable[WorkloadRequest], name: str = "workload", num_left_out: int = 0) -> None:
        self.requests = tuple(requests)
        self.name = name
        self.num_left_out = num_left_out  # requests of a recording that it could not take over
        for index, request in enumerate(self.requests):
            _check_request(index, request)

    @classmethod
    def listed(
        cls,
        rows: Iterable[tuple[float, int | Sequence[int], int] | tuple[float, int | Sequence[int], int, int]],
        *,
        seed: int,
        vocab_size: int = DEFAULT_VOCAB_SIZE,
    ) -> "Workload":
        """From rows of (time, prompt length or prompt token ids, output length) and, as a fourth, a priority."""
        rng = random.Random(seed)
        made = []
        for row in rows:
            time, prompt, output_len = row[:3]
            token_ids = _prompt(rng, prompt, vocab_size) if isinstance(prompt, int) else tuple(prompt)
            made.append(WorkloadRequest(time, token_ids, (output_len,), row[3] if len(row) == 4 else 0))
        return cls(made, "listed")

    @classmethod
    def poisson(
        cls,
        *,
        rate: float,
        count: int | None = None,
        duration: float | None = None,
        prompt_len: Lengths,
        output_len: Lengths,
        seed: int,
        vocab_size: int = DEFAULT_VOCAB_SIZE,
    ) -> "Workload":
        """Independent users: `rate` requests a second on average, `count` of them or as many as come in `duration`
        seconds."""
        check_above_zero("rate", rate)
        if (count is None) == (duration is None):
            raise ConfigError("give either count or duration")
        if count is not None:
            check_count("count", count)
        if duration is not None:
            check_above_zero("duration", duration)
        rng = random.Random(seed)
        times: list[float] = []
        time = rng.expovariate(rate)
        while (count is not None and len(times) < count) or (duration is not None and time < duration):
            times.append(time)
            time += rng.expovariate(rate)
        return cls(_requests(rng, times, prompt_len, output_len, vocab_size), f"poisson at {rate:g}/s")

    @classmethod
    def bursts(
        cls,
        *,
        num_bursts: int,
        burst_size: int,
        interval: float,
        prompt_len: Lengths,
        output_len: Lengths,
        seed: int,
        vocab_size: int = DEFAULT_VOCAB_SIZE,
    ) -> "Workload":
        """burst_size requests at once, every `interval` seconds."""
        check_count("num_bursts", num_bursts)
        check_count("burst_size", burst_size)
        check_above_zero("interval", interval)
        times = [burst * interval for burst in range(num_bursts) for _ in range(burst_size)]
        rng = random.Random(seed)
        return cls(_requests(rng, times, prompt_len, output_len, vocab_size), f"bursts of {burst_size}")

    @classmethod
    def closed_loop(
        cls,
        *,
        num_users: int,
        requests_per_user: int,
        think_time: float = 0.0,
        prompt_len: Lengths,
        output_len: Lengths,
        seed: int,
        vocab_size: int = DEFAULT_VOCAB_SIZE,
    ) -> "Workload":
        """Each user asks, waits for the answer, thinks for think_time seconds on average (exponential), asks again."""
        check_count("num_users", num_users)
        check_count("requests_per_user", requests_per_user)
        check_seconds("think_time", think_time)
        rng = random.Random(seed)
        count = num_users * requests_per_user
        delays = [rng.expovariate(1 / think_time) if think_time else 0.0 for _ in range(count)]
        delays[:num_users] = [0.0] * num_users
        made = _requests(rng, delays, prompt_len, output_len, vocab_size)
        chained = [replace(r, after=index - num_users if index >= num_users else None) for index, r in enumerate(made)]
        return cls(chained, f"{num_users} users in a closed loop")

    @classmethod
    def from_trace(cls, records: Iterable[StepRecord]) -> "Workload":
        """The arrivals of a recorded run (a Trace, or some of its records) with the output lengths that they had.

        Times count from the first arrival. A request that was cancelled, failed or is still alive counts with the
        tokens that it got. Left out, and counted in num_left_out: requests that got none, and sequences whose arrival
        the trace no longer holds.
        """
        arrivals: dict[str, list[Arrival]] = {}
        tokens: dict[str, list[int]] = {}
        seen: set[str] = set()
        for record in records:
            for arrival in record.arrivals:
                arrivals.setdefault(arrival.parent_id, []).append(arrival)
            seen.update(decision.request_id for decision in record.decisions)
            for sampled in record.sampled:
                tokens.setdefault(sampled.request_id, []).append(sampled.token_id)
        known = {arrival.request_id for group in arrivals.values() for arrival in group}
        left_out = len(seen - known)
        start = min((group[0].time for group in arrivals.values()), default=0.0)
        made = []
        for parent_id, group in arrivals.items():
            outputs = tuple(tuple(tokens.get(a.request_id, ())) for a in group)
            if not all(outputs):
                left_out += 1
                continue
            first = group[0]
            made.append(
                WorkloadRequest(
                    first.time - start,
                    first.prompt_token_ids,
                    tuple(map(len, outputs)),
                    first.priority,
                    first.max_tokens,
                    request_id=parent_id,
                    output_token_ids=outputs,
                    label=first.label,
                )
            )
        return cls(made, "recorded", left_out)

    def with_shared_prefix(
        self,
        *,
        fraction: float,
        prefix_len: int,
        groups: int = 1,
        seed: int,
        vocab_size: int = DEFAULT_VOCAB_SIZE,
    ) -> "Workload":
        """Put one of `groups` common beginnings of prefix_len tokens before that fraction of the prompts."""
        check_share("fraction", fraction)
        check_count("prefix_len", prefix_len)
        check_count("groups", groups)
        rng = random.Random(seed)
        prefixes = [_prompt(rng, prefix_len, vocab_size) for _ in range(groups)]
        made = [
            replace(r, prompt_token_ids=rng.choice(prefixes) + r.prompt_token_ids) if rng.random() < fraction else r
            for r in self.requests
        ]
        return Workload(made, f"{self.name}, {fraction:.0%} with shared prefixes")

    def with_priorities(self, shares: Mapping[int, float], *, seed: int) -> "Workload":
        """Draw each request's priority (lower runs first) by the shares: {0: 0.9, -1: 0.1}."""
        if not shares or sum(shares.values()) <= 0 or min(shares.values()) < 0:
            raise ConfigError(f"shares are numbers of at least 0 that are not all 0, not {dict(shares)}")
        drawn = random.Random(seed).choices(list(shares), list(shares.values()), k=len(self))
        made = [replace(r, priority=priority) for r, priority in zip(self.requests, drawn, strict=True)]
        return Workload(made, f"{self.name}, mixed priorities")

    @property
    def num_prompt_tokens(self) -> int:
        """Prompt tokens of all requests."""
        return sum(len(r.prompt_token_ids) for r in self.requests)

    @property
    def num_output_tokens(self) -> int:
        """Tokens that all requests together will make."""
        return sum(sum(r.output_lens) for r in self.requests)

    def __getitem__(self, index):  # type: ignore[no-untyped-def]
        return self.requests[index]

    def __len__(self) -> int:
        return len(self.requests)

    def __iter__(self) -> Iterator[WorkloadRequest]:
        return iter(self.requests)

    def __repr__(self) -> str:
        if not self.requests:
            return f"Workload({self.name}: no requests)"
        prompts = [len(r.prompt_token_ids) for r in self.requests]
        outputs = [length for r in self.requests for length in r.output_lens]
        span = max(r.time for r in self.requests)
        closed = any(r.after is not None for r in self.requests)
        pace = "" if closed or span == 0 else f" in {span:.3g} s ({len(self) / span:.3g}/s)"
        return (
            f"Workload({self.name}: {len(self)} requests{pace}, prompts {_span(prompts)} tokens, "
            f"outputs {_span(outputs)} tokens)"
        )


def request_names(workload: Workload) -> list[str]:
    """Each request's name in records: its own, or r1, r2, ... by place, as a fresh engine numbers them."""
    return [r.request_id or f"r{index}" for index, r in enumerate(workload, start=1)]


def _requests(
    rng: random.Random, times: Sequence[float], prompt_len: Lengths, output_len: Lengths, vocab_size: int
) -> list[WorkloadRequest]:
    prompts, outputs = as_distribution(prompt_len), as_distribution(output_len)
    return [WorkloadRequest(time, _prompt(rng, prompts.draw(rng), vocab_size), (outputs.draw(rng),)) for time in times]


def _prompt(rng: random.Random, length: int, vocab_size: int) -> tuple[int, ...]:
    check_count("vocab_size", vocab_size)
    return tuple(rng.choices(range(vocab_size), k=length))


def _check_request(index: int, request: WorkloadRequest) -> None:
    where = f"request {index} of the workload"
    check_seconds(f"the time of {where}", request.time)
    if not request.prompt_token_ids:
        raise ConfigError(f"{where} has no prompt tokens; give at least one")
    if not request.output_lens or any(not isinstance(n, int) or n < 1 for n in request.output_lens):
        raise ConfigError(f"{where} has output_lens={request.output_lens!r}; each must be at least 1 token")
    if request.token_limit < max(request.output_lens):
        raise ConfigError(f"{where} is to make {max(request.output_lens)} tokens with max_tokens={request.max_tokens}")
    if request.after is not None and not 0 <= request.after < index:
        raise ConfigError(f"{where} comes after request {request.after}, which is not one before it")


def _span(values: Sequence[int]) -> str:
    low, high = min(values), max(values)
    return str(low) if low == high else f"{low} to {high}"
