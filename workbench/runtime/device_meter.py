"""Asks the device how it is: a GPU through NVML, a CPU for this process's own figures.

NVML comes with nvidia-ml-py, which the extra `gpu` installs. Asking takes milliseconds, so the engine's thread never
does.
"""

import importlib
import os
import threading
from collections.abc import Callable
from typing import Any, TypeVar

import psutil
import torch

from workbench.core.memory import DeviceReading, ProcessMemory

T = TypeVar("T")

MISSING = "nvidia-ml-py is not installed; pip install 'inference-workbench[gpu]' brings it"


class DeviceMeter:
    """One device. Nothing is opened before the first reading; any thread may ask."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._process = psutil.Process()
        self._cores = psutil.cpu_count() or 1
        self._lock = threading.Lock()
        self._nvml: Any = None
        self._handle: Any = None

    def read(self) -> DeviceReading:
        """How it is now. Never raises: what goes wrong is the reading's `problem`."""
        if self._device.type != "cuda":
            return self._cpu()
        name = torch.cuda.get_device_name(self._device)
        with self._lock:
            try:
                nvml, handle = self._open()
                return self._gpu(name, nvml, handle)
            except ImportError:
                return DeviceReading(name, "NVML", problem=MISSING)
            except Exception as error:  # NVML's errors have a common base only where it could be imported
                return DeviceReading(name, "NVML", problem=f"NVML does not answer: {error}")

    def _cpu(self) -> DeviceReading:
        memory = psutil.virtual_memory()
        with self._lock:
            busy = self._process.cpu_percent() / 100 / self._cores
        return DeviceReading(
            f"CPU, {self._cores} cores",
            "psutil",
            total_bytes=memory.total,
            used_bytes=memory.total - memory.available,
            own_bytes=self._process.memory_info().rss,
            utilization=min(busy, 1.0),
        )

    def _open(self) -> tuple[Any, Any]:
        if self._handle is None:
            nvml = importlib.import_module("pynvml")
            nvml.nvmlInit()
            uuid = torch.cuda.get_device_properties(self._device).uuid
            self._nvml, self._handle = nvml, nvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}")
        return self._nvml, self._handle

    def _gpu(self, name: str, nvml: Any, handle: Any) -> DeviceReading:
        memory = nvml.nvmlDeviceGetMemoryInfo(handle)

        def ask(question: Callable[[], T]) -> T | None:
            try:
                return question()
            except nvml.NVMLError:  # many boards leave something out
                return None

        found = ask(lambda: nvml.nvmlDeviceGetComputeRunningProcesses(handle)) or []
        processes = tuple(ProcessMemory(p.pid, p.usedGpuMemory) for p in found)
        rates = ask(lambda: nvml.nvmlDeviceGetUtilizationRates(handle))
        power = ask(lambda: nvml.nvmlDeviceGetPowerUsage(handle))
        limit = ask(lambda: nvml.nvmlDeviceGetEnforcedPowerLimit(handle))
        return DeviceReading(
            name,
            "NVML",
            total_bytes=memory.total,
            used_bytes=memory.used,
            own_bytes=next((p.bytes for p in processes if p.pid == os.getpid()), None),
            utilization=None if rates is None else rates.gpu / 100,
            power_watts=None if power is None else power / 1000,
            power_limit_watts=None if limit is None else limit / 1000,
            clock_mhz=ask(lambda: nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM)),
            memory_clock_mhz=ask(lambda: nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_MEM)),
            temperature_celsius=ask(lambda: nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU)),
            processes=processes,
        )

    def close(self) -> None:
        """Let go of NVML."""
        with self._lock:
            if self._handle is not None:
                self._nvml.nvmlShutdown()
                self._handle = None
