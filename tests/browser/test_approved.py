"""Every view in its main states and both themes, beside its approved picture; `make approve` renews those."""

from __future__ import annotations

import functools
import gzip
import os
import threading
from collections.abc import Callable, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from approved import FONTS, HAS_FONTS, approve, differences
from playwright.sync_api import Browser, Page, expect

ROOT = Path(__file__).resolve().parents[2]
TRACE = ROOT / "extension" / "tests" / "trace.json.gz"
APPROVED = Path(__file__).parent / "approved"
VIEWS = "controls,knobs,playground,blocks,timeline,requests,memory,latency,kernels,traffic,what_if,compare"
NUM_VIEWS = len(VIEWS.split(","))
STOPPED = "until=150&paused"

# sheet -> what is on it, in a page of what width, and the harness's query
SHEETS = {
    "paused": (VIEWS, 1400, STOPPED),
    "picked": (VIEWS, 1400, STOPPED),
    "past": (VIEWS, 1400, STOPPED),
    "empty": (VIEWS, 1400, "until=-1&state=idle"),
    "failed": (VIEWS, 1400, "until=150&state=error&message=OutOfMemoryError: the step needed 12 MiB, 4 MiB were free"),
    "disconnected": (VIEWS, 1400, STOPPED),
    "narrow": ("dashboard", 420, STOPPED),
    "wide": ("dashboard", 1680, STOPPED),
}
THEMES = ("light", "dark")

# Every view at one width, three beside each other; the page is as high as they are, as nothing out of sight is drawn.
STYLE = f"""
  body {{ --jp-ui-font-family: {FONTS[0]}; --jp-code-font-family: {FONTS[1]}; }}
  * {{ caret-color: transparent !important; }}
"""
BESIDE = """
  #views { display: grid; grid-template-columns: repeat(3, 448px); gap: 16px; align-items: start; }
"""
PICK = """() => { const session = [...globalThis[Symbol.for('inference-workbench')].sessions.values()][0];
  const { running, block_tables } = session.stateAt('live');
  session.select({ request: running[0], block: block_tables[running[0]][0] }); }"""

GO_BACK = "() => [...globalThis[Symbol.for('inference-workbench')].sessions.values()][0].setCursor(90)"

TRIES = 20

Sheet = Callable[[str, str], Page]


class Handler(SimpleHTTPRequestHandler):
    """The repository's files, and the recorded trace unpacked."""

    def do_GET(self) -> None:
        if not self.path.startswith("/trace.json"):
            return super().do_GET()
        data = gzip.decompress(TRACE.read_bytes())
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(ROOT))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def sheet(browser: Browser, site: str) -> Iterator[Sheet]:
    """Opens all views in one state and theme."""
    pages: list[Page] = []

    def open_sheet(name: str, theme: str) -> Page:
        views, width, query = SHEETS[name]
        page = browser.new_page(viewport={"width": width, "height": 1000}, reduced_motion="reduce")
        pages.append(page)
        page.goto(f"{site}/extension/dev/harness.html?trace=/trace.json&theme={theme}&view={views}&{query}")
        if not page.evaluate(HAS_FONTS, list(FONTS)):
            reason = "no DejaVu fonts (Debian: apt install fonts-dejavu-core): lines would break at other places"
            if os.environ.get("CI"):
                pytest.fail(reason)
            pytest.skip(reason)
        page.wait_for_function("n => window.harness?.cleanups.length === n", arg=len(views.split(",")))
        page.add_style_tag(content=STYLE + (BESIDE if views == VIEWS else ""))
        picture_of(page)
        if name == "picked":
            page.evaluate(PICK)
        elif name == "past":
            page.evaluate(GO_BACK)
        elif name == "disconnected":
            expect(page.get_by_test_id("traffic-preview")).to_contain_text("requests")
            page.evaluate("harness.lose()")
            expect(page.get_by_test_id("state")).to_have_text("disconnected")
        return page

    yield open_sheet
    for page in pages:
        page.close()


def picture_of(page: Page) -> bytes:
    """All of the page, which is made as high as what is on it."""
    height = int(page.evaluate("document.getElementById('views').scrollHeight + 24"))
    width = int(page.evaluate("window.innerWidth"))
    if page.viewport_size != {"width": width, "height": height}:
        page.set_viewport_size({"width": width, "height": height})
    return page.screenshot()


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("name", SHEETS)
def test_every_view_looks_as_approved(sheet: Sheet, screenshots: Path, name: str, theme: str) -> None:
    page = sheet(name, theme)
    approved = APPROVED / f"{name}-{theme}.png"
    if os.environ.get("WORKBENCH_APPROVE"):
        for _ in range(3):
            picture_of(page)
            page.wait_for_timeout(1000)
        approve(page, picture_of(page), approved)
    # Views draw at their own pace: what counts is what they come to.
    for _ in range(TRIES):
        picture = picture_of(page)
        found = differences(page, picture, approved)
        if not found:
            return
        page.wait_for_timeout(250)
    screenshots.mkdir(parents=True, exist_ok=True)
    path = screenshots / f"differs-{approved.name}"
    path.write_bytes(picture)
    pytest.fail("\n".join([f"{path} is not {approved}; if it should look so: make approve", *found]))


CHANGES = {
    "memory": ".iw .iw-ledger td { padding-top: 6px !important; }",
    "controls": ".iw { --iw-primary: #7a2bd0 !important; }",
    "latency": ".iw-figures { display: none !important; }",
    "blocks": ".iw-panel-blocks .iw-legend { visibility: hidden; }",
}


def test_a_change_of_layout_or_colour_is_noticed_in_the_view_that_it_is_in(sheet: Sheet) -> None:
    page = sheet("paused", "light")
    approved = APPROVED / "paused-light.png"
    for view, change in CHANGES.items():
        style = page.add_style_tag(content=change)
        page.wait_for_function(
            "() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(true))))"
        )
        found = differences(page, picture_of(page), approved)
        assert any(line.startswith(f"{view}:") for line in found), (view, found)
        style.evaluate("style => style.remove()")
    page.add_style_tag(content=".iw { filter: brightness(0.85); }")
    assert len(differences(page, picture_of(page), approved)) == NUM_VIEWS


def test_the_approved_pictures_are_small_and_none_is_left_over() -> None:
    pictures = sorted(APPROVED.glob("*"))
    assert [path.name for path in pictures] == sorted(f"{name}-{theme}.png" for name in SHEETS for theme in THEMES)
    assert max(path.stat().st_size for path in pictures) < 200_000
