"""Peers that the bench starts by itself, with stand-ins for them: what they are sent, and that they end."""

import json
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import gguf
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from workbench.bench.child import Child
from workbench.bench.gguf_file import write_gguf
from workbench.bench.llama_peer import LlamaServer
from workbench.bench.shapes import SHAPES, save_random
from workbench.bench.vllm_peer import VLLM
from workbench.bench.workloads import Item
from workbench.cli import main
from workbench.core.errors import ConfigError

ITEMS = [Item([5, 6, 7], 3), Item([8], 2)]
SMALL = SHAPES["135M"] | {
    "vocab_size": 300,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
}

VLLM_STAND_IN = """
import json, os
__version__ = "0.0.stand-in"
print("this is noise on standard output")

class SamplingParams:
    def __init__(self, **settings): self.settings = settings

class _Engine:
    def __init__(self): self.asked = {}
    def add_request(self, name, prompt, params): self.asked[name] = [prompt, params.settings, 0]
    def has_unfinished_requests(self): return bool(self.asked)
    def step(self):
        outputs = []
        for name, request in list(self.asked.items()):
            request[2] += 1
            done = request[2] == request[1]["max_tokens"] - MISSING
            text = type("", (), {"token_ids": [1] * request[2]})
            outputs.append(type("", (), {"request_id": name, "outputs": [text], "finished": done}))
            if done: del self.asked[name]
        return outputs

class LLM:
    def __init__(self, **settings):
        with open(os.environ["ASKED"], "w") as file: json.dump([settings, dict(os.environ)], file)
        self.llm_engine = _Engine()
"""

LLAMA_STAND_IN = """#!{python}
import json, os, sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
options = dict(zip(sys.argv[1::1], [*sys.argv[2:], ""]))
with open(options["--model"], "rb") as file: print("begins with", file.read(4), flush=True)

class Handler(BaseHTTPRequestHandler):
    def do_GET(self): self.answer(json.dumps({{"data": [{{"id": "stand-in"}}], "argv": sys.argv}}).encode())
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        pieces = [{{"choices": [{{"text": "a"}}]}}] * body["max_tokens"]
        pieces += [{{"choices": [], "usage": {{"completion_tokens": body["max_tokens"]}}}}]
        self.answer(b"".join(b"data: %s\\n\\n" % json.dumps(piece).encode() for piece in pieces))
    def answer(self, data):
        self.send_response(200); self.send_header("Content-Length", str(len(data))); self.end_headers()
        self.wfile.write(data)
    def log_message(self, *_): pass

if os.environ.get("REFUSE"): sys.exit("error: no such thing as a model")
ThreadingHTTPServer(("127.0.0.1", int(options["--port"])), Handler).serve_forever()
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("model")
    save_random(path, SMALL)
    return path


def executable(path: Path, text: str) -> str:
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


@pytest.fixture
def vllm_python(tmp_path, monkeypatch):
    """An interpreter that finds the stand-in."""
    (tmp_path / "vllm.py").write_text(VLLM_STAND_IN.replace("MISSING", "int(os.environ.get('MISSING', 0))"))
    monkeypatch.setenv("ASKED", str(tmp_path / "asked.json"))
    return executable(tmp_path / "python", f'#!/bin/sh\nPYTHONPATH={tmp_path} exec {sys.executable} "$@"\n')


@pytest.fixture
def llama_server(tmp_path):
    return executable(tmp_path / "llama-server", LLAMA_STAND_IN.format(python=sys.executable))


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_vllm_gets_the_same_model_precision_threads_and_lengths(vllm_python, tmp_path):
    peer = VLLM(vllm_python, "some/folder", "float32", 16, threads=3)
    try:
        assert peer.name == "vLLM 0.0.stand-in"
        for _ in range(2):
            timed = peer.run(ITEMS)
            assert timed.seconds > max(timed.first) >= min(timed.first) > 0
            assert len(timed.first) == 2
        settings, env = json.loads((tmp_path / "asked.json").read_text())
        assert (settings["model"], settings["dtype"], settings["max_num_seqs"]) == ("some/folder", "float32", 16)
        assert settings["enable_prefix_caching"] is False
        assert (env["OMP_NUM_THREADS"], env["VLLM_CPU_OMP_THREADS_BIND"]) == ("3", "0-2")
    finally:
        peer.close()
    assert gone(peer._child.process.pid)


def test_vllm_that_stops_early_is_no_peer(vllm_python, monkeypatch):
    monkeypatch.setenv("MISSING", "1")
    peer = VLLM(vllm_python, "folder", "float32", 16, threads=1)
    try:
        with pytest.raises(ValueError, match=r"asked for \[3, 2\] tokens and got \[2, 1\]"):
            peer.run(ITEMS)
    finally:
        peer.close()


def test_vllm_that_is_not_there_or_dies_says_what_it_last_wrote(vllm_python, tmp_path):
    with pytest.raises(ConfigError, match=r"vLLM could not be started: .*no/python"):
        VLLM("no/python", "folder", "float32", 16, threads=1)
    without = executable(tmp_path / "bare", f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')
    with pytest.raises(ConfigError, match=r"(?s)vLLM .*\(exit status 1\); it last wrote:.*No module named 'vllm'"):
        VLLM(without, "folder", "float32", 16, threads=1)
    peer = VLLM(vllm_python, "folder", "float32", 16, threads=1)
    try:
        os.killpg(peer._child.process.pid, signal.SIGKILL)
        peer._child.process.wait()
        with pytest.raises(ConfigError, match=r"(?s)vLLM stopped \(exit status -9\).*noise on standard output"):
            peer.run(ITEMS)
    finally:
        peer.close()


def test_llama_cpp_s_server_is_started_on_a_gguf_and_ends_with_its_files(llama_server, folder):
    peer = LlamaServer(llama_server, str(folder), "float32", 16, context=300, threads=3)
    model = Path(peer._files.name)
    try:
        timed = peer.run(ITEMS)
        assert timed.seconds > max(timed.first) > 0
        asked = peer._server._ask("/v1/models")["argv"]
        given = dict(zip(asked[1:], [*asked[2:], ""], strict=True))
        assert (given["--threads"], given["--threads-batch"], given["--parallel"]) == ("3", "3", "16")
        assert (given["--ctx-size"], given["--cache-type-k"]) == (str(16 * 300), "f32")
        assert model.exists()
    finally:
        peer.close()
    assert gone(peer._child.process.pid)
    assert not model.exists()


def test_a_server_that_does_not_start_says_why(llama_server, folder, monkeypatch):
    monkeypatch.setenv("REFUSE", "1")
    message = r"(?s)llama.cpp's server ended while it started \(exit status 1\).*begins with b'GGUF'.*no such thing"
    with pytest.raises(ConfigError, match=message):
        LlamaServer(llama_server, str(folder), "float32", 16, context=300, threads=1)


def test_a_child_that_ignores_sigterm_is_made_to_end(monkeypatch):
    monkeypatch.setattr("workbench.bench.child.STOP_SECONDS", 0.2)
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('on', flush=True); time.sleep(60)"
    child = Child("stubborn", [sys.executable, "-c", code], {}, talks=True)
    assert child.process.stdout.readline() == "on\n"
    child.close()
    assert child.process.poll() == -signal.SIGKILL


def test_what_was_started_ends_when_the_bench_is_ended(tmp_path):
    """SIGTERM, which Python does not turn into an exception by itself; Ctrl-C does so too."""
    code = """
import sys, time
from contextlib import ExitStack
from workbench.bench.child import Child, ended_by_signals
with ExitStack() as stack:
    stack.enter_context(ended_by_signals())
    child = Child("sleeper", ["sleep", "60"], {})
    stack.callback(child.close)
    print(child.process.pid, flush=True)
    time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as bench:
        pid = int(bench.stdout.readline())
        bench.terminate()
        assert bench.wait(30) == 128 + signal.SIGTERM
    for _ in range(100):
        if gone(pid):
            break
        time.sleep(0.05)
    assert gone(pid)


def test_the_command_runs_every_peer_in_turn(vllm_python, llama_server, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(SHAPES, "135M", SMALL)
    file = tmp_path / "figures.json"
    options = ["--model", "135M", "--workload", "W2", "--workload", "W1", "--rounds", "1", "--json", str(file)]
    assert main(["bench", "single", *options, "--vllm", vllm_python, "--llama-server", llama_server]) == 0
    rows = json.loads(file.read_text())["figures"]["single"]
    peers = ["transformers generate", "vLLM 0.0.stand-in", "llama.cpp's server"]
    assert [(row["workload"], row["compared with"]) for row in rows] == [("W1", peer) for peer in peers]
    for row in rows:
        assert min(row[name] for name in ("ratio", "tokens/s", "TTFT p50 ms", "mean TTFT, ours / its")) > 0
        reached, theirs = (float(row[name].rstrip("%")) / 100 for name in ("reached", "it reached"))
        assert reached == pytest.approx(row["tokens/s"] / row["tokens/s at the limit"], abs=0.01)
        assert theirs == pytest.approx(row["its tokens/s"] / row["tokens/s at the limit"], abs=0.01)
    printed = capsys.readouterr()
    assert "was not run" not in printed.out
    assert "single leaves out W2" in printed.err


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_gguf_file_holds_the_checkpoint(folder, tmp_path, dtype):
    """Read back by transformers, which knows the format on its own: same weights, so same logits."""
    write_gguf(folder, tmp_path / "model.gguf", dtype)
    read = gguf.GGUFReader(tmp_path / "model.gguf")
    assert len(read.tensors) == len(load_file(folder / "model.safetensors"))
    ids = torch.tensor([[5, 6, 7, 8, 9]])
    with torch.inference_mode():
        ours = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)(ids).logits
        loaded = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file="model.gguf", dtype=torch.float32)
        assert torch.allclose(loaded(ids).logits, ours, atol=1e-4)


def test_only_llama_checkpoints_are_written(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "qwen3"}')
    with pytest.raises(ConfigError, match="only Llama checkpoints"):
        write_gguf(tmp_path, tmp_path / "model.gguf", "float32")
