"""`workbench bench` as a user types it: what it measures is not tested here, but that it does and what it says."""

import csv
import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch

from workbench.bench import limits_bench
from workbench.bench.context_bench import context_rows
from workbench.bench.curves import pool_rows, running_rows
from workbench.bench.nano_vllm import NanoDecoding, NanoVLLM
from workbench.bench.scheduler_bench import OurDecoding, decoding_prompts
from workbench.bench.server_peer import Server
from workbench.bench.simulator_bench import simulator_rows
from workbench.bench.trace_bench import trace_rows
from workbench.bench.workloads import Item, workload
from workbench.cli import main
from workbench.core.errors import ConfigError, MissingPackageError
from workbench.runtime import machine

# A stand-in with the names and calls of the real one, written for this test: it counts what it is asked to do.
STAND_IN = {
    "__init__.py": "raise ImportError('the package itself needs a GPU and must not be loaded')",
    "config.py": "",
    "sampling_params.py": "class SamplingParams:\n    def __init__(self, max_tokens): self.max_tokens = max_tokens\n",
    "engine/block_manager.py": "",
    "engine/sequence.py": (
        "class Sequence:\n    block_size = 0\n    def __init__(self, tokens, params): self.tokens = list(tokens)\n"
    ),
    "engine/scheduler.py": """
from nanovllm.engine.sequence import Sequence

class Scheduler:
    def __init__(self, config):
        self.config, self.sequences, self.steps = config, [], 0

    def add(self, sequence):
        self.sequences.append(sequence)

    def schedule(self):
        assert Sequence.block_size == self.config.kvcache_block_size
        self.steps += 1
        return self.sequences, self.steps == 1

    def postprocess(self, sequences, tokens, is_prefill):
        for sequence, token in zip(sequences, tokens, strict=True):
            sequence.tokens.append(token)
""",
}


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "nanovllm"]:
        monkeypatch.delitem(sys.modules, name)
    for name, text in STAND_IN.items():
        path = tmp_path / "nanovllm" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    yield tmp_path
    for name in [name for name in sys.modules if name.split(".")[0] == "nanovllm"]:
        del sys.modules[name]


def test_our_scheduler_decodes_in_every_step_and_keeps_every_record():
    ours = OurDecoding(decoding_prompts(5, 16), max_tokens=40, block_size=16)
    assert ours.run(30) > 0
    records = ours.trace.records()
    assert len(records) == 31
    assert all(d.action == "decode" for record in records[1:] for d in record.decisions)
    assert all(len(record.sampled) == 5 for record in records)
    assert any(record.block_events for record in records[1:])


def test_nano_vllm_s_scheduler_is_run_as_it_is(checkout):
    nano = NanoVLLM(checkout)
    theirs = NanoDecoding(nano, decoding_prompts(3, 16), max_tokens=40, block_size=16)
    assert theirs.run(30) > 0
    assert theirs.scheduler.steps == 31
    assert [len(s.tokens) for s in theirs.scheduler.sequences] == [len(p) + 31 for p in decoding_prompts(3, 16)]


def test_a_folder_that_is_no_checkout_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"no checkout of nano-vllm: it has no nanovllm/engine/scheduler\.py"):
        NanoVLLM(tmp_path)


def test_what_nano_vllm_lacks_is_named(checkout):
    (checkout / "nanovllm" / "engine" / "scheduler.py").write_text("import a_library_that_nobody_has")
    with pytest.raises(MissingPackageError, match="pip install a_library_that_nobody_has"):
        NanoVLLM(checkout)


def test_the_command_prints_the_ratio_and_writes_it(checkout, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("workbench.bench.scheduler_bench.NUM_RUNNING", (1, 4))
    file = tmp_path / "figures.json"
    assert main(["bench", "scheduler", "--rounds", "1", "--nano-vllm", str(checkout), "--json", str(file)]) == 0
    assert "nano" in capsys.readouterr().out
    rows = json.loads(file.read_text())["figures"]["scheduler"]
    assert [(row["running"], row["block size"]) for row in rows] == [(1, 16), (4, 16), (1, 256), (4, 256)]
    assert all(row["µs per step"] > 0 and row["its time / ours"] > 0 for row in rows)


def test_without_a_checkout_ours_is_measured_alone(capsys, monkeypatch):
    monkeypatch.setattr("workbench.bench.scheduler_bench.NUM_RUNNING", (2,))
    assert main(["bench", "scheduler", "--rounds", "1"]) == 0
    assert "nano-vllm's µs" not in capsys.readouterr().out


def test_the_simulator_s_row_counts_what_it_simulated():
    rows = simulator_rows(rounds=1, tokens=2000)
    assert [row["users"] for row in rows] == [4, 32, 128]
    for row in rows:
        assert row["scheduled tokens"] > 1000
        assert row["tokens per CPU second"] > 0


def test_the_trace_s_rows_are_of_one_trace_recorded_and_loaded():
    recorded, loaded = trace_rows(num_steps=300)
    assert (recorded["steps"], loaded["steps"]) == (300, 300)
    assert recorded["records MiB"] == pytest.approx(loaded["records MiB"], rel=0.2)
    assert (recorded["bound MiB"], loaded["bound MiB"]) == ("576", "none")
    assert recorded["at() median ms"] > 0


def test_curves_of_running_requests_and_pools(tmp_path, monkeypatch):
    monkeypatch.setattr("workbench.bench.run.running_rows", lambda rounds: running_rows(rounds, (1, 3)))
    monkeypatch.setattr("workbench.bench.run.pool_rows", lambda rounds: pool_rows(rounds, (500, 2000)))
    files = {name: tmp_path / name for name in ("f.json", "f.csv")}
    options = ["--json", str(files["f.json"]), "--csv", str(files["f.csv"]), "--charts", str(tmp_path / "charts")]
    assert main(["bench", "running", "pool", "--rounds", "1", *options]) == 0
    written = json.loads(files["f.json"].read_text())
    rows = written["figures"]["running"]
    assert [row["running"] for row in rows] == [1, 3]
    for row in rows:
        assert row["tokens/s"] > 0
        assert row["decode step ms"] >= row["its forward ms"] > 0
        assert row["tokens/s at the limit"] > 0
        assert row["bound by"] in ("memory", "arithmetic")
        shares = [float(row[f"{part}, of the forward"].rstrip("%")) for part in ("matmuls", "attention")]
        assert 0 < min(shares) < sum(shares) < 101
        for name in ("TTFT", "ITL", "E2E"):
            assert 0 < row[f"{name} p50 ms"] <= row[f"{name} p95 ms"] <= row[f"{name} p99 ms"]
    assert [row["blocks"] for row in written["figures"]["pool"]] == [500, 2000]
    assert {"commit", "device", "torch", "processor"} <= set(written["machine"])
    with files["f.csv"].open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert {line["measurement"] for line in lines} == {"machine", "running", "pool"}
    assert {"measurement": "running", "row": "1", "figure": "running", "value": "3"} in lines
    assert {path.name for path in (tmp_path / "charts").glob("*.html")} == {"throughput and latency.html", "pool.html"}


def test_a_decode_step_by_context():
    rows = context_rows(1, (20, 40))
    assert [row["context"] for row in rows] == [20, 40]
    assert all(row["ms per step"] > 0 for row in rows)


def test_steps_beside_the_machine_s_limits(monkeypatch):
    monkeypatch.setattr(limits_bench, "BATCHES", (1, 2))
    monkeypatch.setattr(limits_bench, "PREFILL", 24)
    monkeypatch.setattr(limits_bench, "REPEATS", 1)
    monkeypatch.setitem(machine.COPY_BYTES, "cpu", 2**20)
    monkeypatch.setitem(machine.MATMUL_SIZE, "cpu", 64)
    rows = limits_bench.limits_rows(limits_bench.limits_rooflines())
    assert [row["step"] for row in rows] == ["prefill, 24 tokens", "decode, batch 1", "decode, batch 2"]
    assert all(row["ms"] > 0 and row["copy GB/s"] > 0 and row["forward / its timed parts"] > 0 for row in rows)


@pytest.mark.parametrize(
    ("name", "count", "prompt", "output"),
    [("S1", 1, 32, 64), ("S16", 16, 32, 64), ("W1", 1, 32, 128), ("W4", 1, 1024, 1)],
)
def test_workloads_of_one_size(name, count, prompt, output):
    assert [(len(i.prompt_token_ids), i.num_tokens) for i in workload(name, 500)] == [(prompt, output)] * count


def test_mixed_workloads():
    assert len(workload("W2", 500)) == 16
    items = workload("W3", 500)
    assert items[:16] == workload("W2", 500)
    assert len(items) == 64
    assert all(16 <= length <= 256 for i in items for length in (len(i.prompt_token_ids), i.num_tokens))


def test_models_and_workloads_that_there_are_not(capsys):
    assert main(["bench", "single", "--model", "7B"]) == 1
    assert "no model '7B' to measure; there are bundled, 135M, 0.6B" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="no workload 'W9'; there are S1, S16, W1, W2, W3, W4"):
        workload("W9", 500)


class _Completions(BaseHTTPRequestHandler):
    """Answers as the servers do, in one token less where it is told to."""

    asked: ClassVar[list[dict[str, Any]]] = []
    missing = 0

    def do_GET(self) -> None:
        self._answer({"data": [{"id": "stand-in"}]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.asked.append(body)
        count = body["max_tokens"] - self.missing
        pieces = [{"choices": [{"text": "a"}]}] * count + [{"choices": [], "usage": {"completion_tokens": count}}]
        self._send(b"".join(b"data: %s\n\n" % json.dumps(piece).encode() for piece in pieces) + b"data: [DONE]\n\n")

    def _answer(self, content: dict[str, Any]) -> None:
        self._send(json.dumps(content).encode())

    def _send(self, data: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        pass


def test_a_server_is_asked_for_the_same_tokens_and_may_not_stop_early(monkeypatch):
    monkeypatch.setattr(_Completions, "asked", [])
    with ThreadingHTTPServer(("127.0.0.1", 0), _Completions) as server:
        threading.Thread(target=server.serve_forever).start()
        try:
            peer = Server(f"http://127.0.0.1:{server.server_port}/")
            items = [Item([5, 6, 7], 3), Item([8], 2)]
            timed = peer.run(items)
            assert timed.seconds > max(timed.first) > 0
            assert sorted((body["prompt"], body["max_tokens"]) for body in _Completions.asked) == [
                ([5, 6, 7], 3),
                ([8], 2),
            ]
            assert {(body["temperature"], body["ignore_eos"], body["model"]) for body in _Completions.asked} == {
                (0, True, "stand-in")
            }
            monkeypatch.setattr(_Completions, "missing", 1)
            with pytest.raises(ConfigError, match=r"asked for \[3, 2\] tokens and got \[2, 1\]"):
                peer.run(items)
        finally:
            server.shutdown()


def test_an_address_where_nobody_answers():
    with pytest.raises(ConfigError, match="no server with OpenAI's completions answers at"):
        Server("http://127.0.0.1:9")
    with pytest.raises(ConfigError, match="needs an address"):
        Server("127.0.0.1:9")


def test_mistakes_end_with_a_message_and_a_status(capsys, tmp_path):
    assert main(["bench", "scheduler", "--nano-vllm", str(tmp_path)]) == 1
    assert "no checkout of nano-vllm" in capsys.readouterr().err
    assert main(["bench", "schedular"]) == 2
    assert "no measurement ['schedular']" in capsys.readouterr().err
    assert main(["bench", "--list"]) == 0
    assert "scheduler" in capsys.readouterr().out


@pytest.mark.slow
def test_gpu_figures_run_on_toy_sizes(tmp_path: Path) -> None:
    pytest.importorskip("triton", reason="Triton is not installed; its wheels are for Linux")
    from workbench.bench import gpu

    assert gpu.main(["--tiny", "--json", str(tmp_path / "rows.json"), "--csv", str(tmp_path / "rows.csv")]) == 0
    written = json.loads((tmp_path / "rows.json").read_text())
    rows = written["rows"]
    assert {row["part"] for row in rows} == {
        "machine", "checks", "decode attention", "matmul", "decode step", "timeline", "prefill", "workload"
    }  # fmt: skip
    assert all(row["measured"] >= 0 for row in rows)
    assert {row["note"] for row in rows if row["part"] == "checks"} == {"agrees"}
    assert len((tmp_path / "rows.csv").read_text().splitlines()) == len(rows) + 1
    assert "triton" in written["versions"]


def test_gpu_figures_without_a_gpu_say_so(capsys: pytest.CaptureFixture[str]) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    assert main(["bench", "gpu"]) == 1
    assert "needs a CUDA device" in capsys.readouterr().err
