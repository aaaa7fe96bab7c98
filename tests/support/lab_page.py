"""One JupyterLab page with one open notebook, driven through Lab's own commands."""

from __future__ import annotations

import ast
import re
import shutil
import uuid
from pathlib import Path
from typing import Any, Literal

import nbformat
from lab_server import LabServer
from playwright.sync_api import ElementHandle, FloatRect, Page

SECOND = 1000  # Playwright counts in milliseconds

# Opens the notebook and keeps its widget: Lab's tracker forgets it when another panel is in front.
OPEN = """
async path => {
    const app = window.jupyterapp;
    await app.restored;
    const panel = await app.commands.execute('docmanager:open', {path, factory: 'Notebook'});
    await panel.context.ready;
    await panel.sessionContext.ready;
    const kernel = panel.sessionContext.session.kernel;
    await kernel.info;
    window.labTest = {panel, cells: {}};
}
"""

# Starts one cell and notes when it is done; the caller need not wait.
START = """
async index => {
    const {panel, cells} = window.labTest;
    panel.content.activeCellIndex = index;
    panel.content.deselectAll();
    await panel.content.scrollToItem(index);
    const state = {done: false};
    cells[index] = state;
    window.jupyterapp.commands.execute('notebook:run-cell').finally(() => { state.done = true; });
}
"""

OUTPUTS = "index => window.labTest.panel.content.widgets[index].model.outputs.toJSON()"

TEXT = """
index => window.labTest.panel.content.widgets[index].model.outputs.toJSON()
    .map(output => output.output_type === 'stream' ? [output.text].flat().join('')
        : output.output_type === 'error' ? output.ename + ': ' + output.evalue
        : [output.data['text/plain'] ?? ''].flat().join(''))
    .join('')
"""

# Evaluates a Python expression in the notebook's kernel, beside the notebook's cells.
ASK = """
async expression => {
    const kernel = window.labTest.panel.sessionContext.session.kernel;
    const future = kernel.requestExecute(
        {code: '', user_expressions: {answer: expression}, store_history: false, silent: true});
    const answer = (await future.done).content.user_expressions.answer;
    if (answer.status !== 'ok') throw new Error(answer.ename + ': ' + answer.evalue);
    return answer.data['text/plain'];
}
"""

ANSI = re.compile(r"\x1b\[[0-9;]*m")


class CellError(AssertionError):
    """A cell raised; the message is its traceback."""


class LabPage:
    """A notebook open in JupyterLab. Times are in seconds."""

    def __init__(self, page: Page, server: LabServer, screenshots: Path) -> None:
        self.page = page
        self.server = server
        self.console_errors: list[str] = []
        self._screenshots = screenshots
        page.on("pageerror", lambda error: self.console_errors.append(str(error)))

    # -- opening and closing ------------------------------------------------------------------------------------

    def open_notebook(self, path: Path, timeout: float = 60) -> None:
        """Open a copy of the notebook at path, with a kernel of its own; the file at path is not written to."""
        copy = self.server.root / path.name
        shutil.copyfile(path, copy)
        workspace = f"test-{uuid.uuid4().hex[:8]}"
        self.page.goto(f"{self.server.url}/lab/workspaces/{workspace}?token={self.server.token}")
        self.page.wait_for_function("() => window.jupyterapp !== undefined", timeout=timeout * SECOND)
        self.evaluate(OPEN, path.name)
        # The file browser takes a third of the width, and nothing here is about it.
        self.evaluate("() => window.jupyterapp.shell.collapseLeft()")

    def open_cells(self, *sources: str, timeout: float = 60) -> None:
        """Open a new notebook of these code cells."""
        self.open_notebook(self._write(sources), timeout)

    def _write(self, sources: tuple[str, ...]) -> Path:
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])
        notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
        path = self.server.root.parent / f"cells-{uuid.uuid4().hex[:8]}.ipynb"
        nbformat.write(notebook, path)
        return path

    def open_beside(self, *sources: str) -> None:
        """Open another new notebook on the same page; from now on it is the one that cells are run in."""
        path = self._write(sources)
        shutil.copyfile(path, self.server.root / path.name)
        self.evaluate(OPEN, path.name)

    def visit(self, path: str) -> None:
        """Open a notebook that the server has already, in a workspace of its own."""
        workspace = f"test-{uuid.uuid4().hex[:8]}"
        self.page.goto(f"{self.server.url}/lab/workspaces/{workspace}?token={self.server.token}")
        self.page.wait_for_function("() => window.jupyterapp !== undefined")
        self.evaluate(OPEN, path)

    def take_up(self) -> None:
        """After a reload: go on with the first notebook that the page has restored."""
        self.page.wait_for_function("() => window.jupyterapp !== undefined")
        script = """async () => {
            const app = window.jupyterapp;
            await app.restored;
            return [...app.shell.widgets('main')].find(w => w.context?.path.endsWith('.ipynb')).context.path;
        }"""
        self.evaluate(OPEN, self.evaluate(script))

    def close(self) -> None:
        """End the kernel and close the page."""
        self.evaluate("() => window.jupyterapp.serviceManager.sessions.shutdownAll()")
        self.page.context.close()

    # -- cells --------------------------------------------------------------------------------------------------

    @property
    def cell_count(self) -> int:
        return int(self.evaluate("() => window.labTest.panel.content.widgets.length"))

    def is_code(self, index: int) -> bool:
        return bool(self.evaluate("i => window.labTest.panel.content.widgets[i].model.type === 'code'", index))

    def cell_containing(self, text: str) -> int:
        """The index of the one code cell whose source contains this text."""
        sources = self.evaluate("() => window.labTest.panel.content.widgets.map(w => w.model.sharedModel.getSource())")
        found = [index for index, source in enumerate(sources) if text in source and self.is_code(index)]
        assert len(found) == 1, f"{len(found)} cells contain {text!r}"
        return found[0]

    def start_cell(self, index: int) -> None:
        """Run a cell and do not wait for it."""
        self.evaluate(START, index)

    def run_cell(self, index: int, timeout: float = 120) -> str:
        """Run a cell to its end; returns its text output and raises CellError if it failed."""
        self.start_cell(index)
        return self.wait_cell(index, timeout)

    def wait_cell(self, index: int, timeout: float = 120) -> str:
        """Wait for the end of a cell that was started."""
        self.page.wait_for_function("i => window.labTest.cells[i].done", arg=index, timeout=timeout * SECOND)
        for output in self.outputs(index):
            if output["output_type"] == "error":
                raise CellError(f"cell {index}:\n" + ANSI.sub("", "\n".join(output["traceback"])))
        return self.text(index)

    def run_all(self, timeout: float = 300) -> None:
        """Run every code cell in order, each to its end."""
        for index in range(self.cell_count):
            if self.is_code(index):
                self.run_cell(index, timeout)

    def is_running(self, index: int) -> bool:
        """Whether a cell that was started has not ended."""
        return not self.evaluate("i => window.labTest.cells[i].done", index)

    def outputs(self, index: int) -> list[dict[str, Any]]:
        return list(self.evaluate(OUTPUTS, index))

    def text(self, index: int) -> str:
        """A cell's text output so far."""
        return str(self.evaluate(TEXT, index))

    def wait_text(self, index: int, text: str, timeout: float = 60) -> None:
        """Wait until a cell's text output contains this."""
        self.page.wait_for_function(
            f"([index, text]) => ({TEXT})(index).includes(text)", arg=[index, text], timeout=timeout * SECOND
        )

    def ask(self, expression: str) -> Any:
        """The value of a Python expression in the kernel, which must not be running a cell; plain values only."""
        return ast.literal_eval(self.evaluate(ASK, expression))

    def wait_idle(self, timeout: float = 60) -> None:
        """Wait until the kernel runs nothing."""
        self.page.wait_for_function(
            "() => window.labTest.panel.sessionContext.session.kernel.status === 'idle'", timeout=timeout * SECOND
        )

    def cell_element(self, index: int) -> ElementHandle:
        """The DOM element of a cell, scrolled into view."""
        self.evaluate("i => window.labTest.panel.content.scrollToItem(i)", index)
        handle = self.page.evaluate_handle("i => window.labTest.panel.content.widgets[i].node", index).as_element()
        assert handle is not None
        return handle

    # -- the page -----------------------------------------------------------------------------------------------

    def evaluate(self, script: str, argument: Any = None) -> Any:
        """Evaluate JavaScript in the page; a promise is waited for."""
        return self.page.evaluate(script, argument)

    def set_theme(self, theme: Literal["light", "dark"]) -> None:
        """Switch JupyterLab's theme and wait until the page shows it."""
        name = {"light": "JupyterLab Light", "dark": "JupyterLab Dark"}[theme]
        self.evaluate("theme => window.jupyterapp.commands.execute('apputils:change-theme', {theme})", name)
        self.page.wait_for_function(
            "light => document.body.dataset.jpThemeLight === light", arg=str(theme == "light").lower()
        )

    def screenshot(self, name: str, element: ElementHandle | None = None, clip: FloatRect | None = None) -> Path:
        """A picture of the page, of one element or of a part, as name.png in the folder for pictures."""
        self._screenshots.mkdir(parents=True, exist_ok=True)
        path = self._screenshots / f"{name}.png"
        if element is None:
            self.page.screenshot(path=path, clip=clip)
        else:
            element.screenshot(path=path)
        return path
