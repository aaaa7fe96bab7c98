"""vLLM in an environment of its own, in process there: no server and no HTTP in its times."""

import json
import selectors
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from workbench.bench.child import Child
from workbench.bench.peers import Timed, check_lengths
from workbench.bench.workloads import Item

KV_GIB = 2


class VLLM:
    """Started by the Python of an environment where vLLM is installed. threads: on a CPU, bound to the first ones.

    Raises ConfigError with vLLM's last lines if it does not start.
    """

    def __init__(self, python: str, folder: str, dtype: str, max_num_seqs: int, threads: int) -> None:
        env = {
            "OMP_NUM_THREADS": str(threads),
            "VLLM_CPU_OMP_THREADS_BIND": f"0-{threads - 1}",
            "VLLM_CPU_KVCACHE_SPACE": str(KV_GIB),
            "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
            "VLLM_NO_USAGE_STATS": "1",
            "HF_HUB_OFFLINE": "1",
        }
        driver = Path(__file__).with_name("vllm_driver.py")
        self._child = Child("vLLM", [python, str(driver), folder, dtype, str(max_num_seqs)], env, talks=True)
        try:
            self._child.wait_until(self._has_answered)
            self.name = f"vLLM {self._read()['version']}"
        except BaseException:
            self._child.close()
            raise

    def run(self, items: Sequence[Item]) -> Timed:
        """All requests at once; greedy, end of sequence ignored."""
        assert self._child.process.stdin is not None
        try:
            print(json.dumps({"items": items}), file=self._child.process.stdin, flush=True)
        except OSError as error:
            raise self._child.failed("stopped") from error
        answer = self._read()
        check_lengths(answer["lengths"], items)
        return Timed(answer["seconds"], answer["first"])

    def close(self) -> None:
        """End its process."""
        self._child.close()

    def _has_answered(self) -> bool:
        with selectors.DefaultSelector() as waiting:
            assert self._child.process.stdout is not None
            waiting.register(self._child.process.stdout, selectors.EVENT_READ)
            return bool(waiting.select(0)) and self._child.process.poll() is None

    def _read(self) -> Any:
        assert self._child.process.stdout is not None
        line = self._child.process.stdout.readline()
        if not line:
            self._child.process.wait()
            raise self._child.failed("stopped")
        return json.loads(line)
