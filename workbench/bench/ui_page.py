"""A page in a headless browser that shows an engine's dashboard over plain loopback HTTP, without a Jupyter server."""

import json
import os
import queue
import secrets
import shutil
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import workbench.widgets
from workbench.core.errors import MissingPackageError
from workbench.llm import LLM
from workbench.widgets.engine_channel import EngineChannel

SCRIPT = Path(workbench.widgets.__file__).parent / "static" / "workbench.js"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--enable-precise-memory-info"]
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

# A message: the lengths of its JSON and of its one buffer, then both. Noted per frame, unless bench.noting is off: when
# its newest step was recorded, and when the picture after it was on the screen: the second animation frame begins after
# the first is drawn. bench.count() counts the pictures, and keeps the browser at it.
PAGE = """<!doctype html><meta charset="utf-8"><link rel="icon" href="data:,">
<body style="margin:0"><div id="view"></div>
<script type="module">
const { default: widget } = await import('/workbench.js');
const listeners = new Set();
const bench = window.bench = { frames: 0, delays: [], steps: 0, lost: 0, last: null, drawn: 0, noting: true,
  count() { bench.drawn++; requestAnimationFrame(bench.count); } };
const model = { get: name => ({ view: 'dashboard', engine_id: ENGINE, height: 0 })[name], set() {}, save_changes() {},
  on(name, callback) { if (name === 'msg:custom') listeners.add(callback); },
  off(name, callback) { listeners.delete(callback); },
  send(message) { void fetch('/send/' + CHANNEL, { method: 'POST', body: JSON.stringify(message) }); } };
const CHANNEL = TOKEN;
const take = (content, buffer) => {
  for (const listener of listeners) listener(content, buffer === null ? [] : [new DataView(buffer)]);
  if (content.type !== 'frame') return;
  bench.frames++;
  if (!bench.noting) return;
  const { records, status } = JSON.parse(new TextDecoder().decode(buffer));
  for (const { step } of records) {
    if (bench.last !== null && step !== bench.last + 1 && !content.keyframe) bench.lost += step - bench.last - 1;
    bench.last = step;
    bench.steps++;
  }
  if (records.length > 0) requestAnimationFrame(() => requestAnimationFrame(() =>
    bench.delays.push([records.at(-1).step, Date.now() / 1000])));
};
widget.render({ model, el: document.getElementById('view') });
const reader = (await fetch('/stream/' + CHANNEL)).body.getReader();
let held = new Uint8Array(0);
for (;;) {
  const { done, value } = await reader.read();
  if (done) break;
  const joined = new Uint8Array(held.length + value.length);
  joined.set(held); joined.set(value, held.length); held = joined;
  while (held.length >= 8) {
    const view = new DataView(held.buffer, held.byteOffset);
    const [head, body] = [view.getUint32(0), view.getUint32(4)];
    if (held.length < 8 + head + body) break;
    const content = JSON.parse(new TextDecoder().decode(held.subarray(8, 8 + head)));
    take(content, body === 0 ? null : held.slice(8 + head, 8 + head + body).buffer);
    held = held.slice(8 + head + body);
  }
}
</script>"""


class Bridge:
    """One page's channel to one engine. What the engine's threads send waits here for the page's open request.

    While `flowing` is clear nothing is sent: the thread that makes the frames waits.
    """

    def __init__(self, llm: LLM, flowing: threading.Event | None = None) -> None:
        self._flowing = flowing
        self.token = secrets.token_hex(8)
        self._outbox: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._channel = EngineChannel(llm.client, self._put)
        bridge = self
        page = PAGE.replace("ENGINE", json.dumps(llm.engine_id)).replace("TOKEN", json.dumps(self.token))

        class Handler(BaseHTTPRequestHandler):
            """The page, its script, what it sends and what is sent to it."""

            def do_GET(self) -> None:
                if self.path == "/":
                    self._answer(page.encode(), "text/html; charset=utf-8")
                elif self.path == "/workbench.js":
                    self._answer(SCRIPT.read_bytes(), "text/javascript")
                elif self.path == f"/stream/{bridge.token}":
                    self.send_response(200)
                    self.end_headers()
                    try:
                        while (data := bridge._outbox.get()) is not None:
                            self.wfile.write(data)
                    except OSError:
                        bridge._channel.close()  # the page is gone
                else:
                    self.send_error(404)

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                if self.path == f"/send/{bridge.token}":
                    bridge._channel.receive(json.loads(body))
                self._answer(b"", "text/plain")

            def _answer(self, data: bytes, kind: str) -> None:
                self.send_response(200)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}/"
        threading.Thread(target=self.server.serve_forever, name="bench-page", daemon=True).start()

    def close(self) -> None:
        """End the stream and the server."""
        self._channel.close()
        self._outbox.put(None)
        self.server.shutdown()
        self.server.server_close()

    def _put(self, content: dict[str, Any], buffers: list[bytes]) -> None:
        if self._flowing is not None:
            self._flowing.wait()
        head, body = json.dumps(content).encode(), buffers[0] if buffers else b""
        self._outbox.put(struct.pack(">II", len(head), len(body)) + head + bytes(body))


@contextmanager
def headless_browser() -> Iterator[Any]:
    """A Chromium that draws in software, driven by playwright; MissingPackageError says what is not there."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        raise MissingPackageError("bench ui drives a browser: pip install playwright, and install Chromium") from None
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        raise MissingPackageError(f"bench ui needs a browser: none of {', '.join(BROWSERS)} was found on PATH")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        try:
            yield browser
        finally:
            browser.close()


def browser_seconds() -> float | None:
    """Processor time that the browser's processes have used so far; None where the system does not tell."""
    times = [_stat(pid)[1] for pid in _browser_processes()]
    return sum(times) if times else None


def _browser_processes() -> list[int]:
    """What this process has started that is a browser, by /proc; empty where there is none."""
    parents: dict[int, int] = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(path.name)] = _stat(int(path.name))[0]
        except OSError:
            continue
    ours, found = {os.getpid()}, []
    while new := [pid for pid, parent in parents.items() if parent in ours and pid not in ours]:
        ours.update(new)
        found += new
    return [pid for pid in found if b"chrom" in _command(pid)]


def _stat(pid: int) -> tuple[int, float]:
    """A process's parent, and the seconds of processor time that it used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return int(fields[1]), (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
