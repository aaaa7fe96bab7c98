"""Fixtures of the browser tests: one JupyterLab and one Chromium for all of them, a new page and kernel for each."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from lab_page import LabPage
from lab_server import LabServer
from playwright.sync_api import Browser, expect, sync_playwright

# A busy machine is no failure; nothing here waits this long when all is well.
PATIENCE = 60_000  # milliseconds
expect.set_options(timeout=PATIENCE)

CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

CHROMIUM_FLAGS = [
    "--no-sandbox",  # there is none for root, as in a container; the pages are our own
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in this folder drives a browser."""
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="session")
def chromium() -> str:
    """The browser's path: the variable CHROMIUM, or the first of the usual names on PATH."""
    found = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, CHROMIUM_NAMES)), None)
    if found is None:
        reason = "no Chromium found: install it (Debian: apt install chromium) or name one in CHROMIUM"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return found


@pytest.fixture(scope="session")
def lab_server(chromium: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabServer]:
    """A running JupyterLab; only where there is a browser to look at it."""
    with LabServer(tmp_path_factory.mktemp("lab")) as server:
        yield server


@pytest.fixture(scope="session")
def browser(chromium: str) -> Iterator[Browser]:
    """A headless Chromium."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=CHROMIUM_FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def screenshots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where pictures go: the variable WORKBENCH_SCREENSHOTS, or a temporary folder."""
    wanted = os.environ.get("WORKBENCH_SCREENSHOTS")
    return Path(wanted).resolve() if wanted else tmp_path_factory.mktemp("screenshots")


FAILED = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Remember whether a test failed, so that its fixture can take a picture before the page is gone."""
    report = yield
    if report.failed:
        item.stash[FAILED] = True
    return report


def new_page(browser: Browser, lab_server: LabServer, screenshots: Path) -> LabPage:
    context = browser.new_context(viewport={"width": 1600, "height": 1000}, device_scale_factor=1)
    context.set_default_timeout(PATIENCE)
    return LabPage(context.new_page(), lab_server, screenshots)


def tell_of_failure(page: LabPage, request: pytest.FixtureRequest) -> None:
    """After a failed test, print what can be known of its page."""
    if request.node.stash.get(FAILED, False):
        print("picture:", page.screenshot("failed-" + re.sub(r"\W+", "-", request.node.name)))
        print("errors in the page:", page.console_errors)
        print("the server's last lines:", *page.server.log().splitlines()[-20:], sep="\n")


@pytest.fixture
def lab(
    browser: Browser, lab_server: LabServer, screenshots: Path, request: pytest.FixtureRequest
) -> Iterator[LabPage]:
    """A fresh page; the test opens a notebook in it."""
    page = new_page(browser, lab_server, screenshots)
    yield page
    tell_of_failure(page, request)
    page.close()


@pytest.fixture(scope="module")
def opened(
    browser: Browser, lab_server: LabServer, screenshots: Path, request: pytest.FixtureRequest
) -> Iterator[LabPage]:
    """One page and kernel for all tests of a file, with a notebook of the file's CELLS."""
    page = new_page(browser, lab_server, screenshots)
    page.open_cells(*request.module.CELLS)
    yield page
    page.close()


@pytest.fixture
def shared_lab(opened: LabPage, request: pytest.FixtureRequest) -> Iterator[LabPage]:
    """That page, in the light theme and with nothing in it that another test has shown."""
    opened.evaluate("() => window.jupyterapp.commands.execute('notebook:clear-all-cell-outputs').then(() => null)")
    opened.set_theme("light")
    yield opened
    tell_of_failure(opened, request)
