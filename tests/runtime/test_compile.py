"""Numba compiles while a model loads, not in a reader's first step."""

import subprocess
import sys

SCRIPT = """
from numba.core.dispatcher import Dispatcher
import importlib, pkgutil
import workbench_kernels
from workbench import LLM, SamplingParams

def compiled():
    found = {}
    for module in pkgutil.walk_packages(workbench_kernels.__path__, "workbench_kernels."):
        if module.name.endswith(".cpu"):
            for name, kernel in vars(importlib.import_module(module.name)).items():
                if isinstance(kernel, Dispatcher):
                    found[module.name + "." + name] = tuple(map(str, kernel.signatures))
    return found

llm = LLM(num_gpu_blocks_override=32)
before = compiled()
prompts = ["A mouse", "The old bear was", "Once"]
llm.generate(prompts, SamplingParams(max_tokens=4), use_tqdm=False)
llm.generate(
    prompts,
    SamplingParams(temperature=0.8, top_k=5, top_p=0.9, min_p=0.01, presence_penalty=0.5, logprobs=2, max_tokens=4),
    use_tqdm=False,
)
llm.shutdown()
after = compiled()
assert sum(map(len, before.values())) > 5, before
assert before == after, {name: after[name] for name in after if after[name] != before[name]}
"""


def test_nothing_is_compiled_after_loading() -> None:
    subprocess.run([sys.executable, "-c", SCRIPT], check=True, timeout=300)
