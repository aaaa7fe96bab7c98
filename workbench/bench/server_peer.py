"""Any server that speaks OpenAI's completions: vLLM's, llama.cpp's or another, in an environment of its own.

It is running, with the same model and precision; what HTTP costs is in its times.
"""

import json
import time
import urllib.request
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from workbench.bench.peers import Timed
from workbench.bench.workloads import Item
from workbench.core.errors import ConfigError

TIMEOUT_SECONDS = 600.0


class Server:
    """A peer behind an address such as http://127.0.0.1:8000. Raises ConfigError where nothing answers there."""

    def __init__(self, url: str) -> None:
        if not url.startswith(("http://", "https://")):
            raise ConfigError(f"--server needs an address such as http://127.0.0.1:8000, not {url!r}")
        self._url = url.rstrip("/")
        try:
            self._model = str(self._ask("/v1/models")["data"][0]["id"])
        except (OSError, ValueError, LookupError) as error:
            raise ConfigError(f"no server with OpenAI's completions answers at {url}: {error}") from error
        self.name = f"{self._model} at {url}"

    def run(self, items: Sequence[Item]) -> Timed:
        """All requests at once, each on a connection of its own; greedy, end of sequence ignored."""
        with ThreadPoolExecutor(len(items)) as pool:
            began = time.perf_counter()
            answers = list(pool.map(self._complete, items))
            seconds = time.perf_counter() - began
        lengths = [length for length, _ in answers]
        wanted = [item.num_tokens for item in items]
        if lengths != wanted:  # a peer that stops early would look fast
            raise ConfigError(f"{self.name}: asked for {wanted} tokens and got {lengths}")
        return Timed(seconds, [first for _, first in answers])

    def close(self) -> None:
        """The server belongs to whoever started it."""

    def _complete(self, item: Item) -> tuple[int, float]:
        """How many tokens came, and the seconds to the first piece of them."""
        body = {
            "model": self._model,
            "prompt": item.prompt_token_ids,
            "max_tokens": item.num_tokens,
            "temperature": 0,
            "ignore_eos": True,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        began, first, length = time.perf_counter(), 0.0, 0
        with self._open("/v1/completions", body) as answer:
            for line in answer:
                if not line.startswith(b"data: {"):  # blank, or the end mark
                    continue
                first = first or time.perf_counter() - began
                length = (json.loads(line[6:]).get("usage") or {}).get("completion_tokens", length)
        return length, first

    def _ask(self, path: str) -> Any:
        with self._open(path, None) as answer:
            return json.load(answer)

    def _open(self, path: str, body: dict[str, Any] | None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._url + path, data, {"Content-Type": "application/json"})
        return urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS)
