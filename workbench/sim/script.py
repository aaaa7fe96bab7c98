"""What each sequence of a workload will produce: a length known beforehand takes the place of a model."""

from collections.abc import Iterable
from typing import NamedTuple

from workbench.core.sampling_params import SamplingParams
from workbench.core.scheduler_output import SampledToken, SchedulerOutput
from workbench.sim.workload import WorkloadRequest

ANY_TOKEN = 0


class Sequence(NamedTuple):
    """One sequence: how many tokens it makes, which ones if known, and what its request asked for."""

    output_len: int
    token_ids: tuple[int, ...]
    max_tokens: int


class Script:
    """Plays the model's part: gives every sequence its tokens and ends it at its length."""

    def __init__(self) -> None:
        self.output_lens: dict[str, int] = {}
        self._sequences: dict[str, Sequence] = {}
        self._made: dict[str, int] = {}

    def add(self, names: Iterable[str], request: WorkloadRequest) -> None:
        """Learn a request that was queued under these names."""
        for index, name in enumerate(names):
            tokens = request.output_token_ids[index] if request.output_token_ids else ()
            self._sequences[name] = Sequence(request.output_lens[index], tokens, request.token_limit)
            self.output_lens[name] = request.output_lens[index]
            self._made[name] = 0

    def sample(self, plan: SchedulerOutput) -> tuple[dict[str, SampledToken], dict[str, str]]:
        """Tokens for the requests that sample, and stops for those that end before their max_tokens."""
        sampled, stops = {}, {}
        for item in plan.scheduled:
            if item.sample:
                name = item.request_id
                sequence, made = self._sequences[name], self._made[name]
                sampled[name] = SampledToken(sequence.token_ids[made] if sequence.token_ids else ANY_TOKEN)
                self._made[name] = made + 1
                if made + 1 == sequence.output_len < sequence.max_tokens:
                    stops[name] = ""
        return sampled, stops


def params_of(request: WorkloadRequest) -> SamplingParams:
    """Sampling settings under which only the length ends a request."""
    return SamplingParams(n=len(request.output_lens), max_tokens=request.token_limit, ignore_eos=True)
