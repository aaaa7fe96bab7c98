"""llama.cpp's server on the same weights; what HTTP costs is in its times."""

import socket
import tempfile
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from workbench.bench.child import Child
from workbench.bench.gguf_file import write_gguf
from workbench.bench.peers import Timed
from workbench.bench.server_peer import Server
from workbench.bench.workloads import Item


class LlamaServer:
    """Writes the checkpoint as GGUF, in the number type that is asked for, and starts the server on it.

    binary: llama-server's path. Its cache of prompts is off; all requests share one KV cache, of max_num_seqs times
    context tokens. Raises ConfigError with the server's last lines if it does not start.
    """

    def __init__(self, binary: str, folder: str, dtype: str, max_num_seqs: int, context: int, threads: int) -> None:
        self._files = tempfile.TemporaryDirectory()
        model = Path(self._files.name) / "model.gguf"
        port = _free_port()
        command = [binary, "--model", str(model), "--host", "127.0.0.1", "--port", str(port), "--offline"]
        command += ["--parallel", str(max_num_seqs), "--ctx-size", str(max_num_seqs * context), "--kv-unified"]
        command += ["--threads", str(threads), "--threads-batch", str(threads), "--batch-size", "2048"]
        command += ["--no-cache-prompt", "--cache-ram", "0", "--cache-type-k", _KV[dtype], "--cache-type-v", _KV[dtype]]
        try:
            write_gguf(Path(folder), model, dtype)
            self._child = Child("llama.cpp's server", command, {})
        except BaseException:
            self._files.cleanup()
            raise
        try:
            self._child.wait_until(lambda: _is_healthy(port))
            self._server = Server(f"http://127.0.0.1:{port}")
        except BaseException:
            self.close()
            raise
        self.name = "llama.cpp's server"

    def run(self, items: Sequence[Item]) -> Timed:
        """All requests at once, each on a connection of its own; greedy, end of sequence ignored."""
        return self._server.run(items)

    def close(self) -> None:
        """End its process and delete the file."""
        self._child.close()
        self._files.cleanup()


_KV = {"float32": "f32", "float16": "f16", "bfloat16": "bf16"}


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def _is_healthy(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as answer:
            return int(answer.status) == 200
    except OSError:
        return False
