"""Lets a widget's messages reach Python while a cell is running.

JupyterLab asks the kernel to handle comm messages on a subshell, a thread of their own, so that a button works
during a long cell. ipykernel 7.4.0 overrules it: a message goes to the shell that last *sent* on that comm. A widget
made in a cell has sent from the main shell, and so has one that an engine thread pushes to, because the thread
carries that cell's context. From then on every click waits for the cell.
"""

from __future__ import annotations

from typing import Any


def mend_comm(comm: Any) -> bool:
    """Route this comm's incoming messages where the front end asked; says whether the kernel needed it.

    Call it as soon as the comm exists. With a kernel that has no such routing nothing happens.
    """
    if not hasattr(comm, "_reply_subshell_for"):
        return False

    def as_asked(data: object, default: str | None) -> str | None:
        """ipykernel's signature: the message's data, and the subshell named in its header."""
        return default

    comm._reply_subshell_for = as_asked
    return True
