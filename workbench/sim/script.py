"""What each sequence of a workload will produce: a length known beforehand takes the place of a model."""

from collections.abc import Iterable

from workbench.core.sampling_params import SamplingParams
from workbench.core.scheduler_output import SampledToken, SchedulerOutput
from workbench.sim.workload import WorkloadRequest

ANY_TOKEN = SampledToken(0)


class _Sequence:
    """One sequence: how many tokens it makes, which ones if known, whether it then stops short of its max_tokens."""

    __slots__ = ("made", "output_len", "stops", "tokens")

    def __init__(self, output_len: int, token_ids: tuple[int, ...], max_tokens: int) -> None:
        self.output_len = output_len
        self.tokens = [SampledToken(token) for token in token_ids]
        self.stops = output_len < max_tokens
        self.made = 0


class Script:
    """Plays the model's part: gives every sequence its tokens and ends it at its length."""

    def __init__(self) -> None:
        self.output_lens: dict[str, int] = {}
        self._sequences: dict[str, _Sequence] = {}

    def add(self, names: Iterable[str], request: WorkloadRequest) -> None:
        """Learn a request that was queued under these names."""
        for index, name in enumerate(names):
            tokens = request.output_token_ids[index] if request.output_token_ids else ()
            self._sequences[name] = _Sequence(request.output_lens[index], tokens, request.token_limit)
            self.output_lens[name] = request.output_lens[index]

    def sample(self, plan: SchedulerOutput) -> tuple[dict[str, SampledToken], dict[str, str]]:
        """Tokens for the requests that sample, and stops for those that end before their max_tokens."""
        sampled, stops = {}, {}
        for name, _, _, _, _, sample in plan.scheduled:
            if sample:
                sequence = self._sequences[name]
                sampled[name] = sequence.tokens[sequence.made] if sequence.tokens else ANY_TOKEN
                sequence.made += 1
                if sequence.made == sequence.output_len and sequence.stops:
                    stops[name] = ""
        return sampled, stops


def params_of(request: WorkloadRequest) -> SamplingParams:
    """Sampling settings under which only the length ends a request."""
    return SamplingParams(n=len(request.output_lens), max_tokens=request.token_limit, ignore_eos=True)
