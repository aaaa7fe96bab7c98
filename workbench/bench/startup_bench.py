"""From nothing to the first token, each time in a fresh process."""

import statistics
import subprocess
import sys
from typing import Any

CODE = """
import time
began = time.perf_counter()
from workbench import LLM, SamplingParams
imported = time.perf_counter()
llm = LLM()
loaded = time.perf_counter()
llm.generate("Once", SamplingParams(max_tokens=1), use_tqdm=False)
print(imported - began, loaded - imported, time.perf_counter() - loaded)
llm.shutdown()
"""


def startup_rows(rounds: int) -> list[dict[str, Any]]:
    """Seconds of `import workbench`, LLM() with what it loads, and the first token; Python's own start is not in it."""
    found = []
    for _ in range(rounds):
        done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
        found.append([float(x) for x in done.stdout.split()])
    names = ("import workbench, s", "LLM(), s", "first token, s")
    return [
        {name: round(statistics.median(each), 3) for name, each in zip(names, zip(*found, strict=True), strict=True)}
    ]
