"""A widget's message reaches Python while a cell is running, in a real JupyterLab."""

from __future__ import annotations

from lab_page import LabPage

BUTTON = '''
import threading, anywidget
from workbench.widgets.subshell import mend_comm

class Button(anywidget.AnyWidget):
    _esm = """
    export default {
      render({ model, el }) {
        const button = document.createElement("button");
        button.className = "probe";
        button.onclick = () => model.send({ kind: "click" });
        model.on("msg:custom", message => { button.dataset.thread = message.thread; });
        el.append(button);
      }
    }
    """

clicked = threading.Event()

def on_message(widget, content, buffers):
    widget.send({"thread": threading.current_thread().name})
    clicked.set()

button = Button()
mend_comm(button.comm)
button.on_msg(on_message)
button
'''

BLOCK = """
print("waiting")
print("clicked" if clicked.wait(20) else "nobody clicked")
"""


def test_a_click_arrives_while_a_cell_is_running(lab: LabPage) -> None:
    lab.open_cells(BUTTON, BLOCK)
    lab.run_cell(0)
    lab.page.wait_for_selector("button.probe")
    lab.start_cell(1)
    lab.wait_text(1, "waiting")
    assert lab.is_running(1)
    lab.page.click("button.probe")
    assert lab.wait_cell(1) == "waiting\nclicked\n"
    assert (lab.page.get_attribute("button.probe", "data-thread") or "").startswith("subshell-")
    assert not lab.console_errors
