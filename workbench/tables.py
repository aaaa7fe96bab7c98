"""Small tables for reprs: the same rows as plain text and as HTML."""

import html
from collections.abc import Sequence

from workbench.core.units import time_text


def text_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns padded to their widest cell; the first one is left-aligned, as the last one is, the others right."""
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    last = len(header) - 1

    def line(row: Sequence[str]) -> str:
        cells = [c.ljust(w) if i in (0, last) else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))]
        return "  ".join(cells).rstrip()

    return "\n".join([line(header), *map(line, rows)])


def html_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The same for a notebook; every cell is escaped."""
    last = len(header) - 1

    def cells(row: Sequence[str], tag: str) -> str:
        return "".join(
            f"<{tag} style='text-align:{'left' if i in (0, last) else 'right'}'>{html.escape(cell)}</{tag}>"
            for i, cell in enumerate(row)
        )

    body = "".join(f"<tr>{cells(row, 'td')}</tr>" for row in rows)
    return f"<table><tr>{cells(header, 'th')}</tr>{body}</table>"


def time_cell(seconds: float | None) -> str:
    """ "12.3 ms", or a dash for what did not happen."""
    return "–" if seconds is None or seconds != seconds else time_text(seconds)
