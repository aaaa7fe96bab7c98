"""The very scheduler of the engine over a workload, with a virtual clock and no model."""

import heapq
from collections.abc import Callable, Iterator

from workbench.core.config import SchedulerConfig
from workbench.core.errors import InvalidRequestError, WorkbenchError
from workbench.core.policy import Policy
from workbench.core.records import StepRecord, StepTimes
from workbench.core.scheduler import Scheduler
from workbench.core.scheduler_output import SchedulerOutput
from workbench.sim.batching import StaticBatching
from workbench.sim.memory_account import MemoryAccount
from workbench.sim.script import Script, params_of
from workbench.sim.workload import Workload, request_names

MAX_IDLE_STEPS = 100

StepSeconds = Callable[[SchedulerOutput], float]


class Simulator:
    """One run. `run()` yields records of the engine's shape, all of a step's time in `forward`.

    step_seconds: how long a plan takes. gap: seconds between two steps. As in the engine, a request joins the queue
    at the first step that begins after its arrival. refused: name -> why the scheduler would not take the request.
    """

    def __init__(
        self,
        workload: Workload,
        config: SchedulerConfig,
        policy: Policy,
        step_seconds: StepSeconds,
        *,
        gap: float = 0.0,
        static: StaticBatching | None = None,
    ) -> None:
        self.scheduler = Scheduler(config, policy)
        self.memory = MemoryAccount()
        self.refused: dict[str, str] = {}
        self._workload = workload
        self._names = request_names(workload)
        self._step_seconds = step_seconds
        self._gap = gap
        self._static = static
        self._script = Script()
        self._due = [(r.time, index) for index, r in enumerate(workload) if r.after is None]
        heapq.heapify(self._due)
        self._followers: dict[int, list[int]] = {}
        for index, request in enumerate(workload):
            if request.after is not None:
                self._followers.setdefault(request.after, []).append(index)
        self._idle_steps = 0
        self._alive: dict[str, tuple[int, set[str]]] = {}  # request -> its number, its sequences that are not done
        self._parents: dict[str, str] = {}  # sequence -> its request

    def run(self) -> Iterator[StepRecord]:
        """Simulate to the end of the workload."""
        now = 0.0
        while self._due or self.scheduler.has_unfinished():
            if not self.scheduler.has_unfinished():
                now = max(now, self._due[0][0])
            self._queue_arrivals(now)
            if self.scheduler.has_unfinished():
                record = self._step(now)
                now += record.duration + self._gap
                yield record

    def _queue_arrivals(self, now: float) -> None:
        while self._due and self._due[0][0] <= now:
            time, index = heapq.heappop(self._due)
            request, name = self._workload[index], self._names[index]
            try:
                made = self.scheduler.add_request(
                    name,
                    request.prompt_token_ids,
                    params_of(request),
                    arrival_time=time,
                    priority=request.priority,
                    label=request.label,
                )
            except InvalidRequestError as error:
                self.refused[name] = str(error)
                self._queue_followers(index, time)
                continue
            names = [r.request_id for r in made]
            self._script.add(names, request)
            self._alive[name] = (index, set(names))
            self._parents |= dict.fromkeys(names, name)

    def _step(self, now: float) -> StepRecord:
        scheduler = self.scheduler
        if self._static is not None:
            self._static.before_step(scheduler)
        plan = scheduler.schedule()
        # A policy may give a step to nobody; the scheduler then takes it off, so a long row of such steps is a bug.
        self._idle_steps = 0 if plan.num_scheduled_tokens else self._idle_steps + 1
        if self._idle_steps > MAX_IDLE_STEPS:
            raise WorkbenchError(f"step {plan.step} of the simulation: requests are alive and none could run")
        if self._static is not None:
            self._static.after_schedule(plan.decisions)
        seconds = self._step_seconds(plan)
        self.memory.add(scheduler, plan, self._script.output_lens, now, seconds)
        sampled, stops = self._script.sample(plan)
        scheduler.update(plan, sampled, stops, {})
        record = scheduler.record(plan, now, StepTimes(0.0, 0.0, seconds, 0.0, 0.0))
        for ended in record.finished:
            self._end(self._parents.pop(ended.request_id), ended.request_id, now + seconds)
        return record

    def _end(self, parent_id: str, name: str, now: float) -> None:
        index, left = self._alive[parent_id]
        left.discard(name)
        if not left:
            del self._alive[parent_id]
            self._queue_followers(index, now)

    def _queue_followers(self, index: int, now: float) -> None:
        for follower in self._followers.get(index, ()):
            heapq.heappush(self._due, (now + self._workload[follower].time, follower))
