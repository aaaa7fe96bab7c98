"""What is measured: our engine, and transformers on the same weights, precision and requests."""

import json
import threading
import time
from collections.abc import Sequence
from typing import Any, Protocol

from workbench.bench.workloads import Item
from workbench.core.sampling_params import SamplingParams
from workbench.llm import LLM

CATCH_UP_SECONDS = 30.0


class Peer(Protocol):
    """Something that completes a workload and says how long it took."""

    name: str

    def run(self, items: Sequence[Item]) -> float:
        """Seconds from handing over all requests to the last token."""
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

    def run(self, items: Sequence[Item]) -> float:
        """Greedy, end of sequence ignored, prefix cache emptied first."""
        self._llm.reset_prefix_cache()
        prompts = [{"prompt_token_ids": item.prompt_token_ids} for item in items]
        params = [SamplingParams(temperature=0.0, max_tokens=item.num_tokens, ignore_eos=True) for item in items]
        page = _Page(self._llm) if self._watched else None  # the page was open before: catching up is not timed
        began = time.perf_counter()
        outputs = self._llm.generate(prompts, params, use_tqdm=False)
        seconds = time.perf_counter() - began
        if page is not None:
            page.close()
        _check([len(output.outputs[0].token_ids) for output in outputs], items)
        return seconds

    def close(self) -> None:
        """The LLM belongs to whoever made it."""


class _Page:
    """A page without a browser: subscribes like one, catches up with what was, and acknowledges every frame."""

    def __init__(self, llm: LLM) -> None:
        self._caught_up = threading.Event()
        self._widget = llm.dashboard()
        self._widget.send = self._receive
        self._widget.receive({"type": "subscribe"})
        self._caught_up.wait(CATCH_UP_SECONDS)

    def close(self) -> None:
        """Leave."""
        self._widget.receive({"type": "unsubscribe"})
        self._widget.close()

    def _receive(self, content: dict[str, Any], buffers: Sequence[bytes] = ()) -> None:
        if content["type"] != "frame":
            return
        if not self._caught_up.is_set() and not json.loads(buffers[0])["records"]:
            self._caught_up.set()
        self._widget.receive({"type": "ack", "seq": content["seq"]})


class TransformersGenerate:
    """transformers' generate, one request after another."""

    name = "transformers generate"

    def __init__(self, folder: str, dtype: Any = None) -> None:
        self._model = _load(folder, dtype)

    def run(self, items: Sequence[Item]) -> float:
        """Greedy, exactly num_tokens each."""
        import torch

        began = time.perf_counter()
        lengths = []
        with torch.inference_mode():
            for item in items:
                ids = torch.tensor([item.prompt_token_ids])
                out = self._model.generate(
                    ids,
                    attention_mask=torch.ones_like(ids),
                    do_sample=False,
                    max_new_tokens=item.num_tokens,
                    min_new_tokens=item.num_tokens,
                    pad_token_id=0,
                )
                lengths.append(out.shape[1] - ids.shape[1])
        seconds = time.perf_counter() - began
        _check(lengths, items)
        return seconds

    def close(self) -> None:
        """Drop the weights."""
        del self._model


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

    def run(self, items: Sequence[Item]) -> float:
        """Greedy, exactly num_tokens each."""
        began = time.perf_counter()
        wanted = {
            self._manager.add_request(item.prompt_token_ids, max_new_tokens=item.num_tokens, eos_token_id=-1): item
            for item in items
        }
        lengths: dict[str, int] = {}
        while len(lengths) < len(items):
            result = self._manager.get_result(timeout=1)
            if result is None and not self._manager.is_running():
                raise RuntimeError("transformers' continuous batching stopped by itself; its log says why")
            if result is not None and result.is_finished():
                lengths[result.request_id] = len(result.generated_tokens)
        seconds = time.perf_counter() - began
        _check([lengths[name] for name in wanted], list(wanted.values()))
        return seconds

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


def _check(lengths: Sequence[int], items: Sequence[Item]) -> None:
    """A peer that stops early would look fast."""
    wanted = [item.num_tokens for item in items]
    if list(lengths) != wanted:
        raise ValueError(f"asked for {wanted} tokens and got {list(lengths)}")
