"""Pictures of the views held to approved ones in the repository, so that a change of looks is a choice.

Approved pictures are kept at a quarter of the size. Compared are averages over squares of 8 x 8 pixels: how one
machine smooths a letter does not matter, a moved line, another colour or a missing word does.
"""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

from playwright.sync_api import Page

# Every machine that has Chromium for the tests can have these; other fonts break lines at other places.
FONTS = ('"DejaVu Sans"', '"DejaVu Sans Mono"')

HAS_FONTS = """fonts => fonts.every(font => {
  const pen = document.createElement('canvas').getContext('2d');
  const widths = ['serif', 'monospace', 'cursive'].map(other => {
    pen.font = `40px ${font}, ${other}`;
    return pen.measureText('Wii and 0123').width;
  });
  return new Set(widths).size === 1;
})"""

READ = """
  const read = async url => {
    const image = new Image();
    image.src = url;
    await image.decode();
    const canvas = document.createElement('canvas');
    [canvas.width, canvas.height] = [image.width, image.height];
    const pen = canvas.getContext('2d');
    pen.drawImage(image, 0, 0);
    return pen.getImageData(0, 0, image.width, image.height);
  };
  const shrink = (data, by) => {
    const found = new ImageData(Math.floor(data.width / by), Math.floor(data.height / by));
    for (let y = 0; y < found.height; y++) for (let x = 0; x < found.width; x++) for (let c = 0; c < 4; c++) {
      let sum = 0;
      for (let j = 0; j < by; j++) for (let i = 0; i < by; i++)
        sum += data.data[4 * ((y * by + j) * data.width + x * by + i) + c];
      found.data[4 * (y * found.width + x) + c] = Math.round(sum / by / by);
    }
    return found;
  };
"""

SHRINK = f"""async url => {{ {READ}
  const small = shrink(await read(url), 4);
  const canvas = document.createElement('canvas');
  [canvas.width, canvas.height] = [small.width, small.height];
  canvas.getContext('2d').putImageData(small, 0, 0);
  return canvas.toDataURL('image/png');
}}"""

# A square differs if one of its colours does by more than this, of 255.
COLOUR_TOLERANCE = 26
# So many of a view's squares, of a thousand, may.
SQUARES_TOLERANCE = 4

COMPARE = f"""async ([seen, approved, boxes]) => {{ {READ}
  const a = shrink(shrink(await read(seen), 4), 2), b = shrink(await read(approved), 2);
  const differs = (x, y) => {{
    if (x >= a.width || y >= a.height || x >= b.width || y >= b.height) return true;
    return [0, 1, 2].some(c => Math.abs(
      a.data[4 * (y * a.width + x) + c] - b.data[4 * (y * b.width + x) + c]) > {COLOUR_TOLERANCE});
  }};
  const found = [];
  for (const [view, left, top, width, height] of boxes) {{
    let bad = 0, all = 0, first = null;
    for (let y = Math.floor(top / 8); y < (top + height) / 8; y++)
      for (let x = Math.floor(left / 8); x < (left + width) / 8; x++) {{
        all++;
        if (!differs(x, y)) continue;
        bad++;
        first ??= [x * 8 - left, y * 8 - top].map(Math.round);
      }}
    if (bad > all * {SQUARES_TOLERANCE} / 1000) found.push(
      `${{view}}: ${{bad}} of ${{all}} squares differ, the first at ${{first}}`);
  }}
  if (a.width !== b.width || a.height !== b.height)
    found.push(`the sheet is ${{a.width * 8}} x ${{a.height * 8}}, approved ${{b.width * 8}} x ${{b.height * 8}}`);
  return found;
}}"""

BOXES = """() => [...document.querySelectorAll('.iw')].map(e => {
  const { x, y, width, height } = e.getBoundingClientRect();
  return [e.dataset.view, x, y, width, height];
})"""


def differences(page: Page, picture: bytes, approved: Path, boxes: list[Any] | None = None) -> list[str]:
    """What differs between a picture of this page and the approved one, view by view; empty if nothing does.

    boxes: [name, left, top, width, height] of what is compared, if it is not the views where they are on the page.
    """
    parts = page.evaluate(BOXES) if boxes is None else boxes
    return list(page.evaluate(COMPARE, [url_of(picture), url_of(approved.read_bytes()), parts]))


def approve(page: Page, picture: bytes, approved: Path) -> None:
    """Make this picture the approved one."""
    approved.parent.mkdir(parents=True, exist_ok=True)
    approved.write_bytes(base64.b64decode(page.evaluate(SHRINK, url_of(picture)).split(",")[1]))


def url_of(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode()
