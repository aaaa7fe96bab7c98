"""Plans made by hand, for driving a model runner without a scheduler."""

from collections.abc import Sequence

from workbench.core.sampling_params import SamplingParams
from workbench.core.scheduler_output import BlockCopy, NewRequest, RunnerOutput, ScheduledRequest, SchedulerOutput
from workbench.runtime.model_runner import TorchModelRunner

GREEDY = SamplingParams(temperature=0, max_tokens=1000)


def plan(
    scheduled: Sequence[ScheduledRequest],
    new: Sequence[NewRequest] = (),
    copies: Sequence[BlockCopy] = (),
    dropped: Sequence[str] = (),
) -> SchedulerOutput:
    """A plan of which only the runner's part matters."""
    total = sum(len(item.token_ids) for item in scheduled)
    return SchedulerOutput(0, (), tuple(scheduled), tuple(new), tuple(copies), tuple(dropped), total)


class Driver:
    """Gives each request blocks of its own, one after the other, and keeps its tokens."""

    def __init__(self, runner: TorchModelRunner, block_size: int, first_block: int = 0) -> None:
        self.runner = runner
        self.block_size = block_size
        self.tokens: dict[str, list[int]] = {}
        self.computed: dict[str, int] = {}
        self.tables: dict[str, list[int]] = {}
        self._next_block = first_block
        self._new: list[NewRequest] = []

    def add(
        self,
        request_id: str,
        prompt: Sequence[int],
        params: SamplingParams = GREEDY,
        seed: int = 0,
        outputs: Sequence[int] = (),
    ) -> None:
        """Submit a request; outputs are those from before a preemption."""
        self._new.append(NewRequest(request_id, tuple(prompt), tuple(outputs), params, seed))
        self.tokens[request_id] = [*prompt, *outputs]
        self.computed[request_id] = 0
        self.tables[request_id] = []

    def step(self, request_ids: Sequence[str] | None = None, chunk: int = 10**6) -> RunnerOutput:
        """Compute up to `chunk` tokens of each request, all of them unless named, and take in what was sampled."""
        scheduled = []
        for request_id in self.tokens if request_ids is None else request_ids:
            tokens, computed, table = self.tokens[request_id], self.computed[request_id], self.tables[request_id]
            todo = tokens[computed : computed + chunk]
            need = -(-(computed + len(todo)) // self.block_size) - len(table)
            blocks = tuple(range(self._next_block, self._next_block + need))
            self._next_block += need
            done = computed + len(todo) == len(tokens)
            scheduled.append(ScheduledRequest(request_id, tuple(todo), computed, len(table), blocks, done))
            table.extend(blocks)
            self.computed[request_id] += len(todo)
        named = [item.request_id for item in scheduled]
        new = [item for item in self._new if item.request_id in named]
        self._new = [item for item in self._new if item.request_id not in named]
        output = self.runner.execute(plan(scheduled, new))
        for request_id, token in output.sampled.items():
            self.tokens[request_id].append(token.token_id)
        return output
