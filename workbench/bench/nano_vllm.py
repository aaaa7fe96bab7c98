"""nano-vllm's scheduler, as it is, from a checkout of https://github.com/GeeeekExplorer/nano-vllm.

Only its scheduler, block manager, sequence and sampling parameters are loaded. Its package's own `__init__` would load
the model's code, which needs a GPU, so an empty package of the same name and path stands for it; nothing is changed in
the checkout, and nothing of it is part of this project.
"""

import importlib
import sys
import time
import types
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from workbench.core.errors import ConfigError, MissingPackageError

NEEDED = ("engine/scheduler.py", "engine/block_manager.py", "engine/sequence.py", "sampling_params.py", "config.py")
NO_TOKEN = -1
TOKEN = 7


class NanoVLLM:
    """The loaded modules. Raises ConfigError for what is no checkout, MissingPackageError for a library it lacks."""

    def __init__(self, checkout: str | Path) -> None:
        package = Path(checkout).resolve() / "nanovllm"
        missing = [name for name in NEEDED if not (package / name).is_file()]
        if missing:
            raise ConfigError(
                f"{checkout} is no checkout of nano-vllm: it has no nanovllm/{missing[0]}. Get one with "
                "`git clone https://github.com/GeeeekExplorer/nano-vllm` and give its folder"
            )
        for name, path in (("nanovllm", package), ("nanovllm.engine", package / "engine")):
            module = types.ModuleType(name)
            module.__path__ = [str(path)]
            sys.modules[name] = module
        try:
            self.scheduler = importlib.import_module("nanovllm.engine.scheduler").Scheduler
            self.sequence = importlib.import_module("nanovllm.engine.sequence").Sequence
            self.params = importlib.import_module("nanovllm.sampling_params").SamplingParams
        except ModuleNotFoundError as error:
            raise MissingPackageError(
                f"nano-vllm's scheduler needs {error.name}, which is not installed here: pip install {error.name}"
            ) from error


class NanoDecoding:
    """Its scheduler with requests that decode. `run` does steps; requests and settings are as in OurDecoding."""

    def __init__(self, nano: NanoVLLM, prompts: list[list[int]], max_tokens: int, block_size: int) -> None:
        nano.sequence.block_size = block_size  # where its own engine puts the setting too
        blocks = sum(-(-(len(prompt) + max_tokens) // block_size) for prompt in prompts)
        config = SimpleNamespace(
            max_num_seqs=len(prompts),
            max_num_batched_tokens=sum(map(len, prompts)),
            eos=NO_TOKEN,
            kvcache_block_size=block_size,
            num_kvcache_blocks=blocks,
        )
        self.scheduler: Any = nano.scheduler(config)
        for prompt in prompts:
            self.scheduler.add(nano.sequence(prompt, nano.params(max_tokens=max_tokens)))
        self._tokens = [TOKEN] * len(prompts)
        self.run(1)

    def run(self, steps: int) -> float:
        """CPU seconds of so many steps: schedule() and postprocess(). The tokens were made up before."""
        scheduler = self.scheduler
        began = time.thread_time()
        for _ in range(steps):
            sequences, is_prefill = scheduler.schedule()
            scheduler.postprocess(sequences, self._tokens, is_prefill)
        return time.thread_time() - began
