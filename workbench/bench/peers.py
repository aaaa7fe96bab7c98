"""What is measured: our engine, and transformers on the same weights, precision and requests."""

import time
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple, Protocol

from workbench.bench.unseen_page import unseen_page
from workbench.bench.workloads import Item
from workbench.core.records import StepRecord
from workbench.core.sampling_params import SamplingParams
from workbench.llm import LLM


class Timed(NamedTuple):
    """A workload's seconds from handing over all requests to the last token, and to each request's first token from
    when that request was handed over."""

    seconds: float
    first: list[float]


class Peer(Protocol):
    """Something that completes a workload and says how long it took."""

    name: str

    def run(self, items: Sequence[Item]) -> Timed:
        """Hand over all requests and wait for the last token."""
        ...

    def close(self) -> None:
        """Give everything back."""
        ...


class Workbench:
    """Our engine. watched: with a dashboard's stream subscribed and acknowledged, as a page would."""

    def __init__(self, llm: LLM, watched: bool = False) -> None:
        self.name = "workbench, watched" if watched else "workbench"
        self._llm = llm
        self._watched = watched
        self.records: list[StepRecord] = []  # of the last run

    def run(self, items: Sequence[Item]) -> Timed:
        """Greedy, end of sequence ignored, prefix cache emptied first."""
        self._llm.reset_prefix_cache()
        prompts = [{"prompt_token_ids": item.prompt_token_ids} for item in items]
        params = [SamplingParams(temperature=0.0, max_tokens=item.num_tokens, ignore_eos=True) for item in items]
        with unseen_page(self._llm) if self._watched else nullcontext():
            first = self._llm.trace.last_step + 1
            began = time.perf_counter()
            outputs = self._llm.generate(prompts, params, use_tqdm=False)
            seconds = time.perf_counter() - began
        self.records = self._llm.trace.records(since=first)
        check_lengths([len(output.outputs[0].token_ids) for output in outputs], items)
        return Timed(seconds, [output.metrics.time_to_first_token or 0.0 for output in outputs])

    def close(self) -> None:
        """The LLM belongs to whoever made it."""


class TransformersGenerate:
    """transformers' generate, one request after another."""

    name = "transformers generate"

    def __init__(self, folder: str, dtype: Any = None, device: str = "cpu") -> None:
        self._model = _load(folder, dtype, device)

    def run(self, items: Sequence[Item]) -> Timed:
        """Greedy, exactly num_tokens each."""
        import torch

        began = time.perf_counter()
        lengths, first = [], []
        with torch.inference_mode():
            for item in items:
                ids, streamer = torch.tensor([item.prompt_token_ids], device=self._model.device), _FirstToken()
                out = self._model.generate(
                    ids,
                    attention_mask=torch.ones_like(ids),
                    do_sample=False,
                    max_new_tokens=item.num_tokens,
                    min_new_tokens=item.num_tokens,
                    pad_token_id=0,
                    streamer=streamer,
                )
                first.append(streamer.times[1] - began)
                lengths.append(out.shape[1] - ids.shape[1])
        seconds = time.perf_counter() - began
        check_lengths(lengths, items)
        return Timed(seconds, first)

    def close(self) -> None:
        """Drop the weights."""
        del self._model


class _FirstToken:
    """A streamer of transformers': is given the prompt, then each token."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def put(self, _: Any) -> None:
        """Note when."""
        self.times.append(time.perf_counter())

    def end(self) -> None:
        """Nothing to do."""


class TransformersContinuousBatching:
    """transformers' own continuous batching with a paged cache, warmed up."""

    name = "transformers continuous batching"

    def __init__(self, folder: str, max_num_seqs: int, dtype: Any = None, device: str = "cpu") -> None:
        from transformers import ContinuousBatchingConfig, GenerationConfig

        config = ContinuousBatchingConfig(
            page_size=64,
            num_blocks=256,
            max_batch_tokens=512 if device == "cpu" else 2048,
            max_requests_per_batch=max_num_seqs,
            allow_block_sharing=False,
        )
        generation = GenerationConfig(max_new_tokens=16, do_sample=False, eos_token_id=-1)
        self._model = _load(folder, dtype, device)
        self._manager = self._model.init_continuous_batching(
            generation_config=generation, continuous_batching_config=config
        )
        self._manager.warmup()
        self._manager.start()

    def run(self, items: Sequence[Item]) -> Timed:
        """Greedy, exactly num_tokens each."""
        began = time.perf_counter()
        added: dict[str, float] = {}
        for item in items:
            now = time.perf_counter()
            name = self._manager.add_request(
                item.prompt_token_ids, max_new_tokens=item.num_tokens, eos_token_id=-1, record_timestamps=True
            )
            added[name] = now
        lengths: dict[str, int] = {}
        first: dict[str, float] = {}
        try:
            while len(lengths) < len(items):
                result = self._manager.get_result(timeout=1)
                if result is None and not self._manager.is_running():
                    raise RuntimeError("transformers' continuous batching stopped by itself; its log says why")
                if result is not None and result.is_finished():
                    lengths[result.request_id] = len(result.generated_tokens)
                    first[result.request_id] = result.timestamps[0] - added[result.request_id]
        except BaseException:  # Ctrl-C too: what is left would be finished before it can be closed
            for name in added:
                self._manager.cancel_request(name)
            raise
        seconds = time.perf_counter() - began
        check_lengths([lengths[name] for name in added], items)
        return Timed(seconds, [first[name] for name in added])

    def close(self) -> None:
        """Stop its thread and drop the weights."""
        self._manager.stop(block=True)
        self._manager.destroy()
        del self._manager, self._model


def _load(folder: str, dtype: Any = None, device: str = "cpu") -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype or torch.float32, attn_implementation="sdpa")
    model = model.eval().to(device)
    model.generation_config.eos_token_id = None
    return model


def check_lengths(lengths: Sequence[int], items: Sequence[Item]) -> None:
    """Raise ValueError unless every request got all its tokens: a peer that stops early would look fast."""
    wanted = [item.num_tokens for item in items]
    if list(lengths) != wanted:
        raise ValueError(f"asked for {wanted} tokens and got {list(lengths)}")
