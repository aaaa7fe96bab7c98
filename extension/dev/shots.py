"""Takes pictures of the views over a recorded trace: python extension/dev/shots.py OUT_DIR [--only NAME]"""

import argparse
import functools
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, sync_playwright

ROOT = Path(__file__).parents[2]
CHROMIUM = "/usr/bin/chromium"
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

STOP = (
    "message=preemption: r7 was preempted: r4 needed 1 blocks, 0 were free"
    "&breaks=preemption,first_token of r12,fewer than 4 free blocks,a step over 50 ms"
)

# name -> (query, width, height, what to do before the picture)
SHOTS: dict[str, tuple[str, int, int, str]] = {
    "dash-dark-1400": ("theme=dark&until=800&paused", 1400, 1500, ""),
    "dash-light-1400": ("theme=light&until=800&paused", 1400, 1500, ""),
    "dash-dark-900": ("theme=dark&until=800&paused", 900, 1900, ""),
    "dash-light-480": ("theme=light&until=800&paused", 480, 3600, ""),
    "select-dark-1400": ("theme=dark&until=800&paused", 1400, 1500, "select"),
    "select-light-1000": ("theme=light&until=800&paused", 1000, 2000, "select"),
    "cursor-dark-1400": ("theme=dark&until=700", 1400, 1500, "cursor"),
    "stop-dark-1400": (f"theme=dark&until=774&paused&{STOP}", 1400, 1500, "waits"),
    "stop-light-900": (f"theme=light&until=774&paused&{STOP}", 900, 2000, "waits"),
    "stop-light-480": (f"theme=light&view=controls,requests&until=774&paused&{STOP}", 480, 700, "waits"),
    "empty-light-1000": ("theme=light&until=-1&state=idle", 1000, 2000, ""),
    "lost-dark-1000": ("theme=dark&until=800&paused", 1000, 2000, "lost"),
    "big-dark-1000": ("theme=dark&view=blocks&trace=out/big.json&until=60&paused", 1000, 500, ""),
    "start-light-1000": ("theme=light&until=9&paused", 1000, 2000, ""),
    "modes-dark-1000": ("theme=dark&view=blocks,blocks,blocks,blocks&until=800&paused", 1000, 1600, "modes"),
    "zoom-light-1000": ("theme=light&view=timeline&until=800&paused", 1000, 560, "zoom"),
    "time-dark-1000": ("theme=dark&view=timeline&until=800&paused", 1000, 560, "time"),
    "hover-dark-1000": ("theme=dark&view=blocks,timeline&until=800&paused", 1000, 1000, "hover"),
}


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("out", type=Path)
    options.add_argument("--only", default="")
    arguments = options.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    handler = functools.partial(QuietHandler, directory=str(ROOT))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server, sync_playwright() as playwright:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        for name, (query, width, height, action) in SHOTS.items():
            if arguments.only not in name:
                continue
            page = browser.new_page(viewport={"width": width, "height": height})
            page.on("console", lambda m: print("console:", m.text))
            page.on("pageerror", lambda e: print("page error:", e))
            page.goto(f"http://127.0.0.1:{server.server_port}/extension/dev/harness.html?{query}")
            page.wait_for_timeout(700)
            act(page, action)
            page.wait_for_timeout(400)
            page.screenshot(path=str(arguments.out / f"{name}.png"), full_page=True)
            page.close()
        browser.close()
        server.shutdown()


def act(page: Page, action: str) -> None:
    if action == "select":
        page.locator("[data-testid^=request-]").nth(2).click()
        page.mouse.move(1, 1)
    elif action == "waits":
        page.locator("[data-testid^=request-][data-state=preempted]").first.click()
        page.mouse.move(1, 1)
    elif action == "cursor":
        page.get_by_test_id("previous-event").click()
        for _ in range(6):
            page.get_by_test_id("previous-event").click()
    elif action == "lost":
        page.evaluate("harness.lose()")
    elif action == "zoom":
        for _ in range(6):
            page.get_by_test_id("zoom-in").click()
    elif action == "time":
        page.get_by_test_id("axis-time").click()
    elif action == "modes":
        for i, mode in enumerate(["state", "refs", "age", "next"]):
            page.get_by_test_id(f"colour-by-{mode}").nth(i).click()
    elif action == "hover":
        box = page.get_by_test_id("block-map").bounding_box()
        assert box is not None
        page.mouse.move(box["x"] + box["width"] * 0.55, box["y"] + 40)


if __name__ == "__main__":
    main()
