"""Measures the block map: python extension/dev/frames.py TRACE.json [--blocks N ...]

A made-up engine sends 20 updates a second to a headless Chromium without a GPU. Printed per pool size and view: the
JavaScript time of an animation frame and of taking in an update (median and 95th percentile, ms), and the frames a
second that the page could have drawn in the main thread's idle time, counted by requestAnimationFrame.
"""

import argparse
import functools
import statistics
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, sync_playwright
from shots import CHROMIUM, FLAGS, ROOT

MEASURE = """
window.measured = {draw: [], frames: 0};
const request = window.requestAnimationFrame.bind(window);
window.requestAnimationFrame = callback => request(time => {
  const began = performance.now();
  callback(time);
  window.measured.draw.push(performance.now() - began);
});
const count = () => { window.measured.frames += 1; request(count); };
request(count);
"""


class TraceHandler(SimpleHTTPRequestHandler):
    """The repository, and the trace under one name."""

    trace = Path()

    def translate_path(self, path: str) -> str:
        return str(self.trace) if path == "/trace.json" else super().translate_path(path)

    def log_message(self, format: str, *args: Any) -> None:
        pass


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("trace", type=Path)
    options.add_argument("--blocks", type=int, nargs="*", default=[10_000, 100_000, 1_000_000])
    options.add_argument("--seconds", type=float, default=5.0)
    arguments = options.parse_args()
    TraceHandler.trace = arguments.trace
    handler = functools.partial(TraceHandler, directory=str(ROOT))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server, sync_playwright() as playwright:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        print("blocks     view            draw p50   p95 ms   update p50   p95 ms   frames/s")
        for blocks in arguments.blocks:
            page = browser.new_page(viewport={"width": 1400, "height": 700})
            page.on("pageerror", lambda error: print("page error:", error))
            page.add_init_script(MEASURE)
            query = f"trace=/trace.json&view=blocks&height=600&speed=20&blocks={blocks}"
            page.goto(f"http://127.0.0.1:{server.server_port}/extension/dev/harness.html?{query}")
            page.wait_for_function("() => window.measured.draw.length > 5", timeout=120_000)
            page.evaluate(
                """() => { const k = harness.kernel, frame = k.frame.bind(k); window.measured.update = [];
                const emit = k.emit.bind(k);
                k.emit = (...a) => { const t = performance.now(); emit(...a);
                  window.measured.update.push(performance.now() - t); }; }"""
            )
            for name in ("owner", "age", "next", "owner, zoomed", "owner, hovered"):
                show(page, name)
                print(f"{blocks:<10} {name:<15} {measure(page, arguments.seconds)}", flush=True)
            page.close()
        browser.close()
        server.shutdown()


def show(page: Page, name: str) -> None:
    """Bring the map into one of the measured states."""
    page.get_by_test_id(f"colour-by-{name.split(',')[0]}").click()
    if "zoomed" in name:
        for _ in range(4):
            page.get_by_test_id("map-zoom-in").click()
    elif "hovered" in name:
        page.get_by_test_id("map-zoom-fit").click()
        page.mouse.move(600, 300)


def measure(page: Page, seconds: float) -> str:
    """One line of figures over some seconds."""
    page.wait_for_timeout(500)
    page.evaluate("() => { measured.draw.length = 0; measured.update.length = 0; measured.frames = 0; }")
    page.wait_for_timeout(seconds * 1000)
    found = page.evaluate("() => measured")
    cells = []
    for values in (found["draw"], found["update"]):
        p95 = statistics.quantiles(values, n=20)[-1]
        cells.append(f"{statistics.median(values):8.2f} {p95:8.2f}")
    return f"{cells[0]}      {cells[1]}   {found['frames'] / seconds:8.1f}"


if __name__ == "__main__":
    main()
