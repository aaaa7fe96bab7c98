"""What the views cost and how soon they show what happened: a real engine, a real browser without a GPU."""

import itertools
import os
import statistics
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from workbench.bench.ui_page import Bridge, browser_seconds, headless_browser
from workbench.bench.unseen_page import unseen_page
from workbench.core.config import DEFAULT_TRACE_STEPS
from workbench.core.records import StepRecord
from workbench.core.sampling_params import SamplingParams
from workbench.engine.handle import RequestHandle
from workbench.llm import LLM
from workbench.trace.metrics import percentile

SIZE = {"width": 1600, "height": 1000}
UPDATES = 20  # a second
BLOCKS = 100_000
FRAME_SECONDS = 10.0
SETTLE_SECONDS, WINDOW_SECONDS = 0.3, 0.9
WINDOWS = 10  # of each kind in a round
OPENED_SECONDS = 2.0  # after which a page that was just opened is like one that was opened long ago
STORY = "Once upon a time there was a little girl who"
SAMPLES = 30  # of a soak
READY = "() => window.bench?.frames > 0"
# What page and trace keep in a soak: a tenth and a fiftieth of the usual, full early, so what grows then is a leak.
KEPT = {"steps": 2000, "rows": 100_000, "requests": 100, "tokens": 30_000}
KEEP = """kept => { for (const { store } of globalThis[Symbol.for('inference-workbench')].sessions.values())
  Object.assign(store.limits, kept); }"""
MIB = 2**20
QUIET = "() => { bench.noting = false; }"

Rows = list[dict[str, Any]]


def ui_rows(rounds: int, soak: float) -> Rows:
    """soak: seconds with the dashboard open and traffic running, 0 for none."""
    with headless_browser() as browser:
        rows = [*_frames(browser), *_cost(browser, rounds)]
    if soak > 0:
        with headless_browser() as browser:
            rows += _soak(browser, soak)
    return rows


def _row(what: str, value: float, unit: str, note: str) -> dict[str, Any]:
    return {"what": what, "value": round(value, 3), "unit": unit, "note": note}


def _ratio(what: str, ratios: list[float], note: str) -> dict[str, Any]:
    story = f"{len(ratios)} times, {min(ratios):.3f} to {max(ratios):.3f}"
    if len(ratios) > 1:  # a difference smaller than twice the last figure is no finding
        story += f", mean {statistics.mean(ratios):.3f} ± {statistics.stdev(ratios) / len(ratios) ** 0.5:.3f}"
    story += f"; {note}"
    return _row(what, statistics.median(ratios), "ratio", story)


@contextmanager
def _dashboard(browser: Any, llm: LLM, flowing: threading.Event | None = None) -> Iterator[Any]:
    """A page with all views of the engine, once the first frame has come. Nothing is sent while `flowing` is clear."""
    bridge, page = Bridge(llm, flowing), browser.new_page(viewport=SIZE)
    try:
        page.goto(bridge.url)
        page.wait_for_function(READY)
        yield page
    finally:
        page.close()
        bridge.close()


def _frames(browser: Any) -> Rows:
    """Pictures a second and the way from an event to the screen, while a step is taken 20 times a second."""
    recorded: dict[int, float] = {}

    def note(record: StepRecord) -> None:
        recorded[record.step] = time.time()

    # Blocks of one token: as many of them as the views should bear, in little memory.
    with LLM(num_gpu_blocks_override=BLOCKS, block_size=1, max_num_seqs=16) as llm:
        llm.set_speed(UPDATES)
        llm.hooks.on_step(note)
        params = SamplingParams(temperature=0.8, max_tokens=300, ignore_eos=True)
        handles = [llm.submit("Once upon a time there was", params) for _ in range(48)]
        with _dashboard(browser, llm) as page:
            page.locator(".iw-panel-blocks").scroll_into_view_if_needed()
            page.wait_for_timeout(2000)
            page.evaluate("() => { bench.count(); bench.drawn = 0; bench.delays.length = 0; }")
            began = time.perf_counter()
            page.wait_for_timeout(FRAME_SECONDS * 1000)
            seconds = time.perf_counter() - began
            drawn, delays = page.evaluate("() => [bench.drawn, bench.delays]")
        for handle in handles:
            handle.cancel()
    to_pixel = [(at - recorded[step]) * 1e3 for step, at in delays if step in recorded]
    return [
        _row("frames", drawn / seconds, "a second", f"{BLOCKS:,} blocks, {UPDATES} steps a second; a screen has 60"),
        _row("event to pixel, p50", percentile(to_pixel, 50), "ms", f"{len(to_pixel)} updates"),
        _row("event to pixel, p95", percentile(to_pixel, 95), "ms", "up to 50 ms of it wait for the next update"),
    ]


@contextmanager
def _steady_load() -> Iterator[LLM]:
    """An engine that always has a full batch and a queue."""
    with LLM(max_num_seqs=16, trace_steps=500) as llm, ThreadPoolExecutor(1) as pool:
        ended = threading.Event()
        done = pool.submit(_keep_busy, llm, ended)
        try:
            yield llm
        finally:
            ended.set()
            done.result()


def _keep_busy(llm: LLM, ended: threading.Event) -> None:
    # Of many lengths, so that requests do not begin and end together and one moment is like another.
    lengths = itertools.cycle(range(40, 320, 17))
    pending: list[RequestHandle] = []
    while not ended.wait(0.1):
        pending = [handle for handle in pending if not handle.done()]
        for _ in range(24 - len(pending)):
            params = SamplingParams(temperature=0.0, max_tokens=next(lengths), ignore_eos=True)
            pending.append(llm.submit(STORY, params))
    for handle in pending:
        handle.cancel()


class _Window(NamedTuple):
    """What an engine did for a while. computing: the share of time that its thread had a processor; 0 if not told.
    browser: processors that the browser used; 0 if not told.
    """

    steps_per_second: float
    computing: float
    browser: float


def _window(llm: LLM) -> _Window:
    time.sleep(SETTLE_SECONDS)
    browser = browser_seconds() or 0.0  # first and last, as it reads hundreds of files
    step, computed, began = llm.status().step, _engine_seconds(), time.perf_counter()
    time.sleep(WINDOW_SECONDS)
    step, computed, seconds = llm.status().step - step, _engine_seconds() - computed, time.perf_counter() - began
    return _Window(step / seconds, computed / seconds, ((browser_seconds() or 0.0) - browser) / seconds)


def _engine_seconds() -> float:
    """Processor time of the engines' threads of this process, in nanosecond steps, where the system counts it so."""
    threads = [thread.native_id for thread in threading.enumerate() if thread.name == "workbench-engine"]
    try:
        return sum(int(Path(f"/proc/self/task/{one}/schedstat").read_text().split()[0]) for one in threads) / 1e9
    except OSError:
        return 0.0


def _cost(browser: Any, rounds: int) -> Rows:
    """An engine that is watched against the same one while its stream is held back, in quick alternation.

    Speed changes by itself by a tenth from second to second on most machines, so it takes hundreds of short windows to
    tell one percent; opening a page anew for each would be measured along with it. A page that is sent nothing draws
    nothing, which the browser's processor time shows. The time that the engine's thread gets is much steadier than
    speed, and told too.

    The engine's own part is measured with the stream going to a reader in this process that acknowledges and draws
    nothing: records made into frames, and the interpreter's lock held meanwhile. The rest is what the browser takes.
    """
    flowing = threading.Event()
    flowing.set()
    with _steady_load() as llm:
        with _dashboard(browser, llm, flowing) as page:
            page.wait_for_function("step => bench.last >= step", arg=llm.status().step)
            page.evaluate(QUIET)
            time.sleep(OPENED_SECONDS)
            opened = _alternated(llm, flowing, rounds)
        with unseen_page(llm, flowing):
            unseen = _alternated(llm, flowing, rounds)
        closed = _alternated(llm, flowing, rounds)
    cores = f"the browser draws in software on the same {os.cpu_count()} cores"
    rows = [
        *_cost_rows("everything open / held back", opened, cores),
        *_cost_rows("stream alone / held back", unseen, "nobody draws: what is lost here is the engine's side"),
        *_cost_rows("nothing open / nothing open", closed, "what the machine changes by itself meanwhile"),
    ]
    for state, windows in (("everything open", opened[1::2]), ("held back", opened[0::2])):
        used = [window.browser for window in windows]
        if any(used):
            rows.append(_row(f"browser's processor time, {state}", statistics.mean(used), "cores", "mean"))
    return rows


def _alternated(llm: LLM, flowing: threading.Event, rounds: int) -> list[_Window]:
    """Windows held back and flowing in turns; the first and the last one are held back."""
    windows = []
    for place in range(2 * rounds * WINDOWS + 1):
        flowing.set() if place % 2 else flowing.clear()
        windows.append(_window(llm))
    flowing.set()
    return windows


def _cost_rows(what: str, windows: list[_Window], note: str) -> Rows:
    """Every second window against those right before and after it."""
    found = []
    for name, field in (("speed", "steps_per_second"), ("time that the engine's thread gets", "computing")):
        values = [getattr(window, field) for window in windows]
        if all(values):
            ratios = [2 * b / (a + c) for a, b, c in zip(values[0::2], values[1::2], values[2::2], strict=False)]
            found.append(_ratio(f"{name}, {what}", ratios, note))
    return found


def _soak(browser: Any, seconds: float) -> Rows:
    """Memory of the page and of this process over time, and steps that did not reach the page."""
    heap, resident = [], []
    params = SamplingParams(temperature=0.8, max_tokens=120, ignore_eos=True)
    llm = LLM(num_gpu_blocks_override=256, max_num_seqs=8, trace_steps=KEPT["steps"])
    with llm, _dashboard(browser, llm) as page:
        page.evaluate(KEEP, KEPT)
        devtools = page.context.new_cdp_session(page)
        pending = []
        for _ in range(SAMPLES):
            end = time.monotonic() + seconds / SAMPLES
            while time.monotonic() < end:
                pending = [handle for handle in pending if not handle.done()]
                pending += [llm.submit("One day, Tom and his dog", params) for _ in range(12 - len(pending))]
                page.wait_for_timeout(200)
            page.evaluate("() => { bench.delays.length = 0; }")  # of no use here, and it grows
            devtools.send("HeapProfiler.collectGarbage")
            heap.append(devtools.send("Runtime.getHeapUsage")["usedSize"] / MIB)
            resident.append(_resident())
        for handle in pending:
            handle.cancel()
        steps, lost, newest = page.evaluate("() => [bench.steps, bench.lost, bench.last]")
        behind = llm.status().step - newest
        held = llm.trace.num_bytes / MIB
    third = SAMPLES // 3
    rows = []
    for name, values in (("page's heap", heap), ("kernel's memory", resident)):
        parts = [statistics.mean(values[i * third : (i + 1) * third]) for i in range(3)]
        story = f"MiB in thirds of {seconds:.0f} s: {', '.join(f'{part:.1f}' for part in parts)}"
        story += f"; it keeps {KEPT['steps']:,} steps here, "
        story += "a tenth of the usual" if name == "page's heap" else f"{held:.1f} MiB of {DEFAULT_TRACE_STEPS:,} steps"
        rows.append(_row(f"{name}, last third / middle", parts[2] / parts[1], "ratio", story))
    note = f"of {steps:,}; at the end the page is {behind} behind"
    return [*rows, _row("steps that did not reach the page", lost, "steps", note)]


def _resident() -> float:
    """MiB of this process; where the system does not tell how much is in use now, the most that it was."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * 4096 / MIB
    except OSError:
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
