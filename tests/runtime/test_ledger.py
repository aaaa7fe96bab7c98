"""The ledger against a GPU that is pretended: torch's and NVML's answers are given, the arithmetic is ours."""

import os
import sys
import threading
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import torch

from workbench.core.memory import DeviceReading
from workbench.ledger import Ledger
from workbench.runtime.device_meter import DeviceMeter
from workbench.runtime.ledger import Held, ledger

CUDA = torch.device("cuda", 0)
MIB = 2**20
HELD = Held({"int8": 500 * MIB, "bfloat16": 100 * MIB}, 2000 * MIB, 50 * MIB, 80 * MIB, 10 * MIB)


class NVMLError(Exception):
    """The base of pynvml's errors."""


class FakeNVML:
    """What pynvml offers; every answer can be taken away."""

    NVML_CLOCK_SM, NVML_CLOCK_MEM, NVML_TEMPERATURE_GPU = 1, 2, 0
    NVMLError = NVMLError

    def __init__(self) -> None:
        self.missing: set[str] = set()
        self.opened = 0
        self.threads: set[str] = set()
        self.used = 6000 * MIB
        self.processes: list[tuple[int, int | None]] = [(os.getpid(), 3500 * MIB), (7, 1200 * MIB)]

    def __getattr__(self, name: str) -> Any:
        answers: dict[str, Any] = {
            "nvmlDeviceGetHandleByUUID": lambda: "handle",
            "nvmlDeviceGetMemoryInfo": lambda: SimpleNamespace(total=80000 * MIB, used=self.used),
            "nvmlDeviceGetUtilizationRates": lambda: SimpleNamespace(gpu=37, memory=5),
            "nvmlDeviceGetPowerUsage": lambda: 251_400,
            "nvmlDeviceGetEnforcedPowerLimit": lambda: 700_000,
            "nvmlDeviceGetTemperature": lambda: 41,
            "nvmlDeviceGetComputeRunningProcesses": lambda: [
                SimpleNamespace(pid=pid, usedGpuMemory=size) for pid, size in self.processes
            ],
        }

        def call(*arguments: Any) -> Any:
            self.threads.add(threading.current_thread().name)
            if name in self.missing:
                raise NVMLError("Not Supported")
            if name == "nvmlInit":
                self.opened += 1
            if name == "nvmlShutdown":
                self.opened -= 1
            if name == "nvmlDeviceGetClockInfo":
                return {1: 1980, 2: 2619}[arguments[1]]
            return answers[name]() if name in answers else None

        return call


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> FakeNVML:
    fake = FakeNVML()
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA Test")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid="1-2"))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 3000 * MIB)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 2850 * MIB)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (74100 * MIB, 80000 * MIB))
    return fake


def mebibytes(rows: Any) -> dict[str, int]:
    return {row.name: row.bytes // MIB for row in rows}


def test_the_rows_are_told_apart_and_add_up_to_what_nvml_says(nvml: FakeNVML) -> None:
    reading = DeviceMeter(CUDA).read()
    rows = ledger(HELD, CUDA, reading)
    assert mebibytes(rows) == {
        "weights in bfloat16": 100,
        "weights in int8": 500,
        "KV cache": 2000,
        "KV cache's scales": 50,
        "activations and workspace": 130,
        "CUDA graphs": 80,
        "kept by torch's allocator, unused": 140,
        "CUDA itself, for this process": 500,
        "other processes": 1200,
        "the driver, and what no process is named for": 1300,
    }
    assert sum(row.bytes for row in rows) == reading.used_bytes == 6000 * MIB
    assert (reading.utilization, reading.power_watts, reading.power_limit_watts) == (0.37, 251.4, 700.0)
    assert (reading.clock_mhz, reading.memory_clock_mhz, reading.temperature_celsius) == (1980, 2619, 41)
    assert reading.processes == ((os.getpid(), 3500 * MIB), (7, 1200 * MIB))
    shown = Ledger(rows, reading)
    assert shown.by_kind()["weights"] == 600 * MIB
    assert "NVIDIA Test, 6,000 MiB of 80,000 MiB in use by all processes, 37% busy, 251 of 700 W" in repr(shown)
    assert "<table>" in shown._repr_html_()


@pytest.mark.parametrize("processes", [[], [(4711, 3500 * MIB)], [(os.getpid(), None)]])
def test_a_driver_that_does_not_know_this_process_leaves_one_row_for_all_others(
    nvml: FakeNVML, processes: list[tuple[int, int | None]]
) -> None:
    nvml.processes = processes  # in a container, process ids are the host's
    reading = DeviceMeter(CUDA).read()
    rows = ledger(HELD, CUDA, reading)
    assert mebibytes(rows)["other processes and CUDA itself"] == 3000
    assert sum(row.bytes for row in rows) == reading.used_bytes


def test_without_nvml_the_reading_says_why_and_the_rows_add_up_to_what_cuda_says(
    nvml: FakeNVML, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    reading = DeviceMeter(CUDA).read()
    assert reading.used_bytes is None
    assert "pip install 'inference-workbench[gpu]'" in str(reading.problem)
    rows = ledger(HELD, CUDA, reading)
    assert sum(row.bytes for row in rows) == (80000 - 74100) * MIB
    assert "nvidia-ml-py is not installed" in repr(Ledger(rows, reading))


def test_an_nvml_that_fails_is_told_and_asked_again(nvml: FakeNVML) -> None:
    meter = DeviceMeter(CUDA)
    nvml.missing = {"nvmlDeviceGetMemoryInfo"}
    assert meter.read().problem == "NVML does not answer: Not Supported"
    nvml.missing = {"nvmlDeviceGetPowerUsage", "nvmlDeviceGetUtilizationRates"}
    reading = meter.read()
    assert (reading.problem, reading.power_watts, reading.utilization) == (None, None, None)
    assert reading.temperature_celsius == 41
    assert nvml.opened == 1
    meter.close()
    assert nvml.opened == 0


def test_on_a_cpu_the_process_is_the_measure() -> None:
    reading = DeviceMeter(torch.device("cpu")).read()
    resident = psutil.Process().memory_info().rss
    assert reading.own_bytes == pytest.approx(resident, rel=0.05)
    assert reading.total_bytes == psutil.virtual_memory().total
    rows = ledger(Held({"float32": MIB}, MIB, 0), torch.device("cpu"), reading)
    assert [row.kind for row in rows] == ["weights", "kv", "other"]
    assert sum(row.bytes for row in rows) == reading.own_bytes
    assert sum(row.bytes for row in ledger(Held({}, 0, 0), torch.device("cpu"))) == pytest.approx(resident, rel=0.05)


def test_a_problem_is_one_line() -> None:
    assert Ledger([], DeviceReading("GPU", "NVML", problem="gone")).device_text() == "GPU: gone"
