"""The commands of the Makefile, as a user types them."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from lab_server import free_port

ROOT = Path(__file__).resolve().parents[1]

# Elsewhere (another virtual environment) make would first install one of its own.
in_the_project_s_environment = pytest.mark.skipif(
    Path(sys.prefix) != ROOT / ".venv", reason="these commands use .venv, and the tests run in another environment"
)


def make(*arguments: str) -> subprocess.Popen[str]:
    """Start make in a session of its own, without the settings of the make that may be running the tests."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    return subprocess.Popen(
        ["make", "--no-print-directory", *arguments],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def status_of(url: str, timeout: float = 20) -> int:
    """The HTTP status of an address. Jupyter prints its address a moment before it listens there."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    end = time.monotonic() + timeout
    while True:
        try:
            with opener.open(url, timeout=timeout) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code
        except urllib.error.URLError:
            if time.monotonic() > end:
                raise
            time.sleep(0.1)


@in_the_project_s_environment
@pytest.mark.slow
def test_make_lab_prints_an_address_that_opens_the_first_tutorial(monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    process = make("lab", f"ARGS=--no-browser --port {port}")
    assert process.stdout is not None
    timer = threading.Timer(120, os.killpg, (process.pid, signal.SIGKILL))
    timer.start()
    printed = ""
    try:
        for line in process.stdout:
            printed += line
            found = re.search(rf"http://127\.0\.0\.1:{port}(/\S*)\?token=(\w+)", line)
            if found:
                break
        else:
            pytest.fail(f"make lab printed no address:\n{printed}")
        assert found[1] == "/lab/tree/notebooks/01_first_tokens.ipynb"
        path = "api/contents/notebooks/01_first_tokens.ipynb?content=0"
        assert status_of(f"http://127.0.0.1:{port}/{path}&token={found[2]}") == 200
        # The loopback interface only: this machine's other addresses refuse.
        with socket.socket() as probe:
            probe.bind(("127.0.0.2", port))
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.communicate(timeout=30)
        timer.cancel()


def test_make_without_a_target_says_what_there_is() -> None:
    process = make()
    printed, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    assert "make lab" in printed
    assert "make test" in printed


def test_an_old_python_gets_a_clear_message(tmp_path: Path) -> None:
    # The rule for the environment's own file, in an empty folder, with an interpreter that fails the version check.
    old = tmp_path / "python3"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    target = tmp_path / "venv"
    process = make(f"PYTHON={old}", f"VENV={target}", str(target / "pyvenv.cfg"))
    printed, _ = process.communicate(timeout=30)
    assert process.returncode != 0
    assert "needs Python 3.11 or newer" in printed
    assert not target.exists()
