"""What the runner keeps of one request between steps."""

import random

import numpy as np

from workbench.core.scheduler_output import NewRequest


class RequestRow:
    """A request's row in the block tables, its tokens so far, and its random stream.

    index: row of the block tables. num_tokens: prompt and output tokens known so far. counts: how often each vocabulary
    entry is among the outputs, in_prompt: whether it is in the prompt; both only where a penalty needs them.
    """

    __slots__ = (
        "counts",
        "in_prompt",
        "index",
        "num_prompt_tokens",
        "num_tokens",
        "params",
        "plain",
        "request_id",
        "stream",
    )

    def __init__(self, new: NewRequest, index: int, vocab_size: int) -> None:
        params = new.sampling_params
        self.request_id = new.request_id
        self.index = index
        self.params = params
        self.num_prompt_tokens = len(new.prompt_token_ids)
        self.num_tokens = self.num_prompt_tokens
        self.stream = random.Random(new.seed)
        self.counts: np.ndarray | None = None
        self.in_prompt: np.ndarray | None = None
        if params.repetition_penalty != 1.0 or params.presence_penalty or params.frequency_penalty:
            self.counts = np.zeros(vocab_size, np.int32)
            self.in_prompt = np.zeros(vocab_size, bool)
            self.in_prompt[list(new.prompt_token_ids)] = True
        # Greedy without anything that looks at more than the largest logit.
        self.plain = params.greedy and self.counts is None and params.logprobs is None and not params.min_tokens
        for token_id in new.output_token_ids:
            self.append(token_id)
            if not params.greedy:
                self.stream.random()  # the draw that this token took before the preemption

    @property
    def num_output_tokens(self) -> int:
        """Tokens generated so far."""
        return self.num_tokens - self.num_prompt_tokens

    def append(self, token_id: int) -> None:
        """Note one more output token."""
        self.num_tokens += 1
        if self.counts is not None:
            self.counts[token_id] += 1
