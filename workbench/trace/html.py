"""One self-contained HTML page that replays a trace in any browser: the views' own code and the trace as data."""

import base64
import gzip
from importlib.resources import files
from typing import Any

from workbench.core.errors import WorkbenchError
from workbench.trace.wire import dumps

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>body {{ margin: 0; padding: 12px; }}</style>
</head>
<body>
<div id="workbench"></div>
<script type="application/gzip" id="trace">{trace}</script>
<script type="module">
const load = async (text) => {{
  const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  return new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
}};
const code = await new Response(await load("{code}")).text();
const views = await import(URL.createObjectURL(new Blob([code], {{ type: "text/javascript" }})));
const trace = await new Response(await load(document.getElementById("trace").textContent)).json();
views.renderTrace(document.getElementById("workbench"), trace, "{view}");
</script>
</body>
</html>
"""


def render_html(engine: dict[str, Any], payload: dict[str, Any], why: dict[str, Any], view: str, title: str) -> str:
    """The page. engine and payload are what a view's stream begins with, why what the command of that name answers
    for each request (extension/PROTOCOL.md)."""
    bundle = files("workbench").joinpath("widgets", "static", "workbench.js")
    if not bundle.is_file():
        raise WorkbenchError("the views have not been built here, so the page would have no code; run `make lab` once")
    trace = dumps({"engine": engine, "payload": payload, "why": why})
    safe = title.replace("&", "&amp;").replace("<", "&lt;")
    return _PAGE.format(title=safe, trace=_packed(trace), code=_packed(bundle.read_bytes()), view=view)


def _packed(data: bytes) -> str:
    return base64.b64encode(gzip.compress(data, mtime=0)).decode("ascii")
